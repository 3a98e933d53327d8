//! Removing files that no record needs.

use oci::DiffId;

use crate::{Store, StoreError};

/// What a sweep removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Bytes of disk.
    pub bytes: u64,
    /// Layers; their shared mounts may still exist and can be unmounted.
    pub layers: Vec<DiffId>,
}

impl Store {
    /// Waits for the root's lock, then moves every blob, layer and scratch that no record needs
    /// to the trash. The caller must not hold a lock.
    pub fn sweep(&self) -> Result<Swept, StoreError> {
        unimplemented!()
    }

    /// Sweeps if no other command holds the root's lock now; else does nothing.
    pub fn try_sweep(&self) -> Result<Option<Swept>, StoreError> {
        unimplemented!()
    }

    /// Tells whether the trash holds something.
    pub fn has_trash(&self) -> Result<bool, StoreError> {
        unimplemented!()
    }

    /// Deletes what is in the trash. May take long: meant for a detached process.
    pub fn empty_trash(&self) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// Forgets the compressed blobs of layers that are in the store; the next sweep removes them.
    pub fn drop_compressed(&self) -> Result<(), StoreError> {
        unimplemented!()
    }
}
