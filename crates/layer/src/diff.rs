//! What a container changed: an overlay's upper directory, read as a layer.

use std::collections::HashMap;
use std::path::Path;

use crate::metadata::FileError;
use crate::upper::{Event, FileId, Upper};
use crate::{Entry, EntryKind, LayerWriter, Timestamp, View, ViewError, WriteError};

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
pub enum DiffError {
    /// A file of the upper directory could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// What lies below could not be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The layer could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Another program mounted the directory in a way that leaves content in other places.
    #[error(
        "`{}` is incomplete: it carries the attribute `{mark}`",
        String::from_utf8_lossy(path)
    )]
    Elsewhere {
        /// The file.
        path: Vec<u8>,
        /// The attribute.
        mark: String,
    },
}

/// Appends everything that `upper` changes over `below` to `writer`, parents first and sorted
/// within each directory.
///
/// Sockets are left out, as docker does. The caller finishes or drops the writer.
pub fn capture(
    upper: &Path,
    below: &View,
    writer: &mut LayerWriter,
    options: &CaptureOptions<'_>,
) -> Result<Captured, DiffError> {
    let upper = Upper::open(upper, below, options.exclude)?;
    let mut captured = Captured::default();
    let mut first_names: HashMap<FileId, Vec<u8>> = HashMap::new();
    upper.walk(&mut |event| {
        match event {
            Event::File(_, file) => {
                captured.entries += 1;
                let mut entry = file.entry.clone();
                if let Some(limit) = options.clamp_mtime {
                    entry.mtime = entry.mtime.min(limit);
                }
                if let Some(id) = file.shared {
                    match first_names.get(&id) {
                        Some(target) => {
                            let target = target.clone();
                            entry.kind = EntryKind::Hardlink { target };
                        }
                        None => {
                            first_names.insert(id, entry.path.clone());
                        }
                    }
                }
                append(&upper, writer, &entry)?;
            }
            Event::Opaque(path) => writer.opaque(path)?,
            Event::Deleted(path) => {
                captured.whiteouts += 1;
                writer.whiteout(path)?;
            }
        }
        Ok(())
    })?;
    Ok(captured)
}

fn append(upper: &Upper<'_>, writer: &mut LayerWriter, entry: &Entry) -> Result<(), DiffError> {
    match entry.kind {
        EntryKind::File { size } if size > 0 => {
            writer.append(entry, &mut upper.open_file(&entry.path)?)?;
        }
        EntryKind::File { .. }
        | EntryKind::Directory
        | EntryKind::Symlink { .. }
        | EntryKind::Hardlink { .. }
        | EntryKind::CharDevice { .. }
        | EntryKind::BlockDevice { .. }
        | EntryKind::Fifo => writer.append(entry, &mut std::io::empty())?,
    }
    Ok(())
}

/// Lists what `upper` changes over `below`, sorted by path, as `docker diff` does.
pub fn changes(upper: &Path, below: &View, exclude: &[Vec<u8>]) -> Result<Vec<Change>, DiffError> {
    let mut changes = Vec::new();
    Upper::open(upper, below, exclude)?.walk(&mut |event| {
        let (kind, path) = match event {
            Event::File(kind, file) => (*kind, file.entry.path.as_slice()),
            Event::Deleted(path) => (ChangeKind::Deleted, *path),
            Event::Opaque(_) => return Ok(()),
        };
        // docker never lists the root.
        if !path.is_empty() {
            changes.push(Change {
                kind,
                path: path.to_vec(),
            });
        }
        Ok(())
    })?;
    changes.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(changes)
}
