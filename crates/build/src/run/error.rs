//! Why a `RUN` failed.

use std::io;

use layer::{DiffError, RootfsError};
use runtime::{StartError, WaitError};

/// Why a `RUN` failed. `Display` is docker's words.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The program ended with a code that is not 0.
    #[error("process {command} did not complete successfully: exit code: {code}")]
    ExitCode {
        /// The words of the command, quoted as one.
        command: String,
        /// The code, or 128 and the number of the signal.
        code: u8,
    },
    /// The user may not make namespaces and mounts.
    #[error("RUN needs root: rootless builds of it are not supported yet")]
    NotRoot,
    /// The program was not started.
    #[error("process {command} did not complete successfully: {source}")]
    Start {
        /// The words of the command, quoted as one.
        command: String,
        /// Why.
        #[source]
        source: Box<StartError>,
    },
    /// A secret that the step must have was not given.
    #[error("secret {0}: not found")]
    NoSecret(String),
    /// A secret that is to be a variable cannot be one.
    #[error("secret {0} cannot be a variable: it is not text")]
    SecretIsNoText(String),
    /// An agent that the step must have was not given.
    #[error("unset ssh forward key {0}")]
    NoAgent(String),
    /// The container cannot be waited for.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// The root file system cannot be mounted.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// What the container changed cannot be read.
    #[error(transparent)]
    Capture(#[from] DiffError),
    /// Files or pipes for the container cannot be made.
    #[error("failed to prepare the container of the step: {0}")]
    Prepare(#[source] io::Error),
    /// The output cannot be read.
    #[error("failed to read the output of the step: {0}")]
    Output(#[source] io::Error),
}
