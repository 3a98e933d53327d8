//! Why a mount failed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a mount could not be made, changed, attached or removed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A file or directory that takes part could not be opened.
    #[error("cannot open `{}`", path.display())]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel does not know the file system.
    #[error("this kernel has no `{filesystem}` file system")]
    UnknownFilesystem {
        /// The file system's name.
        filesystem: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused to make a file system.
    #[error("cannot mount {filesystem} ({step}){}", Log(log))]
    Create {
        /// The file system's name.
        filesystem: String,
        /// The parameter or system call that was refused.
        step: String,
        /// What the file system wrote about it, perhaps nothing.
        log: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A mount's attributes could not be changed.
    #[error("cannot change the attributes of a mount")]
    Attributes {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A mount could not be put where it was wanted.
    #[error("cannot attach a mount{}", At(at.as_deref()))]
    Attach {
        /// Where, if it was named by a path.
        at: Option<PathBuf>,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A mount could not be removed.
    #[error("cannot unmount `{}`", path.display())]
    Unmount {
        /// The mount point.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl MountError {
    /// Returns what the kernel said.
    pub fn io_error(&self) -> &io::Error {
        match self {
            Self::Open { source, .. }
            | Self::UnknownFilesystem { source, .. }
            | Self::Create { source, .. }
            | Self::Attributes { source }
            | Self::Attach { source, .. }
            | Self::Unmount { source, .. } => source,
        }
    }
}

struct Log<'a>(&'a str);

impl fmt::Display for Log<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.0)
    }
}

struct At<'a>(Option<&'a Path>);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(path) => write!(f, " at `{}`", path.display()),
            None => Ok(()),
        }
    }
}
