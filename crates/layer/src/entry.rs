//! One file of a layer, as tar sees it.

use std::collections::BTreeMap;

/// The extended attribute that makes a directory of a layer hide the same directory below.
pub const OPAQUE_XATTR: &[u8] = b"user.overlay.opaque";

/// The extended attribute of a directory that the layer does not carry itself: it exists in the
/// index only because something in it does, and what lies below gives its owner, mode and time.
/// Overlayfs hides it, like all of `user.overlay.`.
pub const IMPLIED_XATTR: &[u8] = b"user.overlay.strata.implied";

/// The extended attribute of a directory with whiteouts. By it overlayfs knows to leave them out
/// of listings also where nothing lies below the directory.
pub const WHITEOUTS_XATTR: &[u8] = b"user.overlay.origin";

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
