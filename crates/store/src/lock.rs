//! The root's lock: shared while a command writes or resolves, exclusive while a sweep removes.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::error::at;
use crate::{Store, StoreError};

/// Holds the root's lock until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    /// Releases the lock itself, not only this descriptor: a child that another thread has
    /// forked and that has yet to exec holds a copy of it.
    fn drop(&mut self) {
        // Closing the file releases what this could not.
        drop(self.file.unlock());
    }
}

/// Opens a lock file, making it if needed. Lock files are never removed.
pub(crate) fn open_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(at("open", path))
}

/// Takes a lock without waiting; `false` when another holder has it.
pub(crate) fn try_exclusive(file: &File, path: &Path) -> Result<bool, StoreError> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(at("lock", path)(error)),
    }
}

impl Store {
    /// Waits for the lock, shared with other commands. While it is held no sweep runs, so what
    /// was resolved or written stays. The same process must release it before it sweeps.
    pub fn lock_shared(&self) -> Result<Lock, StoreError> {
        let path = self.root().join("lock");
        let file = open_file(&path)?;
        file.lock_shared().map_err(at("lock", &path))?;
        Ok(Lock { file })
    }

    /// Waits until no other command holds the lock. The holder must not start scratch or blobs,
    /// which take the lock shared.
    pub fn lock_exclusive(&self) -> Result<Lock, StoreError> {
        let path = self.root().join("lock");
        let file = open_file(&path)?;
        file.lock().map_err(at("lock", &path))?;
        Ok(Lock { file })
    }

    /// Takes the lock alone if no other command holds it now.
    pub fn try_lock_exclusive(&self) -> Result<Option<Lock>, StoreError> {
        let path = self.root().join("lock");
        let file = open_file(&path)?;
        Ok(try_exclusive(&file, &path)?.then_some(Lock { file }))
    }
}
