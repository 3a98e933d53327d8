//! What a container changed: an overlay's upper directory, read as a layer.

use std::path::Path;

use crate::{LayerWriter, Timestamp, View};

/// How an upper directory becomes a layer.
#[derive(Debug, Clone, Copy, Default)]
pub struct CaptureOptions<'a> {
    /// Later modification times become this one.
    pub clamp_mtime: Option<Timestamp>,
    /// Paths that the engine made, such as mount points: left out, except directories that
    /// contain something else.
    pub exclude: &'a [Vec<u8>],
}

/// How much was captured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Captured {
    /// Files and directories that are new or changed, and directories above them.
    pub entries: u64,
    /// Names that are gone.
    pub whiteouts: u64,
}

impl Captured {
    /// Tells whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.entries == 0 && self.whiteouts == 0
    }
}

/// One line of `docker diff`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// To which path, relative to the root.
    pub path: Vec<u8>,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It, or something in it, is different.
    Modified,
    /// It is gone.
    Deleted,
}

/// Why an upper directory could not be read as a layer.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {}

/// Appends everything that `upper` changes over `below` to `writer`, sorted by path.
pub fn capture(
    upper: &Path,
    below: &View,
    writer: &mut LayerWriter,
    options: &CaptureOptions<'_>,
) -> Result<Captured, DiffError> {
    unimplemented!("{upper:?} {below:?} {writer:?} {options:?}")
}

/// Lists what `upper` changes over `below`, sorted by path, as `docker diff` does.
pub fn changes(upper: &Path, below: &View, exclude: &[Vec<u8>]) -> Result<Vec<Change>, DiffError> {
    unimplemented!("{upper:?} {below:?} {exclude:?}")
}
