//! An image of the store on its way out, compressed as it goes.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use oci::{Descriptor, DiffId, Digest, ImageId, ManifestOrIndex, MediaType};

use super::copy::{copy, put_config};
use super::opener::{Cancel, Cancelled, OpenSource};
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

/// What layers are on their way.
pub struct Packing<'a> {
    /// Makes it of a tar.
    pub compress: &'a Compress<'a>,
    /// What is not made again.
    pub reuse: Reuse,
    /// The manifest to send if the store has it and [`Reuse::All`] is wanted.
    pub manifest: Option<Digest>,
    /// Opens blobs that the store has not kept where they came from.
    pub fetch: Option<&'a OpenSource<'a>>,
}

/// Which compressed blobs of the store are sent as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reuse {
    /// All of them. An image that was received goes exactly as it came.
    All,
    /// Those of this OCI media type, or docker's for the same.
    Only(MediaType),
    /// None: all layers are compressed now.
    None,
}

impl std::fmt::Debug for Packing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packing")
            .field("reuse", &self.reuse)
            .finish_non_exhaustive()
    }
}

impl Reuse {
    fn allows(&self, blob: &Descriptor) -> bool {
        match self {
            Self::All => true,
            Self::Only(wanted) => oci_type(&blob.media_type) == wanted.0,
            Self::None => false,
        }
    }
}

/// How many processors one layer keeps busy: `compress` uses several threads itself, and a layer
/// that is finished early can be sent early.
const PROCESSORS_PER_LAYER: usize = 8;

