//! The directory of one layer.

use std::path::{Path, PathBuf};

/// The directory of one layer.
///
/// ```text
/// layers/<diffid>/
///   tar           the exact uncompressed bytes
///   index.erofs   EROFS metadata over the tar
///   tree/         the unpacked form, made on first need where EROFS cannot be mounted
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LayerDir(PathBuf);

impl LayerDir {
    /// Names the layer in `path`; nothing is read.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Returns the directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path of the tar.
    pub fn tar(&self) -> PathBuf {
        self.0.join("tar")
    }

    /// Returns the path of the EROFS index.
    pub fn index(&self) -> PathBuf {
        self.0.join("index.erofs")
    }

    /// Returns the path of the unpacked form.
    pub fn tree(&self) -> PathBuf {
        self.0.join("tree")
    }
}
