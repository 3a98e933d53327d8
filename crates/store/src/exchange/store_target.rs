//! The store as a target.

use std::error::Error;
use std::io::Read;
use std::path::Path;

use oci::{Descriptor, DiffId, Digest, MediaType};

use super::{BlobOutcome, ExchangeError, OpenBlob, Progress, Target};
use crate::{NewLayer, Store};

/// Reads a layer's blob, perhaps compressed, and writes the layer's directory.
pub type Unpack<'a> = dyn Fn(&mut (dyn Read + Send), &Path) -> Result<NewLayer, Box<dyn Error + Send + Sync>>
    + Sync
    + 'a;

/// Whether the manifest that comes with an image is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestPolicy {
    /// It came from a registry or an OCI layout: it is kept, and pushed again as it is.
    Keep,
    /// It was made up on the way: only the image is recorded.
    Discard,
}

/// The store as a target. A layer is one stream: its bytes go to the blob's file, through SHA-256
/// and to `unpack` at the same time. Uncompressed layers have no second copy as a blob.
pub struct StoreTarget<'a> {
    store: &'a Store,
    unpack: &'a Unpack<'a>,
    manifests: ManifestPolicy,
}

impl std::fmt::Debug for StoreTarget<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreTarget")
            .field("store", &self.store)
            .field("manifests", &self.manifests)
            .finish_non_exhaustive()
    }
}

impl<'a> StoreTarget<'a> {
    /// Makes a target that keeps manifests.
    pub fn new(store: &'a Store, unpack: &'a Unpack<'a>) -> Self {
        Self {
            store,
            unpack,
            manifests: ManifestPolicy::Keep,
        }
    }

    /// Changes what happens to manifests.
    #[must_use]
    pub fn manifests(self, manifests: ManifestPolicy) -> Self {
        Self { manifests, ..self }
    }
}

impl Target for StoreTarget<'_> {
    fn has_blob(
        &self,
        _descriptor: &Descriptor,
        _diff_id: Option<&DiffId>,
    ) -> Result<bool, ExchangeError> {
        let _ = (self.store, self.unpack, self.manifests);
        unimplemented!()
    }

    fn put_blob(
        &self,
        _descriptor: &Descriptor,
        _diff_id: Option<&DiffId>,
        _open: &OpenBlob<'_>,
        _progress: &Progress<'_>,
    ) -> Result<BlobOutcome, ExchangeError> {
        unimplemented!()
    }

    fn put_manifest(
        &self,
        _media_type: &MediaType,
        _bytes: &[u8],
    ) -> Result<Digest, ExchangeError> {
        unimplemented!()
    }
}
