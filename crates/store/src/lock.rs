//! The root's lock: shared while a command writes or resolves, exclusive while a sweep removes.

use std::fs::File;

use crate::{Store, StoreError};

/// Holds the root's lock until it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct Lock {
    _file: File,
}

impl Store {
    /// Waits for the lock, shared with other commands. While it is held no sweep runs, so what
    /// was resolved or written stays. The same process must release it before it sweeps.
    pub fn lock_shared(&self) -> Result<Lock, StoreError> {
        unimplemented!()
    }

    /// Waits until no other command holds the lock.
    pub fn lock_exclusive(&self) -> Result<Lock, StoreError> {
        unimplemented!()
    }

    /// Takes the lock alone if no other command holds it now.
    pub fn try_lock_exclusive(&self) -> Result<Option<Lock>, StoreError> {
        unimplemented!()
    }
}
