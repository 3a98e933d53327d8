//! Content digests and the identifiers made of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A content digest: `sha256:` and 64 lower-case hex digits.
///
/// Only SHA-256 is accepted: it is the one algorithm that every registry and engine uses, and
/// a digest that cannot be verified is no digest. The text form is safe as a file name part.
/// [OCI image-spec, descriptor.md#digests](https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:` part.
    #[error("invalid digest `{0}`: expected `sha256:` and 64 hex digits")]
    Malformed(String),
    /// The algorithm is not SHA-256.
    #[error("unsupported digest algorithm in `{0}`: only sha256 is supported")]
    UnsupportedAlgorithm(String),
}

impl Digest {
    /// Returns the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Returns the digest whose raw value is `bytes`.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the raw value.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the 64 hex digits, without the algorithm: the name of a blob's file.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
        let mut hex = String::with_capacity(64);
        for byte in self.0 {
            hex.push(digit(byte >> 4));
            hex.push(digit(byte & 0xf));
        }
        hex
    }

    /// Returns the first 12 hex digits: the form that people read.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }

    /// Parses 64 lower-case hex digits without an algorithm.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let hex = hex.as_bytes();
        if hex.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(bytes))
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(DigestError::Malformed(text.to_owned()));
        };
        if algorithm == "sha256" {
            return Self::from_hex(hex).ok_or_else(|| DigestError::Malformed(text.to_owned()));
        }
        if algorithm == "sha512" {
            return Err(DigestError::UnsupportedAlgorithm(text.to_owned()));
        }
        Err(DigestError::Malformed(text.to_owned()))
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl $name {
            /// Returns the digest that this identifier is.
            pub const fn digest(&self) -> &Digest {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                text.parse().map(Self)
            }
        }
    };
}

id_type! {
    /// The digest of a layer's uncompressed tar. It changes when any byte of that tar changes,
    /// and does not depend on compression.
    /// [OCI image-spec, config.md#layer-diffid](https://github.com/opencontainers/image-spec/blob/main/config.md#layer-diffid)
    DiffId
}

id_type! {
    /// The identity of a stack of layers: it changes when any layer of the stack does.
    /// [OCI image-spec, config.md#layer-chainid](https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid)
    ChainId
}

id_type! {
    /// The digest of an image's configuration, which docker shows as the image id. It changes
    /// with the configuration or with any layer, not with tags or compression.
    /// [OCI image-spec, config.md#imageid](https://github.com/opencontainers/image-spec/blob/main/config.md#imageid)
    ImageId
}

impl ChainId {
    /// Returns the chain of `layers`, bottom first, or `None` for an empty stack.
    pub fn of(layers: &[DiffId]) -> Option<Self> {
        Self::all(layers).pop()
    }

    /// Returns the chain up to and including each of `layers`, bottom first.
    pub fn all(layers: &[DiffId]) -> Vec<Self> {
        let mut chains: Vec<Self> = Vec::with_capacity(layers.len());
        for layer in layers {
            chains.push(match chains.last() {
                None => Self(layer.0),
                Some(parent) => Self(Digest::of(format!("{parent} {layer}").as_bytes())),
            });
        }
        chains
    }
}

/// Computes a [`Digest`] of bytes that arrive in pieces.
#[derive(Clone, Default, Debug)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Returns a hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of all bytes added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_text_round_trips() {
        let digest = Digest::of(b"");
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
    }

    #[test]
    fn digest_refuses_what_is_not_sha256_in_lower_case() {
        for text in [
            "",
            "sha256:",
            "sha256:abc",
            "sha256:E3B0C44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "sha256:../../../../../../../../../../../../../../../../../../../../../etc",
        ] {
            assert_eq!(
                text.parse::<Digest>(),
                Err(DigestError::Malformed(text.to_owned()))
            );
        }
        assert!(matches!(
            format!("sha512:{}", "a".repeat(128)).parse::<Digest>(),
            Err(DigestError::UnsupportedAlgorithm(_))
        ));
    }

    #[test]
    fn chain_of_one_layer_is_its_diff_id() {
        let layer = DiffId(Digest::of(b"layer"));
        assert_eq!(ChainId::of(&[layer]), Some(ChainId(layer.0)));
        assert_eq!(ChainId::of(&[]), None);
    }

    #[test]
    fn chain_of_two_layers_is_the_digest_of_both_names() {
        let [a, b] = [DiffId(Digest::of(b"a")), DiffId(Digest::of(b"b"))];
        let expected = Digest::of(format!("{a} {b}").as_bytes());
        assert_eq!(ChainId::of(&[a, b]), Some(ChainId(expected)));
        assert_ne!(ChainId::of(&[a, b]), ChainId::of(&[b, a]));
    }
}
