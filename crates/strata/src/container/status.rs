//! What a container does now, which its record alone does not tell: whoever supervised it may
//! have died.

use std::fs::{File, TryLockError};
use std::io;

use store::{ContainerRecord, ContainerState, Store, Timestamp};

/// The code of a container that went down with its supervisor: SIGKILL.
const LOST: i32 = 137;

/// Held by whoever supervises a container: its end will be recorded. Dropped, it is released, also
/// by death.
#[derive(Debug)]
#[must_use = "the container counts as lost when this is dropped"]
pub struct Supervisor(#[expect(dead_code, reason = "held for its lock")] File);

const LOCK_FILE: &str = "supervisor";

impl Supervisor {
    /// Announces the supervision of the container `id`.
    pub fn announce(store: &Store, id: &str) -> io::Result<Self> {
        let file = File::create(store.container_dir(id).join(LOCK_FILE))?;
        file.lock()?;
        Ok(Self(file))
    }

    /// Tells whether someone supervises the container `id`.
    fn is_there(store: &Store, id: &str) -> bool {
        let path = store.container_dir(id).join(LOCK_FILE);
        File::open(path)
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

/// What a container does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It was never started.
    Created,
    /// It runs.
    Running {
        /// Since when.
        started: Timestamp,
    },
    /// It ended.
    Exited {
        /// With which code.
        code: i32,
        /// When; `None` when nobody saw it.
        finished: Option<Timestamp>,
    },
}

impl Status {
    /// Returns what the container of `record` does now.
    pub fn of(store: &Store, record: &ContainerRecord) -> Self {
        match &record.state {
            ContainerState::Created => Self::Created,
            // Between the end and its record the supervisor is still at work.
            ContainerState::Running { started, .. }
                if store.is_running(record) || Supervisor::is_there(store, &record.id) =>
            {
                Self::Running { started: *started }
            }
            ContainerState::Running { .. } => Self::Exited {
                code: LOST,
                finished: None,
            },
            ContainerState::Exited { code, finished, .. } => Self::Exited {
                code: *code,
                finished: Some(*finished),
            },
        }
    }

    /// Returns docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running { .. } => "running",
            Self::Exited { .. } => "exited",
        }
    }

    /// Returns the code it ended with, 0 when it has not.
    pub fn code(self) -> i32 {
        match self {
            Self::Created | Self::Running { .. } => 0,
            Self::Exited { code, .. } => code,
        }
    }
}
