//! The fixed part of an inode, in its two sizes.

use super::format::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, u16_at, u32_at, u64_at};
use crate::Timestamp;
use crate::contents::{Inode, InodeKind};

pub(crate) const COMPACT_SIZE: usize = 32;
pub(crate) const EXTENDED_SIZE: usize = 64;

/// `i_format`: the size of the inode, and the layout of the data.
const EXTENDED: u16 = 1;
const LAYOUT_SHIFT: u16 = 1;
pub(crate) const LAYOUT_PLAIN: u16 = 0;
pub(crate) const LAYOUT_INLINE: u16 = 2;
pub(crate) const LAYOUT_CHUNKED: u16 = 4;

/// The two sizes. Compact inodes have 16 bits for owners and links, 32 for the size, and all of
/// them one time, which is in the superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Compact,
    Extended,
}

impl Extent {
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Compact => COMPACT_SIZE,
            Self::Extended => EXTENDED_SIZE,
        }
    }
}

/// The fields of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawInode {
    pub(crate) layout: u16,
    /// How long the extended attributes are, in units of their own.
    pub(crate) xattr_units: u16,
    /// File type and permission bits.
    pub(crate) mode: u16,
    pub(crate) size: u64,
    /// A block, a device or a chunk format.
    pub(crate) union: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) links: u32,
}

impl RawInode {
    /// Appends the inode; `None` when a field does not fit. `number` counts inodes, for systems
    /// whose node numbers have 32 bits.
    pub(crate) fn encode(&self, extent: Extent, number: u32, out: &mut Vec<u8>) -> Option<()> {
        let mut put = |field: &[u8]| out.extend_from_slice(field);
        let layout = self.layout << LAYOUT_SHIFT;
        let short = |number: u32| u16::try_from(number).ok().map(u16::to_le_bytes);
        match extent {
            Extent::Compact => {
                put(&layout.to_le_bytes());
                put(&self.xattr_units.to_le_bytes());
                put(&self.mode.to_le_bytes());
                put(&short(self.links)?);
                put(&u32::try_from(self.size).ok()?.to_le_bytes());
                put(&[0; 4]);
                put(&self.union.to_le_bytes());
                put(&number.to_le_bytes());
                put(&short(self.uid)?);
                put(&short(self.gid)?);
                put(&[0; 4]);
            }
            Extent::Extended => {
                put(&(layout | EXTENDED).to_le_bytes());
                put(&self.xattr_units.to_le_bytes());
                put(&self.mode.to_le_bytes());
                put(&[0; 2]);
                put(&self.size.to_le_bytes());
                put(&self.union.to_le_bytes());
                put(&number.to_le_bytes());
                put(&self.uid.to_le_bytes());
                put(&self.gid.to_le_bytes());
                put(&self.mtime.seconds.to_le_bytes());
                put(&self.mtime.nanoseconds.to_le_bytes());
                put(&self.links.to_le_bytes());
                put(&[0; 16]);
            }
        }
        Some(())
    }

    /// Reads an inode, and which of the sizes it has; `None` when `bytes` are too few.
    /// `build_time` is the time of compact ones.
    pub(crate) fn decode(bytes: &[u8], build_time: Timestamp) -> Option<(Self, Extent)> {
        if bytes.len() < COMPACT_SIZE {
            return None;
        }
        let format = u16_at(bytes, 0);
        let compact = Self {
            layout: format >> LAYOUT_SHIFT,
            xattr_units: u16_at(bytes, 2),
            mode: u16_at(bytes, 4),
            size: u64::from(u32_at(bytes, 8)),
            union: u32_at(bytes, 16),
            uid: u32::from(u16_at(bytes, 24)),
            gid: u32::from(u16_at(bytes, 26)),
            mtime: build_time,
            links: u32::from(u16_at(bytes, 6)),
        };
        if format & EXTENDED == 0 {
            return Some((compact, Extent::Compact));
        }
        if bytes.len() < EXTENDED_SIZE {
            return None;
        }
        let mtime = Timestamp {
            seconds: u64_at(bytes, 32).cast_signed(),
            nanoseconds: u32_at(bytes, 40),
        };
        let extended = Self {
            size: u64_at(bytes, 8),
            uid: u32_at(bytes, 24),
            gid: u32_at(bytes, 28),
            mtime,
            links: u32_at(bytes, 44),
            ..compact
        };
        Some((extended, Extent::Extended))
    }
}

/// Returns the file type bits of the mode.
pub(crate) fn type_bits(inode: &Inode) -> u16 {
    match inode.kind {
        InodeKind::File { .. } => S_IFREG,
        InodeKind::Directory(_) => S_IFDIR,
        InodeKind::Symlink(_) => S_IFLNK,
        InodeKind::CharDevice { .. } => S_IFCHR,
        InodeKind::BlockDevice { .. } => S_IFBLK,
        InodeKind::Fifo => S_IFIFO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sizes_read_back() {
        let build_time = Timestamp {
            seconds: 9,
            nanoseconds: 1,
        };
        let inode = RawInode {
            layout: LAYOUT_CHUNKED,
            xattr_units: 3,
            mode: S_IFREG | 0o644,
            size: 70_000,
            union: 0x27,
            uid: 1000,
            gid: 65_535,
            mtime: build_time,
            links: 2,
        };
        for extent in [Extent::Compact, Extent::Extended] {
            let mut bytes = Vec::new();
            inode.encode(extent, 1, &mut bytes).expect("fits");
            assert_eq!(bytes.len(), extent.size());
            assert_eq!(RawInode::decode(&bytes, build_time), Some((inode, extent)));
            bytes.pop();
            assert_eq!(RawInode::decode(&bytes, build_time), None);
        }
        let large = RawInode {
            uid: 65_536,
            ..inode
        };
        assert_eq!(large.encode(Extent::Compact, 1, &mut Vec::new()), None);
    }
}
