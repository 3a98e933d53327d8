//! The store as a target of an index with all that it leads to.

use std::sync::{Mutex, PoisonError};

use oci::{Descriptor, DiffId, Digest, MediaType};

use super::store_target::{Incoming, put_document, require_room};
use super::{BlobOutcome, ExchangeError, OpenBlob, Progress, Target};
use crate::{Store, StoreError};

/// The store as a target of blobs as they are: layers are not unpacked, manifests become no
/// images. For the images of an index that this machine does not run.
///
/// What comes is kept for a week, and for longer when a tag gets the document that needs it:
/// [`Store::set_tag_document`] with [`BlobTarget::parts`].
#[derive(Debug)]
pub struct BlobTarget<'a> {
    store: &'a Store,
    parts: Mutex<Vec<Digest>>,
}

impl<'a> BlobTarget<'a> {
    /// Makes a target. The caller holds the root's lock shared until a tag has the document.
    pub fn new(store: &'a Store) -> Self {
        Self {
            store,
            parts: Mutex::default(),
        }
    }

    /// Returns the digests of all blobs that came or were there already.
    pub fn parts(self) -> Vec<Digest> {
        self.parts
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn has_part(&self, digest: &Digest) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.push(*digest);
    }
}

impl Target for BlobTarget<'_> {
    fn expect(&self, blobs: &[&Descriptor]) -> Result<(), ExchangeError> {
        let missing = |blob: &&Descriptor| {
            let kept = self.store.partial_size(&blob.digest);
            blob.size.saturating_sub(kept)
        };
        let needed = blobs.iter().map(missing).fold(0, u64::saturating_add);
        require_room(self.store, needed)
    }

    fn has_blob(
        &self,
        descriptor: &Descriptor,
        _diff_id: Option<&DiffId>,
    ) -> Result<bool, ExchangeError> {
        let found = self.store.has_blob(&descriptor.digest);
        let found = found.map_err(ExchangeError::permanent)?;
        if found {
            self.has_part(&descriptor.digest);
        }
        Ok(found)
    }

    fn put_blob(
        &self,
        descriptor: &Descriptor,
        _diff_id: Option<&DiffId>,
        open: &OpenBlob<'_>,
        progress: &Progress<'_>,
    ) -> Result<BlobOutcome, ExchangeError> {
        let incoming = Incoming {
            blob: descriptor,
            diff_id: None,
            open,
            progress,
        };
        let outcome = put_document(self.store, &incoming)?;
        self.keep(&descriptor.digest)?;
        Ok(outcome)
    }

    fn put_manifest(&self, media_type: &MediaType, bytes: &[u8]) -> Result<Digest, ExchangeError> {
        let put = self.store.put_blob(media_type, bytes);
        let digest = put.map_err(ExchangeError::permanent)?.digest;
        self.keep(&digest)?;
        Ok(digest)
    }
}

impl BlobTarget<'_> {
    fn keep(&self, digest: &Digest) -> Result<(), ExchangeError> {
        self.has_part(digest);
        let kept: Result<(), StoreError> = self.store.keep_for_another_try(digest);
        kept.map_err(ExchangeError::permanent)
    }
}
