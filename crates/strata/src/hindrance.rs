//! What cannot be done with a store where it is.

use std::fmt;
use std::path::PathBuf;

use store::{Store, StoreError};

/// Why a store should be elsewhere. `Display` says what follows from it and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance {
    /// Containers cannot write on this file system.
    NoUpper {
        /// The store.
        root: PathBuf,
        /// The file system's name.
        file_system: &'static str,
    },
    /// The store is in memory.
    Memory {
        /// The store.
        root: PathBuf,
        /// The file system's name.
        file_system: &'static str,
        /// How many bytes it can hold.
        capacity: u64,
    },
}

impl Hindrance {
    /// Looks where the store is.
    pub fn of(store: &Store) -> Result<Option<Self>, StoreError> {
        let kind = store.file_system()?;
        let root = store.root().to_owned();
        let file_system = kind.name();
        Ok(if !kind.can_be_upper() {
            Some(Self::NoUpper { root, file_system })
        } else if kind.is_memory() {
            let capacity = store.capacity()?;
            Some(Self::Memory {
                root,
                file_system,
                capacity,
            })
        } else {
            None
        })
    }
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUpper { root, file_system } => write!(
                f,
                "the store `{}` is on {file_system}, which cannot hold what containers write: `run` and the RUN of a build will fail",
                root.display()
            ),
            Self::Memory {
                root,
                file_system,
                capacity,
            } => write!(
                f,
                "the store `{}` is in memory ({file_system}, {} MB in all): it takes that memory, and is gone when the machine restarts",
                root.display(),
                capacity / 1_000_000
            ),
        }?;
        f.write_str("; STRATA_ROOT can name a directory on a local disk (ext4, xfs, btrfs)")
    }
}
