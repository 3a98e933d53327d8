//! What is safely on disk, and what is discarded after a power cut.

use oci::{DiffId, Digest};

use crate::{Store, StoreError};

/// What the first opening after a boot discarded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Blobs that were not known to be on disk.
    pub blobs: Vec<Digest>,
    /// Layers that were not known to be on disk.
    pub layers: Vec<DiffId>,
    /// The names (or ids) of images that needed one of these. They are removed.
    pub images: Vec<String>,
}

impl Store {
    /// Tells whether something was written in this boot that is not known to be on disk.
    pub fn needs_sync(&self) -> Result<bool, StoreError> {
        unimplemented!()
    }

    /// Waits until everything written so far is on disk (`syncfs`, which may take seconds), then
    /// records that. Meant for a detached process, which must open the store itself.
    pub fn mark_synced(&self) -> Result<(), StoreError> {
        unimplemented!()
    }
}
