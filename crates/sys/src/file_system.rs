//! What kind of file system a directory is on.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::FsWord;

/// A kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    name: &'static str,
    nature: Nature,
}

/// What a store has to know of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    /// A disk of this machine.
    Local,
    /// In memory: gone after a reboot.
    Memory,
    /// Over the network or served by a process, where processes cannot be sure of sharing memory
    /// and locks. Overlayfs refuses an upper directory on it.
    Remote,
    /// Local, but overlayfs refuses an upper directory on it (`ovl_dentry_weird` and
    /// `ovl_dentry_remote` of the kernel).
    NoUpper,
}

/// `linux/magic.h` and statfs(2); the names are those that docker shows.
const KNOWN: [(FsWord, &str, Nature); 24] = [
    (0xef53, "extfs", Nature::Local),
    (0x5846_5342, "xfs", Nature::Local),
    (0x9123_683e, "btrfs", Nature::Local),
    (0xf2f5_2010, "f2fs", Nature::Local),
    (0x2fc1_2fc1, "zfs", Nature::Local),
    (0xca45_1a4e, "bcachefs", Nature::Local),
    (0x0102_1994, "tmpfs", Nature::Memory),
    (0x8584_58f6, "ramfs", Nature::Memory),
    (0x6969, "nfs", Nature::Remote),
    (0x517b, "smb", Nature::Remote),
    (0xff53_4d42, "cifs", Nature::Remote),
    (0xfe53_4d42, "smb2", Nature::Remote),
    (0x6573_5546, "fuse", Nature::Remote),
    (0x0102_1997, "9p", Nature::Remote),
    (0x00c3_6400, "ceph", Nature::Remote),
    (0x5346_414f, "afs", Nature::Remote),
    (0x7375_7245, "coda", Nature::Remote),
    (0x0bd0_0bd0, "lustre", Nature::Remote),
    (0x794c_7630, "overlayfs", Nature::NoUpper),
    (0xf15f, "ecryptfs", Nature::NoUpper),
    (0x4d44, "vfat", Nature::NoUpper),
    (0x2011_bab0, "exfat", Nature::NoUpper),
    (0x7366_746e, "ntfs3", Nature::NoUpper),
    (0x4244, "hfs", Nature::NoUpper),
];

impl FileSystem {
    /// Returns what `path` is on.
    pub fn of(path: &Path) -> io::Result<Self> {
        let magic = rustix::fs::fstatfs(File::open(path)?)?.f_type;
        let known = KNOWN.iter().find(|known| known.0 == magic);
        let (_, name, nature) = known.copied().unwrap_or((0, "<unknown>", Nature::Local));
        Ok(Self { name, nature })
    }

    /// Returns the name that docker shows for it.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Tells whether processes cannot be sure of sharing memory and locks in it.
    pub fn is_remote(self) -> bool {
        self.nature == Nature::Remote
    }

    /// Tells whether it is in memory: gone after a reboot.
    pub fn is_memory(self) -> bool {
        self.nature == Nature::Memory
    }

    /// Tells whether overlayfs takes a directory on it as its upper one.
    pub fn can_be_upper(self) -> bool {
        matches!(self.nature, Nature::Local | Nature::Memory)
    }
}
