//! What a container is started with, settled when it is created.

use std::path::PathBuf;

use oci::RunConfig;
use serde::{Deserialize, Serialize};
use store::{ContainerError, ContainerRecord, Store};

use super::Bind;

/// Everything that starting a container needs beside its image's layers. It is kept in the
/// container's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerOptions {
    /// The image's configuration with what the user set.
    pub config: RunConfig,
    /// The host name.
    pub hostname: String,
    /// Directories of the host.
    pub binds: Vec<Bind>,
    /// The network.
    pub network: NetworkMode,
    /// Whether the root file system may only be read.
    pub read_only: bool,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether it gets input.
    pub stdin: bool,
}

/// The network of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

impl NetworkMode {
    /// Returns the name that `--network` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Host => "host",
        }
    }
}

/// A container: its record, and its options read from there.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// The record.
    pub record: ContainerRecord,
    /// What is in it.
    pub options: ContainerOptions,
}

/// Why a container cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// It cannot be found.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// Its record is not one of this version of strata.
    #[error("malformed record of container {id}")]
    Malformed {
        /// The container.
        id: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

impl Container {
    /// Finds a container by name, id, or the start of an id.
    pub fn find(store: &Store, text: &str) -> Result<Self, FindError> {
        Self::from_record(store.container(text)?)
    }

    /// Reads the options in `record`.
    pub fn from_record(record: ContainerRecord) -> Result<Self, FindError> {
        match ContainerOptions::deserialize(&record.options) {
            Ok(options) => Ok(Self { record, options }),
            Err(source) => Err(FindError::Malformed {
                id: record.id,
                source,
            }),
        }
    }

    /// Returns the words of the first process: entrypoint and command.
    pub fn args(config: &RunConfig) -> Vec<String> {
        let entrypoint = config.entrypoint.iter().flatten();
        let command = config.cmd.iter().flatten();
        entrypoint.chain(command).cloned().collect()
    }

    /// Returns the path of its log.
    pub fn log_path(&self, store: &Store) -> PathBuf {
        store
            .container_dir(&self.record.id)
            .join(format!("{}-json.log", self.record.id))
    }

    /// Returns the first 12 digits of its id.
    pub fn short_id(&self) -> &str {
        short_id(&self.record.id)
    }
}

/// Returns the first 12 digits of an id.
pub fn short_id(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
