//! One file of a layer, as tar sees it.

use std::collections::BTreeMap;

use crate::path::{MAX_NAME, MAX_PATH};
use crate::xattr;

/// The extended attribute that makes a directory of a layer hide the same directory below.
pub const OPAQUE_XATTR: &[u8] = b"user.overlay.opaque";

/// The extended attribute of a directory that the layer does not carry itself: it exists in the
/// index only because something in it does, and what lies below gives its owner, mode and time.
/// Overlayfs hides it, like all of `user.overlay.`.
pub const IMPLIED_XATTR: &[u8] = b"user.overlay.strata.implied";

/// The extended attribute of a directory with whiteouts. By it overlayfs knows to leave them out
/// of listings also where nothing lies below the directory.
pub const WHITEOUTS_XATTR: &[u8] = b"user.overlay.origin";

/// What device numbers have room for, on Linux and in EROFS.
const MAX_MAJOR: u32 = (1 << 12) - 1;
const MAX_MINOR: u32 = (1 << 20) - 1;
/// The largest file: one chunk of an index, see docs/layer-format.md.
const MAX_FILE_SIZE: u64 = 1 << 40;

/// A point in time, in seconds and nanoseconds since 1970; before it seconds are negative and
/// nanoseconds still count up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds.
    pub seconds: i64,
    /// Below 1,000,000,000.
    pub nanoseconds: u32,
}

/// A file of any type, with what a layer keeps of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root, without `.` and `..` and without slashes at its ends; empty is the root.
    pub path: Vec<u8>,
    /// The type, and what belongs to it.
    pub kind: EntryKind,
    /// Permission bits with set-id and sticky: at most `0o7777`.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When the content last changed.
    pub mtime: Timestamp,
    /// Extended attributes, by full name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The type of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points, as written.
        target: Vec<u8>,
    },
    /// Another name of an earlier entry. Only tars have this; a [`Node`](crate::Node) never does.
    Hardlink {
        /// The path of the other entry, in this layer.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// Why an entry cannot be part of a layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The path has a `..`.
    #[error("path leads through `..`, outside of the layer")]
    ParentInPath,
    /// The path or a link's target has a NUL.
    #[error("path holds a NUL")]
    NulInPath,
    /// One part of the path is too long.
    #[error("name of more than {MAX_NAME} bytes")]
    NameTooLong,
    /// The path is too long.
    #[error("path of more than {MAX_PATH} bytes")]
    PathTooLong,
    /// The root is something else than a directory.
    #[error("root of the layer is not a directory")]
    RootIsNoDirectory,
    /// What should contain the entry is a file.
    #[error("`{}` is not a directory", .0.escape_ascii())]
    NotADirectory(Vec<u8>),
    /// Symbolic links on the way lead in a circle.
    #[error("too many levels of symbolic links")]
    SymlinkLoop,
    /// The target of a hard link is not in this layer.
    #[error("target `{}` of the hard link is not in this layer", .0.escape_ascii())]
    HardlinkTargetMissing(Vec<u8>),
    /// The target of a hard link is a directory.
    #[error("target `{}` of the hard link is a directory", .0.escape_ascii())]
    HardlinkToDirectory(Vec<u8>),
    /// A symbolic link has no target, or one that is too long.
    #[error("symbolic link to a path of {0} bytes")]
    SymlinkTarget(usize),
    /// A whiteout hides nothing that can have a name.
    #[error("invalid whiteout")]
    InvalidWhiteout,
    /// A device number does not fit.
    #[error("device number {major}:{minor} out of range")]
    DeviceNumber {
        /// The major number.
        major: u32,
        /// The minor number.
        minor: u32,
    },
    /// An extended attribute cannot be stored.
    #[error("extended attribute `{}` of {size} bytes cannot be stored", .name.escape_ascii())]
    Xattr {
        /// Its full name.
        name: Vec<u8>,
        /// The length of its value.
        size: usize,
    },
    /// The file is too large.
    #[error("file of {0} bytes exceeds the limit of {MAX_FILE_SIZE}")]
    FileTooLarge(u64),
    /// The index would take too much memory.
    #[error("index of the layer exceeds the memory limit of {0} bytes")]
    OutOfMemory(u64),
}

impl Entry {
    /// Checks that Linux and an index can hold the file; its path was checked before.
    pub(crate) fn check(&self) -> Result<(), EntryError> {
        match &self.kind {
            EntryKind::File { size } if *size > MAX_FILE_SIZE => {
                return Err(EntryError::FileTooLarge(*size));
            }
            EntryKind::Symlink { target } => {
                if target.is_empty() || target.len() > MAX_PATH {
                    return Err(EntryError::SymlinkTarget(target.len()));
                }
                if target.contains(&0) {
                    return Err(EntryError::NulInPath);
                }
            }
            &EntryKind::CharDevice { major, minor } | &EntryKind::BlockDevice { major, minor }
                if major > MAX_MAJOR || minor > MAX_MINOR =>
            {
                return Err(EntryError::DeviceNumber { major, minor });
            }
            _ => {}
        }
        xattr::check(&self.xattrs)
    }
}
