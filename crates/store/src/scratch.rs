//! Scratch directories under `ingest`.

use std::path::{Path, PathBuf};

use crate::{Store, StoreError};

/// A directory of its own for work in progress, on the file system of the store. It goes to the
/// trash when dropped; when the process dies, a later sweep does that.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Returns the directory. It exists and is empty at first.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Store {
    /// Makes a scratch directory.
    pub fn scratch(&self) -> Result<Scratch, StoreError> {
        unimplemented!()
    }
}
