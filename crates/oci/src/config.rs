//! The configuration of an image: what to run, on which layers, and how it came about.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{ChainId, DiffId, Platform};

/// The longest configuration that is read, in bytes.
pub const MAX_CONFIG_SIZE: u64 = 8 << 20;

/// An image configuration. Fields that docker writes beyond the OCI specification are kept
/// (health check, on-build triggers, shell); `null` reads as empty everywhere, as in Go.
///
/// A configuration that was received is stored as its bytes and never written from this type;
/// this type is for reading, and for images that strata makes itself.
/// [OCI image-spec, config.md](https://github.com/opencontainers/image-spec/blob/main/config.md)
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// The processor, in Go's names.
    #[serde(default, deserialize_with = "null_default")]
    pub architecture: String,
    /// The system, in Go's names.
    #[serde(default, deserialize_with = "null_default")]
    pub os: String,
    /// The variant of the processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The version of the system.
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// What the system must offer.
    #[serde(
        rename = "os.features",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub os_features: Option<Vec<String>>,
    /// When the image was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "null_default"
    )]
    pub author: String,
    /// A message given to `import` or `commit` (docker).
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "null_default"
    )]
    pub comment: String,
    /// The version of docker that made it (docker).
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "null_default"
    )]
    pub docker_version: String,
    /// What to run.
    #[serde(default, deserialize_with = "null_default")]
    pub config: RunConfig,
    /// The layers.
    pub rootfs: RootFs,
    /// How each layer came about, bottom first.
    #[serde(default, deserialize_with = "history")]
    pub history: Vec<History>,
}

/// What to run in a container of the image, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// `user[:group]`, by name or number; empty is root.
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "null_default"
    )]
    pub user: String,
    /// Ports that the program listens on, as `80/tcp`.
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "null_default"
    )]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// Environment, as `NAME=value`.
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "null_default"
    )]
    pub env: Vec<String>,
    /// The program; `Some(vec![])` differs from `None` only in text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The arguments, or the program when there is no entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Paths that are volumes.
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "null_default"
    )]
    pub volumes: BTreeMap<String, Empty>,
    /// The directory to start in; empty is `/`.
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "null_default"
    )]
    pub working_dir: String,
    /// Labels.
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "null_default"
    )]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the program to stop.
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "null_default"
    )]
    pub stop_signal: String,
    /// The command is one shell line that is already escaped (Windows; docker).
    #[serde(
        default,
        skip_serializing_if = "is_false",
        deserialize_with = "null_default"
    )]
    pub args_escaped: bool,
    /// How to tell whether the program is well (docker).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions that run first in a build on top of this image (docker).
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "null_default"
    )]
    pub on_build: Vec<String>,
    /// The shell of shell-form instructions (docker).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Seconds between the stop signal and SIGKILL (docker).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// The host name (docker, older images).
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "null_default"
    )]
    pub hostname: String,
    /// The domain name (docker, older images).
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "null_default"
    )]
    pub domainname: String,
}

/// The value `{}` of a set that is written as a map.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// How docker tells whether a container is well. Durations are nanoseconds; 0 is inherited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", line]`; empty is inherited.
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "null_default"
    )]
    pub test: Vec<String>,
    /// Time between two checks.
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "null_default"
    )]
    pub interval: i64,
    /// Time after which a check has failed.
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "null_default"
    )]
    pub timeout: i64,
    /// Time in which failures do not count.
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "null_default"
    )]
    pub start_period: i64,
    /// Time between two checks in the start period.
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "null_default"
    )]
    pub start_interval: i64,
    /// Failures in a row that make the container unhealthy.
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "null_default"
    )]
    pub retries: i64,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The layers, bottom first.
    #[serde(default, deserialize_with = "null_default")]
    pub diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self {
            kind: "layers".to_owned(),
            diff_ids: Vec::new(),
        }
    }
}

/// How one layer, or one change of the configuration, came about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction or command.
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "null_default"
    )]
    pub created_by: String,
    /// Who.
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "null_default"
    )]
    pub author: String,
    /// A message.
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "null_default"
    )]
    pub comment: String,
    /// There is no layer for this entry.
    #[serde(
        default,
        skip_serializing_if = "is_false",
        deserialize_with = "null_default"
    )]
    pub empty_layer: bool,
}

