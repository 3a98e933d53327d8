//! A repository as the source or target of a copy.

use std::io::Read;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use oci::{Descriptor, DiffId, Digest, MediaType, Reference};
use store::{
    BlobOutcome, ExchangeError, OpenBlob, Progress, Resolved, Source, Store, StoreError, Target,
};

use super::content::Content;
use super::error::ClientError;
use super::remote::Remote;
use super::upload::Uploaded;

/// Every request was tried again already when it fails here, so no failure is called transient.
fn failed(error: ClientError) -> ExchangeError {
    match error {
        ClientError::DigestMismatch { .. } | ClientError::SizeMismatch { .. } => {
            ExchangeError::corrupt(error)
        }
        error => ExchangeError::permanent(error),
    }
}

impl Source for Remote {
    fn resolve(&self) -> Result<Resolved, ExchangeError> {
        let (descriptor, bytes) = self.ask_nearest(Remote::fetch_named)?;
        Ok(Resolved { descriptor, bytes })
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ExchangeError> {
        self.ask_nearest(|remote| remote.fetch_manifest(descriptor))
    }

    fn open_blob(
        &self,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>, ExchangeError> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if offset == 0 && !begun.insert(descriptor.digest) {
            // What came was not the blob: broken connections go on where they broke.
            self.serving.fetch_add(1, Ordering::Relaxed);
        }
        drop(begun);
        let reader = self.ask_nearest(|remote| remote.open_blob_at(descriptor, offset))?;
        Ok(Box::new(reader))
    }
}

impl Target for Remote {
    fn has_blob(
        &self,
        descriptor: &Descriptor,
        _diff_id: Option<&DiffId>,
    ) -> Result<bool, ExchangeError> {
        self.blob_exists(descriptor).map_err(failed)
    }

    fn put_blob(
        &self,
        descriptor: &Descriptor,
        _diff_id: Option<&DiffId>,
        open: &OpenBlob<'_>,
        progress: &Progress<'_>,
    ) -> Result<BlobOutcome, ExchangeError> {
        let content = Content {
            descriptor,
            open: &|offset| Ok(open(offset)?),
            progress,
        };
        match self.upload_blob(&content).map_err(failed)? {
            Uploaded::Sent => Ok(BlobOutcome::Stored),
            Uploaded::Mounted(from) => Ok(BlobOutcome::Mounted { from }),
        }
    }

    /// Registries answer that a digest is invalid.
    fn verifies_blobs(&self) -> bool {
        false
    }

    fn put_part(&self, media_type: &MediaType, bytes: &[u8]) -> Result<Digest, ExchangeError> {
        let name = Digest::of(bytes).to_string();
        self.upload_manifest(media_type, bytes, &name)
            .map_err(failed)
    }

    fn put_manifest(&self, media_type: &MediaType, bytes: &[u8]) -> Result<Digest, ExchangeError> {
        let name = match self.reference.digest() {
            Some(_) => Digest::of(bytes).to_string(),
            None => self.tag_or_digest(),
        };
        self.upload_manifest(media_type, bytes, &name)
            .map_err(failed)
    }
}

impl Remote {
    /// Fetches from the first place that has it: the mirrors in their order, then the registry,
    /// whose error is the one to tell. Places that failed are not asked again.
    fn ask_nearest<T>(
        &self,
        fetch: impl Fn(&Self) -> Result<T, ClientError>,
    ) -> Result<T, ExchangeError> {
        let first = self.serving.load(Ordering::Relaxed);
        for (index, mirror) in self.mirrors.iter().enumerate().skip(first) {
            if let Ok(found) = fetch(mirror) {
                self.serving.fetch_max(index, Ordering::Relaxed);
                return Ok(found);
            }
        }
        self.serving
            .fetch_max(self.mirrors.len(), Ordering::Relaxed);
        fetch(self).map_err(failed)
    }

    /// Lets a push mount `blobs` from other repositories of the same registry that the store
    /// knows to have them, instead of sending them.
    pub fn offer_mounts(mut self, store: &Store, blobs: &[Digest]) -> Result<Self, StoreError> {
        for blob in blobs {
            let origins = store.origins(blob)?;
            let from = origins.iter().find_map(|repository| {
                let (registry, path) = repository.split_once('/')?;
                let elsewhere = path != self.reference.path();
                (registry == self.reference.registry() && elsewhere).then_some(path)
            });
            if let Some(from) = from {
                self.mounts.insert(*blob, from.to_owned());
            }
        }
        Ok(self)
    }

    /// Lets a copy from `repository` mount what it needs instead of sending it, where both are in
    /// the same registry.
    #[must_use]
    pub fn mounting_from(mut self, repository: &Reference) -> Self {
        let is_neighbour = repository.registry() == self.reference.registry()
            && repository.path() != self.reference.path();
        if is_neighbour {
            self.neighbour = Some(repository.path().to_owned());
        }
        self
    }

    /// Lets a push that is interrupted go on in a later one, which was given the same store: it
    /// remembers the sessions in which blobs are being sent. The caller holds the root's lock
    /// shared as long as it pushes.
    #[must_use]
    pub fn remember_sessions(mut self, store: &Store) -> Self {
        self.sessions = Some(store.clone());
        self
    }

    /// Records in the store that this repository has `blobs`: after a pull or push of them.
    pub fn record_origins(&self, store: &Store, blobs: &[Descriptor]) -> Result<(), StoreError> {
        let repository = self.reference.repository();
        blobs
            .iter()
            .try_for_each(|blob| store.record_origin(&blob.digest, &repository))
    }
}
