//! The store as a target.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use oci::{
    Descriptor, DiffId, Digest, Hasher, MAX_CONFIG_SIZE, ManifestError, ManifestOrIndex, MediaType,
};

use super::arrival::{Arrival, ArrivalReader};
use super::stream::{BUFFER, Stream};
use super::{BlobOutcome, ExchangeError, Fault, OpenBlob, Progress, Target};
use crate::error::is_disk_full;
use crate::{BlobWriter, NewImage, NewLayer, Scratch, Store, StoreError};

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
    /// The layers that have come. No image needs them before the last one is there; they are
    /// kept for another try.
    come: Mutex<Vec<DiffId>>,
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
            come: Mutex::default(),
        }
    }

    /// Changes what happens to manifests.
    #[must_use]
    pub fn manifests(self, manifests: ManifestPolicy) -> Self {
        Self { manifests, ..self }
    }
}

impl Target for StoreTarget<'_> {
    fn has_manifest(&self, descriptor: &Descriptor) -> Result<bool, ExchangeError> {
        let found = self.store.image_of_manifest(&descriptor.digest);
        Ok(found.map_err(ExchangeError::permanent)?.is_some())
    }

    fn has_blob(
        &self,
        descriptor: &Descriptor,
        diff_id: Option<&DiffId>,
    ) -> Result<bool, ExchangeError> {
        let found = match diff_id {
            Some(diff_id) => self.store.has_layer(diff_id),
            None if descriptor.media_type.is_layer() => self
                .store
                .layer_of_blob(&descriptor.digest)
                .map(|layer| layer.is_some()),
            None => self.store.has_blob(&descriptor.digest),
        };
        found.map_err(ExchangeError::permanent)
    }

    fn expect(&self, layers: &[&Descriptor]) -> Result<(), ExchangeError> {
        let needed = layers.iter().map(|blob| self.needed(blob));
        require_room(self.store, needed.fold(0, u64::saturating_add))
    }

    fn put_blob(
        &self,
        descriptor: &Descriptor,
        diff_id: Option<&DiffId>,
        open: &OpenBlob<'_>,
        progress: &Progress<'_>,
    ) -> Result<BlobOutcome, ExchangeError> {
        let incoming = Incoming {
            blob: descriptor,
            diff_id,
            open,
            progress,
        };
        let is_document = diff_id.is_none() && !descriptor.media_type.is_layer();
        let put = if is_document {
            put_document(self.store, &incoming)
        } else if is_tar(descriptor, diff_id) {
            self.put_tar(&incoming)
        } else {
            self.put_compressed(&incoming)
        };
        put.inspect_err(|error| {
            if is_disk_full(error.inner()) {
                self.give_back();
            }
        })
    }

    fn put_manifest(&self, media_type: &MediaType, bytes: &[u8]) -> Result<Digest, ExchangeError> {
        self.put_image(media_type, bytes)
            .map_err(ExchangeError::permanent)
    }
}

/// Tells whether a layer's blob is its tar.
fn is_tar(descriptor: &Descriptor, diff_id: Option<&DiffId>) -> bool {
    match diff_id {
        Some(diff_id) => *diff_id.digest() == descriptor.digest,
        None => matches!(
            descriptor.media_type.0.as_str(),
            MediaType::OCI_LAYER | MediaType::DOCKER_LAYER
        ),
    }
}

/// Fails when `needed` bytes do not fit on the disk of the store.
pub(super) fn require_room(store: &Store, needed: u64) -> Result<(), ExchangeError> {
    let free = store.free_space().map_err(ExchangeError::permanent)?;
    if needed <= free {
        return Ok(());
    }
    let root = store.root().to_owned();
    Err(ExchangeError::permanent(StoreError::NoRoom {
        root,
        needed,
        free,
    }))
}

/// Receives a blob that is not unpacked.
pub(super) fn put_document(
    store: &Store,
    incoming: &Incoming<'_>,
) -> Result<BlobOutcome, ExchangeError> {
    let mut writer = store
        .blob_writer(incoming.blob)
        .map_err(ExchangeError::permanent)?;
    if writer.is_complete() {
        return Ok(BlobOutcome::Existed);
    }
    let mut stream = incoming.stream(writer.offset());
    if let Err(error) = io::copy(&mut stream, &mut writer) {
        let failure = stream.into_failure();
        let failure = failure.unwrap_or_else(|| ExchangeError::permanent(error));
        return Err(abandon(writer, failure));
    }
    writer.commit().map_err(wrong_content)?;
    Ok(BlobOutcome::Stored)
}

