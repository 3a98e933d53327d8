//! What a container does now, which its record alone does not tell: whoever supervised it may
//! have died.

use store::{ContainerRecord, ContainerState, Store, Timestamp};

/// The code of a container that went down with its supervisor: SIGKILL.
const LOST: i32 = 137;

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
            ContainerState::Running { started, .. } if store.is_running(record) => {
                Self::Running { started: *started }
            }
            ContainerState::Running { .. } => Self::Exited {
                code: LOST,
                finished: None,
            },
            ContainerState::Exited { code, finished } => Self::Exited {
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
