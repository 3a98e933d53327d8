//! Structures of EROFS, little-endian.
//! [Kernel documentation](https://docs.kernel.org/filesystems/erofs.html)

use crate::Timestamp;

/// Blocks as long as those of tar, so that every content in the tar begins at one.
pub(crate) const BLOCK_SIZE: u64 = 512;
pub(crate) const BLOCK_BITS: u8 = 9;
/// Where the superblock is.
pub(crate) const SUPERBLOCK_OFFSET: u64 = 1024;
pub(crate) const SUPERBLOCK_SIZE: usize = 128;
/// Node numbers count slots of this size.
pub(crate) const SLOT_SIZE: u64 = 32;
const MAGIC: u32 = 0xe0f5_e1e2;
const COMPAT_CHECKSUM: u32 = 1;
const COMPAT_MTIME: u32 = 2;
const INCOMPAT_CHUNKED_FILE: u32 = 4;
const INCOMPAT_DEVICE_TABLE: u32 = 8;

/// File type bits of a mode.
pub(crate) const S_IFMT: u16 = 0o170_000;
pub(crate) const S_IFIFO: u16 = 0o010_000;
pub(crate) const S_IFCHR: u16 = 0o020_000;
pub(crate) const S_IFDIR: u16 = 0o040_000;
pub(crate) const S_IFBLK: u16 = 0o060_000;
pub(crate) const S_IFREG: u16 = 0o100_000;
pub(crate) const S_IFLNK: u16 = 0o120_000;

/// The volume name of an index in which every directory but the root is described by the tar.
const NAME: &[u8; 16] = b"strata-1\0\0\0\0\0\0\0\0";
/// The volume name of an index with implied directories.
const NAME_IMPLIED: &[u8; 16] = b"strata-1-gaps\0\0\0";

/// What is told apart of superblocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) root_nid: u16,
    pub(crate) inodes: u64,
    /// The time of compact inodes.
    pub(crate) build_time: Timestamp,
    pub(crate) blocks: u32,
    pub(crate) meta_block: u32,
    /// The length of the tar, in blocks.
    pub(crate) tar_blocks: u32,
    /// A directory other than the root is implied.
    pub(crate) has_implied: bool,
}

/// The superblock's block.
pub(crate) type SuperblockBytes = [u8; 512];

impl Superblock {
    pub(crate) fn encode(&self) -> SuperblockBytes {
        let mut bytes = [0; 512];
        let mut put = |offset: usize, field: &[u8]| {
            bytes[offset..offset + field.len()].copy_from_slice(field);
        };
        put(0, &MAGIC.to_le_bytes());
        put(8, &(COMPAT_CHECKSUM | COMPAT_MTIME).to_le_bytes());
        put(12, &[BLOCK_BITS]);
        put(14, &self.root_nid.to_le_bytes());
        put(16, &self.inodes.to_le_bytes());
        put(24, &self.build_time.seconds.to_le_bytes());
        put(32, &self.build_time.nanoseconds.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        put(40, &self.meta_block.to_le_bytes());
        put(64, if self.has_implied { NAME_IMPLIED } else { NAME });
        put(
            80,
            &(INCOMPAT_CHUNKED_FILE | INCOMPAT_DEVICE_TABLE).to_le_bytes(),
        );
        put(86, &1_u16.to_le_bytes());
        put(88, &DEVICE_SLOT.to_le_bytes());
        put(SUPERBLOCK_SIZE + 64, &self.tar_blocks.to_le_bytes());
        let checksum = crc32c(&bytes);
        bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a superblock of ours; `None` when it is not.
    pub(crate) fn decode(bytes: &SuperblockBytes) -> Option<Self> {
        let mut unsummed = *bytes;
        unsummed[4..8].fill(0);
        if u32_at(bytes, 0) != MAGIC || u32_at(bytes, 4) != crc32c(&unsummed) {
            return None;
        }
        let incompatible = u32_at(bytes, 80);
        if bytes[12] != BLOCK_BITS
            || incompatible != (INCOMPAT_CHUNKED_FILE | INCOMPAT_DEVICE_TABLE)
            || u16_at(bytes, 86) != 1
            || u16_at(bytes, 88) != DEVICE_SLOT
        {
            return None;
        }
        let has_implied = match &bytes[64..80] {
            name if name == NAME => false,
            name if name == NAME_IMPLIED => true,
            _ => return None,
        };
        Some(Self {
            root_nid: u16_at(bytes, 14),
            inodes: u64_at(bytes, 16),
            build_time: Timestamp {
                seconds: u64_at(bytes, 24).cast_signed(),
                nanoseconds: u32_at(bytes, 32),
            },
            blocks: u32_at(bytes, 36),
            meta_block: u32_at(bytes, 40),
            tar_blocks: u32_at(bytes, SUPERBLOCK_SIZE + 64),
            has_implied,
        })
    }
}

/// The device table follows the superblock: its position in units of its entries, 128 bytes.
const DEVICE_SLOT: u16 = 9;

/// Returns `minor` and `major` as Linux stores them in 32 bits.
pub(crate) fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// Returns major and minor.
pub(crate) fn decode_device(device: u32) -> (u32, u32) {
    let major = (device & 0xf_ff00) >> 8;
    (major, (device & 0xff) | ((device >> 12) & 0xf_ff00))
}

pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    let mut field = [0; 2];
    field.copy_from_slice(&bytes[offset..offset + 2]);
    u16::from_le_bytes(field)
}

pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(field)
}

pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(field)
}

/// CRC-32C as EROFS uses it: begun with all ones and not inverted at the end.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ POLYNOMIAL
            } else {
                crc >> 1
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE_SLOT_SIZE: usize = 128;

    #[test]
    fn a_superblock_reads_back_and_a_changed_one_does_not() {
        let superblock = Superblock {
            root_nid: 2,
            inodes: 7,
            build_time: Timestamp {
                seconds: 1_700_000_000,
                nanoseconds: 5,
            },
            blocks: 9,
            meta_block: 3,
            tar_blocks: 100,
            has_implied: true,
        };
        let bytes = superblock.encode();
        assert_eq!(Superblock::decode(&bytes), Some(superblock));
        for position in 0..bytes.len() {
            let mut changed = bytes;
            changed[position] ^= 1;
            assert_eq!(Superblock::decode(&changed), None, "{position}");
        }
    }

    #[test]
    fn the_device_table_follows_the_superblock() {
        let offset = usize::from(DEVICE_SLOT) * DEVICE_SLOT_SIZE;
        assert_eq!(
            u64::try_from(offset - SUPERBLOCK_SIZE),
            Ok(SUPERBLOCK_OFFSET)
        );
    }

    #[test]
    fn checksums_are_those_of_the_kernel() {
        assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn device_numbers_survive() {
        for (major, minor) in [(0, 0), (1, 3), (8, 257), (4095, 1_048_575), (259, 0x12345)] {
            assert_eq!(decode_device(encode_device(major, minor)), (major, minor));
        }
    }
}
