//! Scratch directories under `ingest`.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{at, is_disk_full};
use crate::sweep::{BARE, delete};
use crate::{Store, StoreError, Timestamp};

/// A directory of its own for work in progress, on the file system of the store. It goes to the
/// trash when dropped; when the process dies, a later sweep does that.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    trash: PathBuf,
    /// Locked as long as the process lives: a sweep leaves locked scratch alone.
    _lock: File,
}

impl Scratch {
    /// Returns the directory. It exists and is empty at first.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A failure leaves the directory to the next sweep.
        if fs::remove_dir(&self.path).is_err() {
            drop(fs::rename(&self.path, self.trash.join(unique_name())));
        }
    }
}

impl Store {
    /// Makes a scratch directory.
    pub fn scratch(&self) -> Result<Scratch, StoreError> {
        self.check_writable()?;
        // No sweep may see the directory before it is locked.
        let _lock = self.lock_shared()?;
        loop {
            let path = self.ingest_dir().join(format!("{}.scratch", unique_name()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(at("create", &path)(error)),
            }
            let lock = File::open(&path).map_err(at("open", &path))?;
            lock.lock().map_err(at("lock", &path))?;
            return Ok(Scratch {
                path,
                trash: self.trash_dir(),
                _lock: lock,
            });
        }
    }

    /// Moves a file or directory to the trash. What is not there is no error.
    pub(crate) fn discard(&self, path: &Path) -> Result<(), StoreError> {
        self.discard_as(path, &unique_name())
    }

    /// Moves a tree that holds no files any more to the trash, where it can wait.
    pub(crate) fn discard_bare(&self, path: &Path) -> Result<(), StoreError> {
        self.discard_as(path, &format!("{BARE}{}", unique_name()))
    }

    fn discard_as(&self, path: &Path, name: &str) -> Result<(), StoreError> {
        match fs::rename(path, self.trash_dir().join(name)) {
            // The trash cannot grow on a full disk.
            Err(error) if is_disk_full(&error) => delete(path).map_err(at("remove", path)),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(at("remove", path)(error)),
            _ => Ok(()),
        }
    }
}

/// Returns a name that no other process of this machine uses. Processes in other pid namespaces
/// differ by time; a creator still must not take over what exists.
pub(crate) fn unique_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{}-{}-{count}", std::process::id(), Timestamp::now().0)
}
