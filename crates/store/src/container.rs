//! Records of containers. A record keeps the image and its layers from being swept.

use std::fs;
use std::path::PathBuf;

use oci::{DiffId, ImageId};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use crate::store::make_directory;
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
        /// When it was last started.
        started: Timestamp,
        /// When it ended.
        finished: Timestamp,
    },
}

/// What is left of a container when its record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remains {
    /// Files, which take space.
    Files,
    /// Directories that hold no files: their deletion can wait until there are more of them.
    Directories,
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
    /// The id is not 64 hex digits.
    #[error("invalid container id `{0}`: expected 64 hex digits")]
    InvalidId(String),
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
        let id = &container.id;
        if id.len() != 64 || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ContainerError::InvalidId(id.clone()));
        }
        self.check_writable()?;
        // Before the record: a sweep that runs now may take an empty directory, no more. After
        // the record it may not.
        let _lock = self.lock_shared()?;
        make_directory(&self.container_dir(id))?;
        self.write(|tx| {
            let taken = id_of_name(tx, &container.name)?;
            if let Some(id) = taken {
                let name = container.name.clone();
                return Err(ContainerError::NameInUse { name, id });
            }
            let (image, created) = (container.image.digest(), container.created.0);
            tx.execute(
                "INSERT INTO containers (id, name, image, created, record)
                    VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    id,
                    container.name,
                    image.as_bytes(),
                    created,
                    encode(container)
                ],
            )
            .map_err(StoreError::from)?;
            tx.execute(
                "UPDATE images SET last_used = ?2 WHERE id = ?1",
                params![image.as_bytes(), created],
            )
            .map_err(StoreError::from)?;
            Ok(())
        })
    }

    /// Changes the state of a container, given by its whole id.
    pub fn set_container_state(
        &self,
        id: &str,
        state: &ContainerState,
    ) -> Result<(), ContainerError> {
        self.write(|tx| {
            let found = read_one(tx, "id", id)?;
            let mut container = found.ok_or_else(|| ContainerError::NotFound(id.to_owned()))?;
            container.state = state.clone();
            tx.execute(
                "UPDATE containers SET record = ?2 WHERE id = ?1",
                params![id, encode(&container)],
            )
            .map_err(StoreError::from)?;
            Ok(())
        })
    }

    /// Finds a container by id, name, or a unique start of its id.
    pub fn container(&self, text: &str) -> Result<ContainerRecord, ContainerError> {
        let name = text.strip_prefix('/').unwrap_or(text);
        let found = self.read(|connection| {
            if let Some(container) = read_one(connection, "id", text)? {
                return Ok(vec![container]);
            }
            if let Some(container) = read_one(connection, "name", name)? {
                return Ok(vec![container]);
            }
            read_prefix(connection, text)
        })?;
        match <[ContainerRecord; 1]>::try_from(found) {
            Ok([container]) => Ok(container),
            Err(found) if found.is_empty() => Err(ContainerError::NotFound(text.to_owned())),
            Err(found) => Err(ContainerError::Ambiguous {
                prefix: text.to_owned(),
                count: found.len(),
            }),
        }
    }

    /// Returns all containers, newest first.
    pub fn containers(&self) -> Result<Vec<ContainerRecord>, StoreError> {
        self.read(all)
    }

    /// Removes the record of a container, given by its whole id, and moves its directory to the
    /// trash. Nothing may be mounted in it, and only what `remains` says may be in it.
    pub fn remove_container(&self, id: &str, remains: Remains) -> Result<(), ContainerError> {
        let removed = self.freeing(|| {
            self.write(|tx| {
                let removed = tx.execute("DELETE FROM containers WHERE id = ?1", [id]);
                removed.map_err(StoreError::from)
            })
        })?;
        if removed == 0 {
            return Err(ContainerError::NotFound(id.to_owned()));
        }
        // Only ids that were checked are recorded, so this is a directory of ours.
        let directory = self.container_dir(id);
        Ok(match remains {
            Remains::Files => self.discard(&directory),
            Remains::Directories => self.discard_bare(&directory),
        }?)
    }

    /// Returns the directory of a container.
    pub fn container_dir(&self, id: &str) -> PathBuf {
        self.root().join("containers").join(id)
    }

    /// Tells whether a container with exactly this id is recorded now.
    pub(crate) fn container_exists(&self, id: &str) -> Result<bool, StoreError> {
        self.read(|connection| {
            let query = "SELECT EXISTS (SELECT 1 FROM containers WHERE id = ?1)";
            Ok(connection.query_row(query, [id], |row| row.get(0))?)
        })
    }

    /// Tells whether the process of a running container is still there.
    pub fn is_running(&self, container: &ContainerRecord) -> bool {
        match &container.state {
            ContainerState::Running {
                pid,
                boot_id,
                start_ticks,
                ..
            } => boot_id == self.boot_id() && start_ticks_of(*pid) == Some(*start_ticks),
            ContainerState::Created | ContainerState::Exited { .. } => false,
        }
    }
}

