//! An image of the store as a source.

use std::io::{Read, Seek as _, SeekFrom};

use oci::{Descriptor, ImageId, MAX_MANIFEST_SIZE, MediaType, Reference};

use super::opener::OpenSource;
use super::{ExchangeError, Resolved, Source};
use crate::{Store, StoreError};

/// An image of the store as a source.
pub struct StoreSource<'a> {
    store: &'a Store,
    manifest: Resolved,
    /// Opens blobs that the store has not kept.
    fetch: Option<&'a OpenSource<'a>>,
}

impl std::fmt::Debug for StoreSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreSource")
            .field("manifest", &self.manifest)
            .finish_non_exhaustive()
    }
}

impl<'a> StoreSource<'a> {
    /// Prepares an image for copying, with layers as they are: uncompressed where the manifest's
    /// compressed blobs are not kept. The caller holds the root's lock shared until the copy is
    /// done.
    pub fn new(store: &'a Store, image: ImageId) -> Result<Self, StoreError> {
        let (media_type, bytes) = store.manifest_of(&image)?;
        Ok(Self::with_manifest(store, &media_type, bytes))
    }

    /// Prepares the document of a tag, with all that it leads to. `None` when the tag has none.
    pub fn of_tag(store: &'a Store, name: &Reference) -> Result<Option<Self>, StoreError> {
        let Some(digest) = store.tag_document(name)? else {
            return Ok(None);
        };
        let found = store.blob(&digest)?;
        let media_type = found.ok_or(StoreError::BlobNotFound(digest))?.media_type;
        let bytes = store.read_blob(&digest, MAX_MANIFEST_SIZE)?;
        Ok(Some(Self::with_manifest(store, &media_type, bytes)))
    }

    /// Takes a manifest whose blobs the store has.
    pub(super) fn with_manifest(store: &'a Store, media_type: &MediaType, bytes: Vec<u8>) -> Self {
        let manifest = Resolved {
            descriptor: Descriptor::of(&media_type.0, &bytes),
            bytes,
        };
        Self {
            store,
            manifest,
            fetch: None,
        }
    }

    /// Opens blobs that the store has not kept by `fetch`.
    pub(super) fn or_fetch(self, fetch: Option<&'a OpenSource<'a>>) -> Self {
        Self { fetch, ..self }
    }
}

impl Source for StoreSource<'_> {
    fn resolve(&self) -> Result<Resolved, ExchangeError> {
        Ok(self.manifest.clone())
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ExchangeError> {
        if descriptor.digest == self.manifest.descriptor.digest {
            return Ok(self.manifest.bytes.clone());
        }
        let bytes = self.store.read_blob(&descriptor.digest, MAX_MANIFEST_SIZE);
        bytes.map_err(ExchangeError::permanent)
    }

    fn open_blob(
        &self,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>, ExchangeError> {
        match (open_blob(self.store, descriptor, offset), self.fetch) {
            (Err(error), Some(fetch)) if is_missing(&error) => fetch(descriptor, offset),
            (opened, _) => opened,
        }
    }
}

fn is_missing(error: &ExchangeError) -> bool {
    matches!(
        error.inner().downcast_ref(),
        Some(StoreError::BlobNotFound(_))
    )
}

/// Opens a blob of the store, or the tar of a layer.
pub(super) fn open_blob(
    store: &Store,
    descriptor: &Descriptor,
    offset: u64,
) -> Result<Box<dyn Read + Send>, ExchangeError> {
    let file = store.open_blob(&descriptor.digest);
    let mut file = file
        .map_err(ExchangeError::permanent)?
        .ok_or_else(|| ExchangeError::permanent(StoreError::BlobNotFound(descriptor.digest)))?;
    file.seek(SeekFrom::Start(offset))
        .map_err(ExchangeError::permanent)?;
    Ok(Box::new(file))
}
