//! A tar from outside, kept byte for byte and indexed while it streams past.

use std::io::{self, Read};
use std::path::Path;

use oci::DiffId;

/// What became of a tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ingested {
    /// The digest of the tar.
    pub diff_id: DiffId,
    /// The length of the tar.
    pub tar_size: u64,
    /// The number of entries.
    pub entries: u64,
    /// The sum of the sizes of regular files: docker's SIZE.
    pub content_size: u64,
}

/// How much one layer may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest tar, in bytes.
    pub max_tar_size: u64,
    /// The most entries.
    pub max_entries: u64,
    /// The most memory for the index, in bytes.
    pub max_index_memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_tar_size: 1 << 40,
            max_entries: 20_000_000,
            max_index_memory: 4 << 30,
        }
    }
}

/// Why a tar did not become a layer.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Reading the tar failed.
    #[error("failed to read the layer")]
    Read(#[source] io::Error),
}

/// Reads one layer's uncompressed tar to its end and leaves it, byte for byte, and its index in
/// `dir`, which exists. After an error `dir` may hold parts of both.
pub fn ingest(tar: &mut dyn Read, dir: &Path, limits: &Limits) -> Result<Ingested, IngestError> {
    unimplemented!(
        "{} {dir:?} {limits:?}",
        tar.read(&mut []).map_err(IngestError::Read)?
    )
}
