//! An image of the store on its way out, compressed as it goes.

use std::collections::HashSet;
use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use oci::{Descriptor, DiffId, ImageId, ManifestOrIndex, MediaType};

use super::copy::{copy, put_config};
use super::opener::{Cancel, Cancelled};
use super::store_source::open_blob;
use super::transfer::Work;
use super::{
    Copied, CopyError, CopyOptions, CopyOutcome, Event, ExchangeError, LayerId, StoreSource, Target,
};
use crate::error::at;
use crate::{ImageRecord, Store, StoreError};

/// Compresses a layer's tar and says which media type that makes. The same tar must always give
/// the same bytes.
pub type Compress<'a> = dyn Fn(&mut dyn Read, &mut dyn Write) -> Result<MediaType, Box<dyn Error + Send + Sync>>
    + Sync
    + 'a;

/// How many processors one layer keeps busy: `compress` uses several threads itself, and a layer
/// that is finished early can be sent early.
const PROCESSORS_PER_LAYER: usize = 8;

/// Copies an image of the store to `target` with compressed layers. Those that are not compressed
/// yet are compressed, the largest first, while finished ones are sent; the results and the
/// manifest are recorded and kept. The caller holds the root's lock shared.
pub fn push(
    store: &Store,
    image: &ImageId,
    compress: &Compress<'_>,
    target: &dyn Target,
    options: &CopyOptions<'_>,
) -> Result<Copied, CopyError> {
    let record = store.image(image).map_err(unreadable)?;
    let record = record.ok_or_else(|| unreadable(StoreError::ImageNotFound(*image)))?;
    let ready = compressed_manifest(store, &record).map_err(unreadable)?;
    if let Some((media_type, bytes)) = ready {
        let source = StoreSource::with_manifest(store, &media_type, bytes);
        return copy(&source, target, options);
    }
    let layers = layers(&record);
    (options.events)(Event::Image {
        layers: layers.clone(),
    });
    send_layers(store, layers, compress, target, options)?;
    let manifest = make_manifest(store, &record).map_err(unreadable)?;
    let config = store.image_config_bytes(image).map_err(unreadable)?;
    let config_descriptor = Descriptor::of(MediaType::OCI_CONFIG, &config);
    put_config(target, &config_descriptor, config)?;
    let media_type = MediaType::from(MediaType::OCI_MANIFEST);
    let descriptor = Descriptor::of(&media_type.0, &manifest);
    let put = target.put_manifest(&media_type, &manifest);
    put.map_err(CopyError::Target)?;
    Ok(Copied {
        named: descriptor.clone(),
        manifest: descriptor,
        image: *image,
        outcome: CopyOutcome::Copied,
    })
}

fn unreadable(error: StoreError) -> CopyError {
    CopyError::Source(ExchangeError::permanent(error))
}

/// Returns the layers, each once. Their blobs are not known yet.
fn layers(image: &ImageRecord) -> Vec<LayerId> {
    let mut seen = HashSet::new();
    let layers = image.layers.iter().enumerate();
    layers
        .filter(|(_, diff_id)| seen.insert(**diff_id))
        .map(|(index, diff_id)| LayerId {
            index,
            digest: *diff_id.digest(),
            diff_id: *diff_id,
        })
        .collect()
}

fn send_layers(
    store: &Store,
    layers: Vec<LayerId>,
    compress: &Compress<'_>,
    target: &dyn Target,
    options: &CopyOptions<'_>,
) -> Result<(), CopyError> {
    let mut queue = Vec::with_capacity(layers.len());
    for layer in layers {
        let blob = compressed(store, &layer.diff_id).map_err(unreadable)?;
        let record = store.layer(&layer.diff_id).map_err(unreadable)?;
        queue.push((layer, blob, record.map_or(0, |record| record.tar_size)));
    }
    // What is compressed can go at once. Then the largest: the last to be sent is sent alone.
    queue.sort_by_key(|(_, blob, size)| (blob.is_none(), std::cmp::Reverse(*size)));
    let open = |blob: &Descriptor, offset| open_blob(store, blob, offset);
    let work = Work::new(&open, target, options);
    let gate = Gate::new();
    work.each(&queue, |(layer, blob, _)| {
        let blob = match blob {
            Some(blob) => blob.clone(),
            None => gate
                .through(|| compress_layer(store, &layer.diff_id, compress, &work.cancel))
                .map_err(unreadable)?,
        };
        let layer = LayerId {
            digest: blob.digest,
            ..*layer
        };
        let there = target.has_blob(&blob, Some(&layer.diff_id));
        if there.map_err(CopyError::Target)? {
            (options.events)(Event::LayerExists { layer });
            return Ok(());
        }
        let size = blob.size;
        (options.events)(Event::LayerQueued { layer, size });
        work.transfer(layer, &blob)
    })
}

/// Lets a few threads through at a time.
struct Gate {
    free: Mutex<usize>,
    wake: Condvar,
}

impl Gate {
    fn new() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self {
            free: Mutex::new(processors.div_ceil(PROCESSORS_PER_LAYER)),
            wake: Condvar::new(),
        }
    }

    fn through<T>(&self, task: impl FnOnce() -> T) -> T {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.wake.wait_while(free, |free| *free == 0);
        let mut free = free.unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        drop(free);
        let result = task();
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.wake.notify_one();
        result
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

/// Makes the manifest of an image whose layers are all compressed.
fn make_manifest(store: &Store, image: &ImageRecord) -> Result<Vec<u8>, StoreError> {
    let mut layers = Vec::with_capacity(image.layers.len());
    for layer in &image.layers {
        let blob = compressed(store, layer)?.ok_or(StoreError::LayerNotFound(*layer))?;
        layers.push(Descriptor::new(
            oci_type(&blob.media_type),
            blob.digest,
            blob.size,
        ));
    }
    let bytes = store.generate_manifest(&image.id, layers)?;
    store.record_generated_manifest(&image.id, &bytes)?;
    Ok(bytes)
}

fn compressed(store: &Store, layer: &DiffId) -> Result<Option<Descriptor>, StoreError> {
    Ok(store.compressed(layer)?.into_iter().next())
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
    cancel: &Cancel,
) -> Result<Descriptor, StoreError> {
    let path = store.layer_dir(layer).join("tar");
    let tar = store
        .open_blob(layer.digest())?
        .ok_or(StoreError::LayerNotFound(*layer))?;
    let mut blob = store.new_blob()?;
    let media_type = compress(&mut Cancellable { tar, cancel }, &mut blob)
        .map_err(|error| at("compress", &path)(io::Error::other(error)))?;
    let descriptor = blob.commit(&media_type)?;
    store.record_compressed(layer, &descriptor)?;
    Ok(descriptor)
}

/// A tar that cannot be read any more once the copy is cancelled.
struct Cancellable<'a> {
    tar: std::fs::File,
    cancel: &'a Cancel,
}

impl Read for Cancellable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_set() {
            return Err(io::Error::other(Cancelled));
        }
        self.tar.read(buffer)
    }
}