/// Removes those records of containers that are as in `records` still; returns their ids. Their
/// directories are left to a sweep.
pub(crate) fn remove_unchanged(
    tx: &Connection,
    records: &[ContainerRecord],
) -> Result<Vec<String>, StoreError> {
    let mut removed = Vec::new();
    for record in records {
        if read_one(tx, "id", &record.id)?.as_ref() == Some(record) {
            tx.execute("DELETE FROM containers WHERE id = ?1", [&record.id])?;
            removed.push(record.id.clone());
        }
    }
    Ok(removed)
}

/// Reads field 22 of `/proc/<pid>/stat`; `None` when the process is gone or a zombie.
fn start_ticks_of(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the program's name in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Returns all containers, newest first.
pub(crate) fn all(connection: &Connection) -> Result<Vec<ContainerRecord>, StoreError> {
    let mut query =
        connection.prepare_cached("SELECT record FROM containers ORDER BY created DESC, id")?;
    let mut rows = query.query([])?;
    let mut containers = Vec::new();
    while let Some(row) = rows.next()? {
        containers.push(decode(&row.get::<_, String>(0)?)?);
    }
    Ok(containers)
}

fn id_of_name(connection: &Connection, name: &str) -> Result<Option<String>, StoreError> {
    let mut query = connection.prepare_cached("SELECT id FROM containers WHERE name = ?1")?;
    Ok(query.query_row([name], |row| row.get(0)).optional()?)
}

fn read_one(
    connection: &Connection,
    column: &'static str,
    value: &str,
) -> Result<Option<ContainerRecord>, StoreError> {
    let query = format!("SELECT record FROM containers WHERE {column} = ?1");
    let mut query = connection.prepare_cached(&query)?;
    let record: Option<String> = query.query_row([value], |row| row.get(0)).optional()?;
    record.map(|record| decode(&record)).transpose()
}

fn read_prefix(connection: &Connection, prefix: &str) -> Result<Vec<ContainerRecord>, StoreError> {
    if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Vec::new());
    }
    let query = "SELECT record FROM containers WHERE id BETWEEN ?1 AND ?1 || 'g'";
    let mut query = connection.prepare_cached(query)?;
    let mut rows = query.query([prefix])?;
    let mut containers = Vec::new();
    while let Some(row) = rows.next()? {
        containers.push(decode(&row.get::<_, String>(0)?)?);
    }
    Ok(containers)
}

fn encode(container: &ContainerRecord) -> String {
    serde_json::to_string(container).expect("invariant: a container record has string keys")
}

pub(crate) fn decode(record: &str) -> Result<ContainerRecord, StoreError> {
    serde_json::from_str(record).map_err(|source| StoreError::MalformedRecord {
        table: "containers",
        source,
    })
}
