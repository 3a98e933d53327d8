//! A new layer, made from entries.

use std::io::Read;
use std::path::Path;

use crate::{Entry, Ingested};

/// Writes a new layer: tar, index and digest in one pass.
///
/// The same calls give the same bytes. Entries come parents first; a directory that is not
/// appended shows the one of the layer below.
#[derive(Debug)]
pub struct LayerWriter {}

/// Why a layer was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {}

impl LayerWriter {
    /// Begins a layer in `dir`, which exists.
    pub fn create(dir: &Path) -> Result<Self, WriteError> {
        unimplemented!("{dir:?}")
    }

    /// Adds an entry. `content` is read to exactly the size that the entry names, and not at all
    /// unless it is a file.
    pub fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), WriteError> {
        unimplemented!("{entry:?} {:?}", content.read(&mut []))
    }

    /// Hides `path` of the layers below.
    pub fn whiteout(&mut self, path: &[u8]) -> Result<(), WriteError> {
        unimplemented!("{path:?}")
    }

    /// Hides everything in the directory `dir` of the layers below. `dir` was appended before.
    pub fn opaque(&mut self, dir: &[u8]) -> Result<(), WriteError> {
        unimplemented!("{dir:?}")
    }

    /// Ends the layer.
    pub fn finish(self) -> Result<Ingested, WriteError> {
        unimplemented!()
    }
}
