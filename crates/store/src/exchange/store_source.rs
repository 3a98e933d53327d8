//! An image of the store as a source.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{Read, Seek as _, SeekFrom, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use oci::{Descriptor, DiffId, ImageId, ManifestOrIndex, MediaType};

use super::{ExchangeError, Resolved, Source};
use crate::error::at;
use crate::{ImageRecord, Store, StoreError};

/// Compresses a layer's tar and says which media type that makes. The same tar must always give
/// the same bytes.
pub type Compress<'a> = dyn Fn(&mut dyn Read, &mut dyn Write) -> Result<MediaType, Box<dyn Error + Send + Sync>>
    + Sync
    + 'a;

/// In which form layers leave the store.
#[derive(Clone, Copy)]
pub enum LayerForm<'a> {
    /// As they are; uncompressed where no compressed blob is kept.
    AsStored,
    /// Compressed; what is not is compressed first, recorded and kept.
    Compressed(&'a Compress<'a>),
}

impl std::fmt::Debug for LayerForm<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AsStored => "AsStored",
            Self::Compressed(_) => "Compressed",
        })
    }
}

/// An image of the store as a source.
#[derive(Debug)]
pub struct StoreSource<'a> {
    store: &'a Store,
    manifest: Resolved,
}

impl<'a> StoreSource<'a> {
    /// Prepares an image for copying. With [`LayerForm::Compressed`] this compresses layers, on
    /// `parallel` threads; the manifest it makes is recorded with the image. The caller holds the
    /// root's lock shared until the copy is done.
    pub fn new(
        store: &'a Store,
        image: ImageId,
        form: LayerForm<'a>,
        parallel: usize,
    ) -> Result<Self, StoreError> {
        let (media_type, bytes) = match form {
            LayerForm::AsStored => store.manifest_of(&image)?,
            LayerForm::Compressed(compress) => {
                let record = store.image(&image)?;
                let record = record.ok_or(StoreError::ImageNotFound(image))?;
                match compressed_manifest(store, &record)? {
                    Some(manifest) => manifest,
                    None => compress_image(store, &record, compress, parallel)?,
                }
            }
        };
        let manifest = Resolved {
            descriptor: Descriptor::of(&media_type.0, &bytes),
            bytes,
        };
        Ok(Self { store, manifest })
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
        let missing = StoreError::BlobNotFound(descriptor.digest);
        Err(ExchangeError::permanent(missing))
    }

    fn open_blob(
        &self,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>, ExchangeError> {
        let file = self.store.open_blob(&descriptor.digest);
        let mut file = file
            .map_err(ExchangeError::permanent)?
            .ok_or_else(|| ExchangeError::permanent(StoreError::BlobNotFound(descriptor.digest)))?;
        file.seek(SeekFrom::Start(offset))
            .map_err(ExchangeError::permanent)?;
        Ok(Box::new(file))
    }
}

/// Returns the recorded manifest if it can be pushed as it is: a received one always, one made
/// here only when its layers are compressed.
fn compressed_manifest(
    store: &Store,
    image: &ImageRecord,
) -> Result<Option<(MediaType, Vec<u8>)>, StoreError> {
    let Some((media_type, bytes)) = store.complete_manifest(image)? else {
        return Ok(None);
    };
    if image.received {
        return Ok(Some((media_type, bytes)));
    }
    let parsed = ManifestOrIndex::parse(Some(&media_type), &bytes)?;
    let compressed = match parsed {
        ManifestOrIndex::Manifest(manifest) => manifest
            .layers
            .iter()
            .all(|layer| layer.media_type.0 != MediaType::OCI_LAYER),
        ManifestOrIndex::Index(_) => false,
    };
    Ok(compressed.then_some((media_type, bytes)))
}

/// Compresses the layers that are not yet, and makes the manifest of the result.
fn compress_image(
    store: &Store,
    image: &ImageRecord,
    compress: &Compress<'_>,
    parallel: usize,
) -> Result<(MediaType, Vec<u8>), StoreError> {
    let mut missing = BTreeSet::new();
    for layer in &image.layers {
        if store.compressed(layer)?.is_empty() {
            missing.insert(*layer);
        }
    }
    let missing: Vec<DiffId> = missing.into_iter().collect();
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..parallel.clamp(1, missing.len().max(1)) {
            scope.spawn(|| {
                while let Some(layer) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = compress_layer(store, layer, compress) {
                        next.store(missing.len(), Ordering::Relaxed);
                        let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                        failure.get_or_insert(error);
                    }
                }
            });
        }
    });
    let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    failure.map_or(Ok(()), Err)?;
    let mut layers = Vec::with_capacity(image.layers.len());
    for layer in &image.layers {
        let blobs = store.compressed(layer)?;
        let blob = blobs.into_iter().next();
        let blob = blob.ok_or(StoreError::LayerNotFound(*layer))?;
        layers.push(Descriptor::new(
            oci_type(&blob.media_type),
            blob.digest,
            blob.size,
        ));
    }
    let bytes = store.generate_manifest(&image.id, layers)?;
    store.record_generated_manifest(&image.id, &bytes)?;
    Ok((MediaType::OCI_MANIFEST.into(), bytes))
}

/// The layers of a manifest are of one family.
fn oci_type(media_type: &MediaType) -> &str {
    match media_type.0.as_str() {
        MediaType::DOCKER_LAYER_GZIP => MediaType::OCI_LAYER_GZIP,
        MediaType::DOCKER_LAYER => MediaType::OCI_LAYER,
        other => other,
    }
}

fn compress_layer(
    store: &Store,
    layer: &DiffId,
    compress: &Compress<'_>,
) -> Result<(), StoreError> {
    let path = store.layer_dir(layer).join("tar");
    let mut tar = store
        .open_blob(layer.digest())?
        .ok_or(StoreError::LayerNotFound(*layer))?;
    let mut blob = store.new_blob()?;
    let media_type = compress(&mut tar, &mut blob)
        .map_err(|error| at("compress", &path)(std::io::Error::other(error)))?;
    let descriptor = blob.commit(&media_type)?;
    store.record_compressed(layer, &descriptor)
}