/// Why a document is not an image configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON of the expected shape.
    #[error("malformed image configuration")]
    Malformed(#[source] serde_json::Error),
    /// `rootfs.type` is not `layers`.
    #[error("unsupported rootfs type `{0}` in image configuration: expected `layers`")]
    UnsupportedRootFs(String),
    /// The number of layers differs from that of the manifest.
    #[error("image configuration names {config} layers, its manifest {manifest}")]
    LayerCountMismatch {
        /// Layers in the configuration.
        config: usize,
        /// Layers in the manifest.
        manifest: usize,
    },
    /// The document is longer than [`MAX_CONFIG_SIZE`].
    #[error("image configuration of {0} bytes exceeds the limit of {MAX_CONFIG_SIZE}")]
    TooLarge(u64),
}

impl ImageConfig {
    /// Returns the configuration of an empty image for `platform`.
    pub fn scratch(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            os_version: platform.os_version.clone(),
            os_features: platform.os_features.clone(),
            ..Self::default()
        }
    }

    /// Parses the bytes of a configuration.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let size = u64::try_from(bytes.len()).expect("a length fits in 64 bits");
        if size > MAX_CONFIG_SIZE {
            return Err(ConfigError::TooLarge(size));
        }
        let config: Self = serde_json::from_slice(bytes).map_err(ConfigError::Malformed)?;
        if config.rootfs.kind != "layers" {
            return Err(ConfigError::UnsupportedRootFs(config.rootfs.kind));
        }
        Ok(config)
    }

    /// Returns the bytes of this configuration; equal configurations give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a configuration has only string keys")
    }

    /// Returns the platform that the image is for.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            variant: self.variant.clone(),
        }
    }

    /// Returns the identity of the image's content, or `None` when it has no layer.
    pub fn chain_id(&self) -> Option<ChainId> {
        ChainId::of(&self.rootfs.diff_ids)
    }
}

fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// More instructions than any image has. An entry takes three bytes of text and a hundred of memory.
const MAX_HISTORY: usize = 100_000;

fn history<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<History>, D::Error> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<History>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_HISTORY} entries of history")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = seq.next_element()? {
                if entries.len() == MAX_HISTORY {
                    return Err(A::Error::invalid_length(MAX_HISTORY + 1, &self));
                }
                entries.push(entry);
            }
            Ok(entries)
        }
    }

    deserializer.deserialize_any(Entries)
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

fn is_empty<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_reads_as_empty_everywhere() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":null,
            "Volumes":null,"Labels":null,"OnBuild":null},"rootfs":{"type":"layers","diff_ids":null},
            "history":null}"#;
        let config = ImageConfig::parse(text.as_bytes()).expect("valid");
        assert_eq!(config.config, RunConfig::default());
        assert!(config.rootfs.diff_ids.is_empty());
    }

    #[test]
    fn dockers_own_fields_survive() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"OnBuild":["RUN x"],
            "Shell":["/bin/bash","-c"],"StopTimeout":3,"ArgsEscaped":true,"Hostname":"h",
            "Healthcheck":{"Test":["NONE"],"Interval":5000000000}},
            "rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config = ImageConfig::parse(text.as_bytes()).expect("valid");
        let again = ImageConfig::parse(&config.to_bytes()).expect("valid");
        assert_eq!(again, config);
        assert_eq!(config.config.on_build, ["RUN x"]);
        assert_eq!(config.config.stop_timeout, Some(3));
        assert_eq!(
            config.config.healthcheck.expect("present").interval,
            5_000_000_000
        );
    }

    #[test]
    fn huge_and_deep_documents_end_in_an_error() {
        let history = |entries: usize| {
            let entries = vec!["{}"; entries].join(",");
            format!(r#"{{"rootfs":{{"type":"layers"}},"history":[{entries}]}}"#)
        };
        ImageConfig::parse(history(MAX_HISTORY).as_bytes()).expect("as many as allowed");
        let error = ImageConfig::parse(history(MAX_HISTORY + 1).as_bytes()).expect_err("more");
        assert!(matches!(error, ConfigError::Malformed(_)));
        let spaces = vec![b' '; 9 << 20];
        assert!(matches!(
            ImageConfig::parse(&spaces),
            Err(ConfigError::TooLarge(_))
        ));
        let deep = format!(
            r#"{{"rootfs":{{"type":"layers"}},"x":{}{}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        // What means nothing is passed over without recursion.
        ImageConfig::parse(deep.as_bytes()).expect("read to its end");
    }

    #[test]
    fn a_rootfs_that_is_not_layers_is_refused() {
        let text = r#"{"rootfs":{"type":"base","diff_ids":[]}}"#;
        assert!(matches!(
            ImageConfig::parse(text.as_bytes()),
            Err(ConfigError::UnsupportedRootFs(_))
        ));
    }
}
