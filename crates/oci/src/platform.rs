//! The machine and system that an image is for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system and processor, as in `linux/arm64/v8`.
/// [OCI image-spec, image-index.md](https://github.com/opencontainers/image-spec/blob/main/image-index.md)
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The processor, in Go's names: `amd64`, `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// The system, in Go's names: `linux`.
    #[serde(default)]
    pub os: String,
    /// The version of the system; used by Windows images.
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// What the system must offer; used by Windows images.
    #[serde(
        rename = "os.features",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub os_features: Option<Vec<String>>,
    /// The variant of the processor: `v7`, `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// It is not of the form.
    #[error("invalid platform `{0}`: expected `os/architecture[/variant]`")]
    Malformed(String),
    /// A single word is the name of neither; docker's text.
    #[error("{0:?}: unknown operating system or architecture: invalid argument")]
    Unknown(String),
}

/// The systems that docker takes without a processor.
const SYSTEMS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];
/// The processors that docker takes without a system.
const ARCHITECTURES: [&str; 24] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "mipsle",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

impl Platform {
    /// Returns the platform that this program runs on.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Self::linux(architecture, variant)
    }

    fn linux(architecture: &str, variant: Option<&str>) -> Self {
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            os_version: None,
            os_features: None,
            variant: variant.map(str::to_owned),
        }
    }

    /// Tells whether an image for `self` runs on a machine that is `wanted`: equal system and
    /// processor; a missing variant on either side matches every variant of arm64.
    pub fn serves(&self, wanted: &Self) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && match (self.variant.as_deref(), wanted.variant.as_deref()) {
                (have, want) if have == want => true,
                (None, Some("v8")) | (Some("v8"), None) => self.architecture == "arm64",
                (_, None) | (None, _) => true,
                (Some(have), Some(want)) => have < want,
            }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let valid = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() > 3 || !parts.iter().all(|part| valid(part)) {
            return Err(PlatformError::Malformed(text.to_owned()));
        }
        let parts: Vec<String> = parts.iter().map(|part| part.to_ascii_lowercase()).collect();
        match parts.as_slice() {
            [os] if SYSTEMS.contains(&os.as_str()) => Ok(Self {
                os: os.clone(),
                ..Self::host()
            }),
            [architecture] => {
                let platform = normalized("linux", architecture, None);
                match ARCHITECTURES.contains(&platform.architecture.as_str()) {
                    true => Ok(platform),
                    false => Err(PlatformError::Unknown(text.to_owned())),
                }
            }
            [os, architecture] => Ok(normalized(os, architecture, None)),
            [os, architecture, variant] => Ok(normalized(os, architecture, Some(variant))),
            _ => Err(PlatformError::Malformed(text.to_owned())),
        }
    }
}

fn normalized(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
    let (architecture, variant) = match (architecture, variant) {
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64", None) => ("arm64", Some("v8")),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", None) => ("arm", Some("v7")),
        ("armel", None) => ("arm", Some("v6")),
        ("i386", variant) => ("386", variant),
        other => other,
    };
    Platform {
        os: os.to_owned(),
        ..Platform::linux(architecture, variant)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platform_text_is_normalized() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64/v8"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("Linux/AMD64", "linux/amd64"),
        ] {
            assert_eq!(
                text.parse::<Platform>().map(|p| p.to_string()),
                Ok(expected.to_owned())
            );
        }
        for text in ["", "/", "linux/", "a/b/c/d", "linux/../x", "bogus"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_image_without_variant_serves_arm64_v8() {
        let image: Platform = "linux/arm64".parse().expect("valid");
        assert!(image.serves(&"linux/arm64/v8".parse().expect("valid")));
        assert!(!image.serves(&"linux/amd64".parse().expect("valid")));
        let v7: Platform = "linux/arm/v7".parse().expect("valid");
        assert!(!v7.serves(&"linux/arm/v6".parse().expect("valid")));
    }
}
