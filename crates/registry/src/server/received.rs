//! An image whose blobs were pushed, as the source of the copy that makes it an image of the
//! store.

use std::error::Error;
use std::io::{Read, Seek, SeekFrom};

use oci::{Descriptor, ImageId, MAX_MANIFEST_SIZE, Platform};
use store::{
    CopyError, CopyOptions, ExchangeError, Resolved, Source, Store, StoreError, StoreTarget, copy,
};

use super::failure::Failure;
use super::site::Site;

/// A manifest and the blobs that the store got before it.
struct Received<'a> {
    store: &'a Store,
    manifest: &'a Resolved,
}

impl Source for Received<'_> {
    fn resolve(&self) -> Result<Resolved, ExchangeError> {
        Ok(self.manifest.clone())
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ExchangeError> {
        self.store
            .read_blob(&descriptor.digest, MAX_MANIFEST_SIZE)
            .map_err(ExchangeError::permanent)
    }

    fn open_blob(
        &self,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>, ExchangeError> {
        let mut file = self
            .store
            .open_blob(&descriptor.digest)
            .map_err(ExchangeError::permanent)?
            .ok_or_else(|| ExchangeError::permanent(StoreError::BlobNotFound(descriptor.digest)))?;
        file.seek(SeekFrom::Start(offset))
            .map_err(ExchangeError::permanent)?;
        Ok(Box::new(file))
    }
}

/// Unpacks the layers of an image and records it.
pub(crate) fn import(site: &Site, manifest: &Resolved) -> Result<ImageId, Failure> {
    let unpack = site.options.unpack.as_ref();
    let source = Received {
        store: site.store(),
        manifest,
    };
    let options = CopyOptions {
        platform: Platform::host(),
        parallel: std::thread::available_parallelism().map_or(1, usize::from),
        events: &|_| {},
    };
    let target = StoreTarget::new(site.store(), unpack);
    let copied = copy(&source, &target, &options).map_err(blame)?;
    Ok(copied.image)
}

/// Sorts out whether what was pushed is wrong, or something here.
fn blame(error: CopyError) -> Failure {
    let ours = match &error {
        CopyError::Source(failed) | CopyError::Target(failed) => {
            let inner: &(dyn Error + 'static) = failed.inner();
            match inner.downcast_ref::<StoreError>() {
                Some(
                    StoreError::DigestMismatch { .. }
                    | StoreError::SizeMismatch { .. }
                    | StoreError::DiffIdMismatch { .. }
                    | StoreError::Config(_)
                    | StoreError::Manifest(_)
                    | StoreError::ManifestConfigMismatch { .. },
                )
                | None => false,
                Some(_) => true,
            }
        }
        _ => false,
    };
    if ours {
        Failure::internal(error)
    } else {
        Failure::manifest_invalid(&error)
    }
}
