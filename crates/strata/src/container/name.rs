//! Names and ids of containers.

use std::fs::File;
use std::io::{self, Read as _};

use super::word;

/// Why a text cannot name a container. `Display` is docker's own text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
pub struct NameError(String);

/// Checks a name that someone chose; a leading slash is dropped, as docker does.
pub fn parse(text: &str) -> Result<String, NameError> {
    let name = text.strip_prefix('/').unwrap_or(text);
    if !is_name(name) {
        return Err(NameError(text.to_owned()));
    }
    Ok(name.to_owned())
}

/// Tells whether `text` is docker's `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(crate) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.len() > 1
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// Random bytes that an id and a name are made of.
#[derive(Debug)]
pub struct Random([u8; 32]);

impl Random {
    /// Reads random bytes from the kernel.
    pub fn read() -> io::Result<Self> {
        let mut bytes = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Returns 64 hex digits, never a number all through: docker's tools read ids as host names.
    pub fn id(&self) -> String {
        let mut id = oci::Digest::from_bytes(self.0).hex();
        if id[..12].bytes().all(|b| b.is_ascii_digit()) {
            id.replace_range(..1, "a");
        }
        id
    }

    /// Returns a name of two words: `adjective_surname`.
    pub fn name(&self) -> String {
        let pick = |words: &'static [&'static str], at: usize| {
            let number = usize::from(self.0[at]) << 8 | usize::from(self.0[at + 1]);
            words[number % words.len()]
        };
        format!(
            "{}_{}",
            pick(word::ADJECTIVES, 12),
            pick(word::SURNAMES, 14)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_docker_does() {
        for name in ["web", "a.b-c_d", "0a"] {
            assert_eq!(parse(name).as_deref(), Ok(name));
        }
        assert_eq!(parse("/web").as_deref(), Ok("web"));
        for name in ["", "a", "BAD/NAME", "-a", "a b", "é1"] {
            assert_eq!(parse(name), Err(NameError(name.to_owned())));
        }
        assert_eq!(
            parse("BAD/NAME").expect_err("invalid").to_string(),
            "Invalid container name (BAD/NAME), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        );
    }

    #[test]
    fn an_id_is_64_hex_digits_and_its_short_form_no_number() {
        let id = Random([0x11; 32]).id();
        assert_eq!(id.len(), 64);
        assert!(id.starts_with("a111"), "{id}");
        let name = Random([7; 32]).name();
        assert_eq!(parse(&name), Ok(name));
    }
}