/// Copies an image of the store to `target` with compressed layers. Those that are not compressed
/// yet are compressed, the largest first, while finished ones are sent; the results are recorded
/// and kept, and so is the manifest, except in place of one that was received. The caller holds
/// the root's lock shared.
pub fn push(
    store: &Store,
    image: &ImageId,
    packing: &Packing<'_>,
    target: &dyn Target,
    options: &CopyOptions<'_>,
) -> Result<Copied, CopyError> {
    let record = store.image(image).map_err(unreadable)?;
    let record = record.ok_or_else(|| unreadable(StoreError::ImageNotFound(*image)))?;
    let ready = match received_manifest(store, &record, packing, target)? {
        Some(received) => Some(received),
        None => compressed_manifest(store, &record, &packing.reuse).map_err(unreadable)?,
    };
    if let Some((media_type, bytes)) = ready {
        let source = StoreSource::with_manifest(store, &media_type, bytes);
        return copy(&source.or_fetch(packing.fetch), target, options);
    }
    let layers = distinct(&record.layers);
    (options.events)(Event::Image {
        layers: layers.clone(),
    });
    let blobs = send_layers(store, layers, packing, target, options)?;
    let manifest = make_manifest(store, &record, &blobs).map_err(unreadable)?;
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

/// Copies layers of the store to `target` without an image, as [`push`] does. Returns as what each
/// went. The caller holds the root's lock shared.
pub fn push_layers(
    store: &Store,
    layers: &[DiffId],
    packing: &Packing<'_>,
    target: &dyn Target,
    options: &CopyOptions<'_>,
) -> Result<HashMap<DiffId, Descriptor>, CopyError> {
    let layers = distinct(layers);
    (options.events)(Event::Image {
        layers: layers.clone(),
    });
    send_layers(store, layers, packing, target, options)
}

fn unreadable(error: StoreError) -> CopyError {
    CopyError::Source(ExchangeError::permanent(error))
}

/// Returns the layers, each once. Their blobs are not known yet.
fn distinct(layers: &[DiffId]) -> Vec<LayerId> {
    let mut seen = HashSet::new();
    let layers = layers.iter().enumerate();
    layers
        .filter(|(_, diff_id)| seen.insert(**diff_id))
        .map(|(index, diff_id)| LayerId {
            index,
            digest: *diff_id.digest(),
            diff_id: *diff_id,
        })
        .collect()
}

/// Sends the layers and returns as what.
fn send_layers(
    store: &Store,
    layers: Vec<LayerId>,
    packing: &Packing<'_>,
    target: &dyn Target,
    options: &CopyOptions<'_>,
) -> Result<HashMap<DiffId, Descriptor>, CopyError> {
    let mut queue = Vec::with_capacity(layers.len());
    for layer in layers {
        let known = store.compressed(&layer.diff_id).map_err(unreadable)?;
        let blob = known.into_iter().find(|blob| packing.reuse.allows(blob));
        let record = store.layer(&layer.diff_id).map_err(unreadable)?;
        queue.push((layer, blob, record.map_or(0, |record| record.tar_size)));
    }
    // What is compressed can go at once. Then the largest: the last to be sent is sent alone.
    queue.sort_by_key(|(_, blob, size)| (blob.is_none(), std::cmp::Reverse(*size)));
    let open = |blob: &Descriptor, offset| open_blob(store, blob, offset);
    let work = Work::new(&open, target, options);
    let gate = Gate::new();
    let blobs = Mutex::new(HashMap::with_capacity(queue.len()));
    work.each(&queue, |(layer, blob, _)| {
        let blob = match blob {
            Some(blob) => blob.clone(),
            None => gate
                .through(|| compress_layer(store, &layer.diff_id, packing.compress, &work.cancel))
                .map_err(unreadable)?,
        };
        let mut sent = blobs.lock().unwrap_or_else(PoisonError::into_inner);
        sent.insert(layer.diff_id, blob.clone());
        drop(sent);
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
    })?;
    Ok(blobs.into_inner().unwrap_or_else(PoisonError::into_inner))
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

/// Returns the manifest that the image came with, if it can be sent as it is: what the store has
/// not kept of its blobs is at the target, or where it came from.
fn received_manifest(
    store: &Store,
    image: &ImageRecord,
    packing: &Packing<'_>,
    target: &dyn Target,
) -> Result<Option<(MediaType, Vec<u8>)>, CopyError> {
    let recorded = image.manifest.as_ref().filter(|_| image.received);
    let digest = packing
        .manifest
        .or(recorded.map(|manifest| manifest.digest));
    let Some(digest) = digest.filter(|_| packing.reuse == Reuse::All) else {
        return Ok(None);
    };
    let document = store.manifest_document(&image.id, &digest);
    let Some(document) = document.map_err(unreadable)? else {
        return Ok(None);
    };
    for blob in &document.layers {
        let there = store.has_blob(&blob.digest).map_err(unreadable)?
            || target.has_blob(blob, None).map_err(CopyError::Target)?;
        let can_be_fetched = || match packing.fetch {
            Some(fetch) => fetch(blob, 0).is_ok(),
            None => false,
        };
        if !there && !can_be_fetched() {
            return Ok(None);
        }
    }
    Ok(Some((document.media_type, document.bytes)))
}

/// Returns the recorded manifest if it can be pushed as it is: a received one always, one made
/// here only when its layers are compressed.
fn compressed_manifest(
    store: &Store,
    image: &ImageRecord,
    reuse: &Reuse,
) -> Result<Option<(MediaType, Vec<u8>)>, StoreError> {
    let Some((media_type, bytes)) = store.complete_manifest(image)? else {
        return Ok(None);
    };
    if image.received && *reuse == Reuse::All {
        return Ok(Some((media_type, bytes)));
    }
    let parsed = ManifestOrIndex::parse(Some(&media_type), &bytes)?;
    let fits =
        |layer: &Descriptor| layer.media_type.0 != MediaType::OCI_LAYER && reuse.allows(layer);
    let fits = match parsed {
        ManifestOrIndex::Manifest(manifest) => manifest.layers.iter().all(fits),
        ManifestOrIndex::Index(_) => false,
    };
    Ok(fits.then_some((media_type, bytes)))
}

/// Makes the manifest of an image whose layers are these blobs.
fn make_manifest(
    store: &Store,
    image: &ImageRecord,
    blobs: &HashMap<DiffId, Descriptor>,
) -> Result<Vec<u8>, StoreError> {
    let mut layers = Vec::with_capacity(image.layers.len());
    for layer in &image.layers {
        let blob = blobs.get(layer).ok_or(StoreError::LayerNotFound(*layer))?;
        layers.push(Descriptor::new(
            oci_type(&blob.media_type),
            blob.digest,
            blob.size,
        ));
    }
    let bytes = store.generate_manifest(&image.id, layers)?;
    // What was received stays what is pushed when nobody asks for another compression.
    if image.received && store.complete_manifest(image)?.is_some() {
        store.put_blob(&MediaType::OCI_MANIFEST.into(), &bytes)?;
    } else {
        store.record_generated_manifest(&image.id, &bytes)?;
    }
    Ok(bytes)
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
