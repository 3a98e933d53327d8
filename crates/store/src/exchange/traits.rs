//! The two ends of a copy.

use std::io::Read;

use oci::{Descriptor, DiffId, Digest, MediaType};

use super::ExchangeError;

/// What a source's name leads to.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Type, digest and length of the document.
    pub descriptor: Descriptor,
    /// The manifest or index, as received.
    pub bytes: Vec<u8>,
}

/// Opens the content of a blob at an offset. May be called again to resume or start over.
pub type OpenBlob<'a> = dyn Fn(u64) -> Result<Box<dyn Read + Send>, ExchangeError> + Sync + 'a;

/// Is told how many bytes of a blob are there, from its start.
pub type Progress<'a> = dyn Fn(u64) + Sync + 'a;

/// Where an image comes from: one image or index in a registry, a store or an archive. A source
/// verifies nothing: [`copy`](super::copy()) checks every digest.
pub trait Source: Sync {
    /// Returns the manifest or index that the source names.
    fn resolve(&self) -> Result<Resolved, ExchangeError>;

    /// Returns the bytes of a manifest that an index names.
    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ExchangeError>;

    /// Opens a blob at `offset`. A source that cannot start there skips to it.
    fn open_blob(
        &self,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>, ExchangeError>;
}

/// How a blob came to the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobOutcome {
    /// It was transferred.
    Stored,
    /// The target had it.
    Existed,
    /// The target took it from another of its repositories.
    Mounted {
        /// Which one: `team/demo`.
        from: String,
    },
}

/// Where an image goes. Blobs come before the manifest that names them.
pub trait Target: Sync {
    /// Tells whether the whole image that a manifest describes is there, so that nothing needs
    /// copying.
    fn has_manifest(&self, descriptor: &Descriptor) -> Result<bool, ExchangeError> {
        let _ = descriptor;
        Ok(false)
    }

    /// Is told which layers will come before they do. An error ends the copy.
    fn expect(&self, layers: &[&Descriptor]) -> Result<(), ExchangeError> {
        let _ = layers;
        Ok(())
    }

    /// Tells whether a blob is there. `diff_id` is given for layers.
    fn has_blob(
        &self,
        descriptor: &Descriptor,
        diff_id: Option<&DiffId>,
    ) -> Result<bool, ExchangeError>;

    /// Takes a blob, which the target verifies. It calls `open` with the number of bytes that it
    /// has from an earlier try.
    fn put_blob(
        &self,
        descriptor: &Descriptor,
        diff_id: Option<&DiffId>,
        open: &OpenBlob<'_>,
        progress: &Progress<'_>,
    ) -> Result<BlobOutcome, ExchangeError>;

    /// Tells whether the target says itself which digest a blob has that is not what its name
    /// promises, so that nobody else needs to look.
    fn verifies_blobs(&self) -> bool {
        true
    }

    /// Takes a manifest that one to come leads to.
    fn put_part(&self, media_type: &MediaType, bytes: &[u8]) -> Result<Digest, ExchangeError> {
        self.put_manifest(media_type, bytes)
    }

    /// Takes a manifest after all its blobs. Returns its digest.
    fn put_manifest(&self, media_type: &MediaType, bytes: &[u8]) -> Result<Digest, ExchangeError>;
}