/// A blob on its way in.
pub(super) struct Incoming<'a> {
    pub(super) blob: &'a Descriptor,
    pub(super) diff_id: Option<&'a DiffId>,
    pub(super) open: &'a OpenBlob<'a>,
    pub(super) progress: &'a Progress<'a>,
}

impl<'a> Incoming<'a> {
    fn stream(&self, offset: u64) -> Stream<'_> {
        Stream::new(self.blob, offset, self.open, self.progress)
    }

    fn check(&self, layer: &NewLayer) -> Result<(), StoreError> {
        match self.diff_id {
            Some(expected) if *expected != layer.diff_id => Err(StoreError::DiffIdMismatch {
                expected: *expected,
                found: layer.diff_id,
            }),
            _ => Ok(()),
        }
    }
}

impl StoreTarget<'_> {
    /// Returns how many bytes a layer takes at least: its blob, less what an earlier try left,
    /// and a tar that is no smaller.
    fn needed(&self, blob: &Descriptor) -> u64 {
        let is_compressed = !is_tar(blob, None);
        let kept = self.store.partial_size(&blob.digest);
        match is_compressed {
            true => blob.size.saturating_mul(2).saturating_sub(kept),
            false => blob.size,
        }
    }

    /// Keeps a layer until the image is there, or for a while.
    fn keep(&self, layer: DiffId) -> Result<(), StoreError> {
        self.store.keep_for_another_try(layer.digest())?;
        let mut come = self.come.lock().unwrap_or_else(PoisonError::into_inner);
        come.push(layer);
        Ok(())
    }

    /// On a full disk nothing is kept for another try: others need the space more. The layers go
    /// with the next sweep. What fails here fails for the lack of space, and was told.
    fn give_back(&self) {
        drop(self.store.empty_trash());
        let mut come = self.come.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.store.end_leases(&std::mem::take(&mut *come)));
    }

    fn put_image(&self, media_type: &MediaType, bytes: &[u8]) -> Result<Digest, StoreError> {
        let ManifestOrIndex::Manifest(manifest) = ManifestOrIndex::parse(Some(media_type), bytes)?
        else {
            let error = ManifestError::UnsupportedMediaType(media_type.clone());
            return Err(error.into());
        };
        let config = self
            .store
            .read_blob(&manifest.config.digest, MAX_CONFIG_SIZE)?;
        self.store.put_image(&NewImage {
            config: &config,
            manifest: match self.manifests {
                ManifestPolicy::Keep => Some((media_type, bytes)),
                ManifestPolicy::Discard => None,
            },
            parent: None,
            times: &[],
        })?;
        Ok(Digest::of(bytes))
    }

    /// Receives an uncompressed layer: its tar is the blob, so there is one file and one hash.
    fn put_tar(&self, incoming: &Incoming<'_>) -> Result<BlobOutcome, ExchangeError> {
        let scratch = self.store.scratch().map_err(ExchangeError::permanent)?;
        let mut stream = incoming.stream(0);
        let unpacked = (self.unpack)(&mut stream, scratch.path());
        let rest = match &unpacked {
            Ok(_) => io::copy(&mut stream, &mut io::sink()),
            Err(_) => Ok(0),
        };
        if let Some(failure) = stream.into_failure() {
            return Err(failure);
        }
        let expected = incoming.blob.digest;
        let layer = match unpacked {
            Ok(layer) => layer,
            // Broken content has a wrong digest too, and that is the better message.
            Err(error) => return Err(tell_apart(incoming, error)),
        };
        let found = *layer.diff_id.digest();
        if rest.is_err() || found != expected {
            return Err(ExchangeError::corrupt(StoreError::DigestMismatch {
                expected,
                found,
            }));
        }
        self.store
            .commit_layer(scratch, &layer)
            .and_then(|()| self.keep(layer.diff_id))
            .map_err(ExchangeError::permanent)?;
        Ok(BlobOutcome::Stored)
    }

    /// Receives a compressed layer: one thread fetches, writes and hashes, another unpacks.
    fn put_compressed(&self, incoming: &Incoming<'_>) -> Result<BlobOutcome, ExchangeError> {
        let store = self.store;
        let fatal = |error: StoreError| ExchangeError::permanent(error);
        let mut writer = store.blob_writer(incoming.blob).map_err(fatal)?;
        // Another process may have brought the layer while this one waited for the blob.
        if let Some(diff_id) = incoming.diff_id
            && writer.is_complete()
            && store.has_layer(diff_id).map_err(fatal)?
        {
            return Ok(BlobOutcome::Existed);
        }
        let scratch = store.scratch().map_err(fatal)?;
        let (fed, unpacked) = self.feed(incoming, &mut writer, &scratch).map_err(fatal)?;
        if let Err(error) = fed {
            return Err(abandon(writer, error));
        }
        let unpacked = match unpacked.map_err(ExchangeError::permanent) {
            // Recording the blob would fail for the same reason, in other words.
            Err(error) if is_disk_full(error.inner()) => return Err(abandon(writer, error)),
            unpacked => unpacked,
        };
        writer.commit().map_err(wrong_content)?;
        let layer = unpacked?;
        incoming.check(&layer).map_err(fatal)?;
        store.commit_layer(scratch, &layer).map_err(fatal)?;
        store
            .record_compressed(&layer.diff_id, incoming.blob)
            .and_then(|()| self.keep(layer.diff_id))
            .map_err(fatal)?;
        Ok(BlobOutcome::Stored)
    }

    /// Runs the two threads. Fetching goes on when unpacking has failed: only the digest tells
    /// whether the transfer or the layer is broken.
    fn feed(
        &self,
        incoming: &Incoming<'_>,
        writer: &mut BlobWriter,
        scratch: &Scratch,
    ) -> Result<(Result<(), ExchangeError>, UnpackResult), StoreError> {
        let file = writer.file()?;
        let arrival = Arrival::new(writer.offset());
        Ok(thread::scope(|scope| {
            let unpacker = scope.spawn(|| {
                let mut reader = ArrivalReader::new(file, &arrival);
                (self.unpack)(&mut reader, scratch.path())
            });
            let fed = fetch(incoming, writer, &arrival);
            arrival.end(fed.is_ok());
            let unpacked = unpacker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (fed, unpacked)
        }))
    }
}

