//! Layers: directories under `layers`, one for each DiffId.

use std::path::PathBuf;

use oci::{Descriptor, DiffId};

use crate::{Scratch, Store, StoreError, Timestamp};

/// What is known of a layer that was written to a scratch directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLayer {
    /// The digest of its tar.
    pub diff_id: DiffId,
    /// The length of its tar.
    pub tar_size: u64,
    /// The sum of the sizes of its files: docker's SIZE.
    pub content_size: u64,
    /// The number of its entries.
    pub entries: u64,
}

/// A layer in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRecord {
    /// The digest of its tar.
    pub diff_id: DiffId,
    /// The length of its tar.
    pub tar_size: u64,
    /// The sum of the sizes of its files: docker's SIZE.
    pub content_size: u64,
    /// The number of its entries.
    pub entries: u64,
    /// When it was stored.
    pub created: Timestamp,
}

impl Store {
    /// Returns the directory that a layer has when it is in the store.
    pub fn layer_dir(&self, diff_id: &DiffId) -> PathBuf {
        self.root().join("layers").join(diff_id.digest().hex())
    }

    /// Tells whether a layer is in the store, complete and valid.
    pub fn has_layer(&self, diff_id: &DiffId) -> Result<bool, StoreError> {
        Ok(self.layer(diff_id)?.is_some())
    }

    /// Returns the record of a layer that is in the store.
    pub fn layer(&self, diff_id: &DiffId) -> Result<Option<LayerRecord>, StoreError> {
        let _ = diff_id;
        unimplemented!()
    }

    /// Makes the contents of `scratch` the directory of a layer. When the layer is there already
    /// the scratch is dropped.
    pub fn commit_layer(&self, scratch: Scratch, layer: &NewLayer) -> Result<(), StoreError> {
        drop((scratch, layer));
        unimplemented!()
    }

    /// Records that the blob `descriptor` is the layer compressed.
    pub fn record_compressed(
        &self,
        diff_id: &DiffId,
        descriptor: &Descriptor,
    ) -> Result<(), StoreError> {
        let _ = (diff_id, descriptor);
        unimplemented!()
    }

    /// Returns the blobs in the store that are the layer compressed.
    pub fn compressed(&self, diff_id: &DiffId) -> Result<Vec<Descriptor>, StoreError> {
        let _ = diff_id;
        unimplemented!()
    }

    /// Returns the layer that a compressed blob unpacks to, when that was recorded and the layer
    /// is in the store.
    pub fn layer_of_blob(&self, digest: &oci::Digest) -> Result<Option<DiffId>, StoreError> {
        let _ = digest;
        unimplemented!()
    }
}
