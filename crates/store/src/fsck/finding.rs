//! What a check of the store finds.

use std::fmt;
use std::path::PathBuf;

use oci::{DiffId, Digest};

use super::Mend;

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub damage: Damage,
    /// Where.
    pub path: PathBuf,
    /// What cannot do without it.
    pub needed_by: NeededBy,
}

/// Images and containers, by the names that people know them by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NeededBy {
    /// Tags, or the id of an image that has none. Sorted.
    pub images: Vec<String>,
    /// Names with digest under which registries have these images. Sorted.
    pub sources: Vec<String>,
    /// Whether an undo would bring back something that needs it.
    pub is_held: bool,
    /// Names of containers. Sorted.
    pub containers: Vec<String>,
    /// Names of those of them that run.
    pub running: Vec<String>,
}

/// What is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// The file `format` cannot be read.
    Format,
    /// The database is not one, or its parts contradict each other.
    Database {
        /// What SQLite says.
        what: String,
    },
    /// Pages of the database are not as they were written.
    Pages {
        /// Their numbers, from 1.
        pages: Vec<u32>,
        /// The tables that they belong to, as far as that is known.
        tables: Vec<String>,
    },
    /// The write-ahead log is not as it was written: what was recorded last is not seen.
    Log {
        /// The first frame that is wrong, from 1; 0 is the header.
        frame: u32,
        /// How many frames there are.
        frames: u32,
    },
    /// The second copy of the database or its checksums are not as they were written.
    Copy,
    /// A directory of the store is not there.
    MissingDirectory,
    /// Others than the owner may enter a directory of the store.
    Permissions {
        /// Its mode.
        mode: u32,
    },
    /// A file of `blobs`.
    Blob {
        /// Its name.
        digest: Digest,
        /// What it is for.
        role: Role,
        /// What is wrong.
        flaw: Flaw,
    },
    /// The tar of a layer.
    Tar {
        /// The layer.
        layer: DiffId,
        /// What is wrong.
        flaw: Flaw,
    },
    /// The index of a layer.
    Index {
        /// The layer.
        layer: DiffId,
        /// What is wrong.
        flaw: Flaw,
    },
    /// The unpacked form of a layer.
    Tree {
        /// The layer.
        layer: DiffId,
        /// Which file and what is wrong.
        what: String,
    },
    /// The directory of a container is gone, and what was written in the container with it.
    Container {
        /// Its id.
        id: String,
    },
    /// The record of a container was lost. What was written in it is put aside, as nothing else would
    /// keep it from being swept.
    LostContainer {
        /// Its id.
        id: String,
    },
    /// A row contradicts other rows or files.
    Record {
        /// Its table.
        table: &'static str,
        /// Which row.
        row: String,
        /// What is wrong.
        what: String,
        /// How the row becomes right, if that is known.
        mend: Option<Mend>,
    },
}

/// What a blob is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The configuration of an image.
    Config,
    /// A manifest of an image.
    Manifest,
    /// A layer as it is transferred.
    Layer(DiffId),
    /// The log of a build.
    Log,
    /// A part of an index that a tag leads to, or what waits for the rest of an image.
    Part,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// It is not there.
    Missing,
    /// It is there, and no record tells of it.
    Unrecorded,
    /// It has another length than was recorded.
    Size {
        /// The recorded one.
        expected: u64,
        /// Its own.
        found: u64,
    },
    /// Its bytes are not those that its name promises.
    Content,
    /// It is not what it has to be.
    Malformed {
        /// Why.
        what: String,
    },
    /// It cannot be read.
    Unreadable {
        /// What the system says.
        what: String,
    },
}

impl NeededBy {
    /// Tells whether no image, tag or container needs it; an undo may.
    pub fn is_nobody(&self) -> bool {
        self.images.is_empty() && self.containers.is_empty()
    }
}

impl Finding {
    /// Returns the blob or layer that is damaged.
    pub fn digest(&self) -> Option<Digest> {
        match &self.damage {
            Damage::Blob { digest, .. } => Some(*digest),
            Damage::Tar { layer, .. }
            | Damage::Index { layer, .. }
            | Damage::Tree { layer, .. } => Some(*layer.digest()),
            _ => None,
        }
    }
}

impl Damage {
    /// Returns the damage's kind in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Database { .. } => "database",
            Self::Pages { .. } => "pages",
            Self::Log { .. } => "log",
            Self::Copy => "copy",
            Self::MissingDirectory => "directory",
            Self::Permissions { .. } => "permissions",
            Self::Blob { .. } => "blob",
            Self::Tar { .. } => "tar",
            Self::Index { .. } => "index",
            Self::Tree { .. } => "tree",
            Self::Container { .. } | Self::LostContainer { .. } => "container",
            Self::Record { .. } => "record",
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str("store format file is malformed"),
            Self::Database { what } => write!(f, "database: {what}"),
            Self::Pages { pages, tables } => {
                let pages: Vec<String> = pages.iter().map(u32::to_string).collect();
                write!(f, "database pages changed: {}", pages.join(", "))?;
                match tables.is_empty() {
                    true => Ok(()),
                    false => write!(f, " (of {})", tables.join(", ")),
                }
            }
            Self::Log { frame: 0, .. } => f.write_str("database log changed: its header"),
            Self::Log { frame, frames } => {
                write!(f, "database log changed: frame {frame} of {frames}")
            }
            Self::Copy => f.write_str("copy of the database, or its checksums, changed"),
            Self::MissingDirectory => f.write_str("directory is missing"),
            Self::Permissions { mode } => {
                write!(f, "directory has mode {mode:04o}, which lets others in")
            }
            Self::Blob { role, flaw, .. } => write!(f, "{role} {flaw}"),
            Self::Tar { flaw, .. } => write!(f, "tar of a layer {flaw}"),
            Self::Index { flaw, .. } => write!(f, "index of a layer {flaw}"),
            Self::Tree { what, .. } => write!(f, "unpacked layer: {what}"),
            Self::Container { .. } => f.write_str("directory of a container is missing"),
            Self::LostContainer { .. } => f.write_str("record of a container is lost"),
            Self::Record {
                table, row, what, ..
            } => write!(f, "table {table}, {row}: {what}"),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Config => "configuration of an image",
            Self::Manifest => "manifest of an image",
            Self::Layer(_) => "compressed layer",
            Self::Log => "log of a build",
            Self::Part => "blob",
        })
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::Unrecorded => f.write_str("has no record"),
            Self::Size { expected, found } => {
                write!(f, "has {found} bytes instead of {expected}")
            }
            Self::Content => f.write_str("has changed"),
            Self::Malformed { what } => write!(f, "is malformed: {what}"),
            Self::Unreadable { what } => write!(f, "cannot be read: {what}"),
        }
    }
}
