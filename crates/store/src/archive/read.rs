//! Reading archives.

use std::io::{self, Read};
use std::path::Path;

use oci::{Descriptor, Reference};

use crate::exchange::ExchangeError;
use crate::{ManifestPolicy, Resolved, Source, Store, StoreError};

/// Undoes whole-file compression, found by the first bytes; what is not compressed passes.
pub type Decompress<'a> =
    dyn Fn(Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> + Sync + 'a;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be read.
    #[error("cannot read archive")]
    Read(#[source] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An opened archive.
#[derive(Debug)]
pub struct Archive {}

/// An image in an archive.
#[derive(Debug)]
pub struct ArchiveImage {
    /// The names that the archive gives it.
    pub names: Vec<Reference>,
    /// Its content.
    pub source: ArchiveSource,
    /// Whether the archive has a manifest of the image that is worth keeping.
    pub manifests: ManifestPolicy,
}

/// The content of one image in an archive.
#[derive(Debug)]
pub struct ArchiveSource {}

impl Archive {
    /// Opens a file or a directory.
    pub fn open(
        store: &Store,
        path: &Path,
        decompress: &Decompress<'_>,
    ) -> Result<Self, ArchiveError> {
        let _ = (store, path, decompress);
        unimplemented!()
    }

    /// Reads an archive from a stream, which is first written to a scratch file.
    pub fn read(
        store: &Store,
        stream: Box<dyn Read + Send>,
        decompress: &Decompress<'_>,
    ) -> Result<Self, ArchiveError> {
        drop((store, stream, decompress));
        unimplemented!()
    }

    /// Returns the images, in the archive's order.
    pub fn images(&self) -> Result<Vec<ArchiveImage>, ArchiveError> {
        unimplemented!()
    }
}

impl Source for ArchiveSource {
    fn resolve(&self) -> Result<Resolved, ExchangeError> {
        unimplemented!()
    }

    fn manifest(&self, _descriptor: &Descriptor) -> Result<Vec<u8>, ExchangeError> {
        unimplemented!()
    }

    fn open_blob(
        &self,
        _descriptor: &Descriptor,
        _offset: u64,
    ) -> Result<Box<dyn Read + Send>, ExchangeError> {
        unimplemented!()
    }
}
