//! Records of containers. A record keeps the image and its layers from being swept.

use std::path::PathBuf;

use oci::{DiffId, ImageId};
use serde::{Deserialize, Serialize};

use crate::{Store, StoreError, Timestamp};

/// A container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// 64 hex digits.
    pub id: String,
    /// Its unique name, without `/`.
    pub name: String,
    /// The image it was made from.
    pub image: ImageId,
    /// What the user wrote for the image.
    pub image_name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// When it was made.
    pub created: Timestamp,
    /// What it does now.
    pub state: ContainerState,
    /// Whether it is removed when it ends.
    pub auto_remove: bool,
    /// What `start` needs; the store does not look inside.
    pub options: serde_json::Value,
    /// The image's layers, bottom first.
    pub layers: Vec<DiffId>,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum ContainerState {
    /// Never started.
    Created,
    /// Started, and not known to have ended. [`Store::is_running`] tells whether it still runs.
    Running {
        /// Its first process, in the host's pid namespace.
        pid: i32,
        /// When it was started.
        started: Timestamp,
        /// In which boot.
        boot_id: String,
        /// Field 22 of `/proc/<pid>/stat`: tells the process from a later one with its pid.
        start_ticks: u64,
    },
    /// Ended.
    Exited {
        /// Its exit code.
        code: i32,
        /// When it ended.
        finished: Timestamp,
    },
}

/// Why a container could not be recorded or found. `Display` is docker's text.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// Another container has the name.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameInUse {
        /// The name.
        name: String,
        /// The id of the container that has it.
        id: String,
    },
    /// There is no such container.
    #[error("No such container: {0}")]
    NotFound(String),
    /// The text starts the ids of several containers.
    #[error("container id prefix `{prefix}` is ambiguous: {count} containers begin with it")]
    Ambiguous {
        /// The text.
        prefix: String,
        /// How many containers.
        count: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Records a new container and makes its directory.
    pub fn put_container(&self, container: &ContainerRecord) -> Result<(), ContainerError> {
        let _ = container;
        unimplemented!()
    }

    /// Changes the state of a container.
    pub fn set_container_state(
        &self,
        id: &str,
        state: &ContainerState,
    ) -> Result<(), ContainerError> {
        let _ = (id, state);
        unimplemented!()
    }

    /// Finds a container by id, name, or a unique start of its id.
    pub fn container(&self, text: &str) -> Result<ContainerRecord, ContainerError> {
        let _ = text;
        unimplemented!()
    }

    /// Returns all containers, newest first.
    pub fn containers(&self) -> Result<Vec<ContainerRecord>, StoreError> {
        unimplemented!()
    }

    /// Removes the record of a container and moves its directory to the trash. Nothing may be
    /// mounted in it.
    pub fn remove_container(&self, id: &str) -> Result<(), ContainerError> {
        let _ = id;
        unimplemented!()
    }

    /// Returns the directory of a container.
    pub fn container_dir(&self, id: &str) -> PathBuf {
        self.root().join("containers").join(id)
    }

    /// Tells whether the process of a running container is still there.
    pub fn is_running(&self, container: &ContainerRecord) -> bool {
        let _ = container;
        unimplemented!()
    }
}
