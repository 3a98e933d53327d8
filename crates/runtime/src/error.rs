//! Why a container did not start.

use crate::user::UserError;

/// Why a container did not start. `Display` is docker's words where docker has some.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The user or group is not known in the container.
    #[error(transparent)]
    User(#[from] UserError),
    /// The working directory is relative.
    #[error("the working directory '{0}' is invalid, it needs to be an absolute path")]
    RelativeCwd(String),
}

impl StartError {
    /// Returns docker's exit code for `run`: 127 for a missing program, 126 for one that cannot
    /// be executed, else 125.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::User(_) | Self::RelativeCwd(_) => 125,
        }
    }
}