type UnpackResult = Result<NewLayer, Box<dyn Error + Send + Sync>>;

/// Writes what an earlier try did not leave.
fn fetch(
    incoming: &Incoming<'_>,
    writer: &mut BlobWriter,
    arrival: &Arrival,
) -> Result<(), ExchangeError> {
    if writer.is_complete() {
        return Ok(());
    }
    let mut stream = incoming.stream(writer.offset());
    let mut buffer = vec![0; BUFFER];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                writer
                    .write_all(&buffer[..count])
                    .map_err(ExchangeError::permanent)?;
                arrival.add(u64::try_from(count).unwrap_or(0));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(stream
                    .into_failure()
                    .unwrap_or_else(|| ExchangeError::permanent(error)));
            }
        }
    }
}

/// Keeps what has come for another try, unless it is known to be wrong or the disk is full.
fn abandon(writer: BlobWriter, error: ExchangeError) -> ExchangeError {
    if error.fault() != Fault::Corrupt && !is_disk_full(error.inner()) {
        return error;
    }
    match writer.discard() {
        Ok(()) => error,
        Err(failure) => ExchangeError::permanent(failure),
    }
}

/// Content that is not what its name promises may be right the next time.
fn wrong_content(error: StoreError) -> ExchangeError {
    match error {
        StoreError::DigestMismatch { .. } | StoreError::SizeMismatch { .. } => {
            ExchangeError::corrupt(error)
        }
        error => ExchangeError::permanent(error),
    }
}

/// Reads a tar that did not unpack once more, to see whether it is what its name promises.
fn tell_apart(incoming: &Incoming<'_>, error: Box<dyn Error + Send + Sync>) -> ExchangeError {
    let mut stream = Stream::new(incoming.blob, 0, incoming.open, &|_| {});
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(_) => {
                return match stream.into_failure() {
                    Some(failure) if failure.fault() == Fault::Corrupt => failure,
                    _ => ExchangeError::permanent(error),
                };
            }
        }
    }
    let (expected, found) = (incoming.blob.digest, hasher.finish());
    if found == expected {
        ExchangeError::permanent(error)
    } else {
        ExchangeError::corrupt(StoreError::DigestMismatch { expected, found })
    }
}
