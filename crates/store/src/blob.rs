//! Blobs: content-addressed files under `blobs/sha256`.

use std::fs::File;
use std::io::{self, Write};

use oci::{Descriptor, Digest, MediaType};

use crate::{Store, StoreError, Timestamp};

/// Receives a blob whose name is known. Bytes that were written before the process died are kept
/// and found again by the next writer of the same blob. While one process writes a blob, the
/// others that want to wait for it in [`Store::blob_writer`].
#[derive(Debug)]
pub struct BlobWriter {}

impl BlobWriter {
    /// Returns how many bytes are there already; the next write continues here. It is the blob's
    /// size when another process has completed it meanwhile.
    pub fn offset(&self) -> u64 {
        unimplemented!()
    }

    /// Returns a reader of the bytes that are there, from the start.
    pub fn reader(&self) -> Result<Box<dyn io::Read + Send>, StoreError> {
        unimplemented!()
    }

    /// Checks size and digest, gives the blob its name and records it. On a mismatch the bytes
    /// are discarded.
    pub fn commit(self) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// Throws away the bytes received so far.
    pub fn discard(self) -> Result<(), StoreError> {
        unimplemented!()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        unimplemented!()
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Receives a blob whose name is not known yet: an upload, a layer being compressed. Dropped
/// without commit, it leaves nothing.
#[derive(Debug)]
pub struct NewBlob {}

impl NewBlob {
    /// Returns how many bytes were written.
    pub fn size(&self) -> u64 {
        unimplemented!()
    }

    /// Gives the blob its name and records it.
    pub fn commit(self, media_type: &MediaType) -> Result<Descriptor, StoreError> {
        let _ = media_type;
        unimplemented!()
    }

    /// Commits as [`NewBlob::commit`] does if the content has digest `expected`.
    pub fn commit_as(
        self,
        media_type: &MediaType,
        expected: &Digest,
    ) -> Result<Descriptor, StoreError> {
        let _ = (media_type, expected);
        unimplemented!()
    }
}

impl Write for NewBlob {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        unimplemented!()
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Store {
    /// Starts or resumes receiving a blob. Waits while another process receives it.
    pub fn blob_writer(&self, descriptor: &Descriptor) -> Result<BlobWriter, StoreError> {
        let _ = descriptor;
        unimplemented!()
    }

    /// Starts receiving a blob whose digest is not known.
    pub fn new_blob(&self) -> Result<NewBlob, StoreError> {
        unimplemented!()
    }

    /// Stores a small blob.
    pub fn put_blob(&self, media_type: &MediaType, bytes: &[u8]) -> Result<Descriptor, StoreError> {
        let _ = (media_type, bytes);
        unimplemented!()
    }

    /// Opens a blob; the tar of a layer is a blob too, under its DiffId.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<File>, StoreError> {
        let _ = digest;
        unimplemented!()
    }

    /// Reads a blob of at most `limit` bytes and verifies it.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let _ = (digest, limit);
        unimplemented!()
    }

    /// Returns media type and size of a blob; `None` when it is not in the store.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Descriptor>, StoreError> {
        let _ = digest;
        unimplemented!()
    }

    /// Tells whether a blob is in the store.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.blob(digest)?.is_some())
    }

    /// Keeps a blob or layer that no image needs yet from being swept before `until`: for parts
    /// of an image that arrive in separate requests.
    pub fn lease(&self, digest: &Digest, until: Timestamp) -> Result<(), StoreError> {
        let _ = (digest, until);
        unimplemented!()
    }

    /// Records that a repository (`docker.io/library/debian`) of a registry has a blob.
    pub fn record_origin(&self, digest: &Digest, repository: &str) -> Result<(), StoreError> {
        let _ = (digest, repository);
        unimplemented!()
    }

    /// Returns the repositories that are known to have a blob, last seen first.
    pub fn origins(&self, digest: &Digest) -> Result<Vec<String>, StoreError> {
        let _ = digest;
        unimplemented!()
    }
}
