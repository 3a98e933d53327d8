//! One image of an archive as a source.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use oci::{Descriptor, Digest, MAX_MANIFEST_SIZE};

use super::ArchiveError;
use super::contents::Contents;
use super::entry::blob_name;
use crate::exchange::ExchangeError;
use crate::{Resolved, Source, StoreError};

/// The content of one image in an archive.
#[derive(Debug)]
pub struct ArchiveSource {
    pub(super) contents: Arc<Contents>,
    pub(super) resolved: Resolved,
    /// Where blobs lie that are not under `blobs/sha256/`.
    pub(super) names: HashMap<Digest, String>,
}

impl ArchiveSource {
    fn name(&self, digest: &Digest) -> String {
        match self.names.get(digest) {
            Some(name) => name.clone(),
            None => blob_name(digest),
        }
    }
}

impl Source for ArchiveSource {
    fn resolve(&self) -> Result<Resolved, ExchangeError> {
        Ok(self.resolved.clone())
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ExchangeError> {
        let name = self.name(&descriptor.digest);
        let bytes = self.contents.read(&name, MAX_MANIFEST_SIZE);
        bytes
            .and_then(|bytes| bytes.ok_or(ArchiveError::Missing(name)))
            .map_err(ExchangeError::permanent)
    }

    fn open_blob(
        &self,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>, ExchangeError> {
        let section = self
            .contents
            .require(&self.name(&descriptor.digest))
            .map_err(ExchangeError::permanent)?;
        if section.size() != descriptor.size {
            return Err(ExchangeError::permanent(StoreError::SizeMismatch {
                digest: descriptor.digest,
                expected: descriptor.size,
                found: section.size(),
            }));
        }
        Ok(Box::new(section.skip(offset)))
    }
}
