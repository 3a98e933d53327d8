//! Contents of files: each is one chunk, of the tar or of the index itself.

use super::format::{BLOCK_BITS, BLOCK_SIZE, u16_at, u32_at};
use crate::contents::Data;

/// The length of a chunk's index.
pub(crate) const INDEX_SIZE: u64 = 8;

/// Chunk format: the bits of the chunk's size beyond a block's, and full indexes.
const BITS_MASK: u16 = 0x1f;
const FULL_INDEXES: u16 = 0x20;
const DEVICE_INDEX: u16 = 0;
const DEVICE_TAR: u16 = 1;

/// Returns where the index of the chunk is behind an inode that ends at `end`.
pub(crate) fn offset_after(end: u64) -> u64 {
    end.next_multiple_of(INDEX_SIZE)
}

/// Returns the format of the one chunk of a file of `size` bytes.
pub(crate) fn format(size: u64) -> u16 {
    let bits = size.max(BLOCK_SIZE).next_power_of_two().trailing_zeros();
    let bits = u16::try_from(bits).expect("invariant: at most 64");
    (bits - u16::from(BLOCK_BITS)) | FULL_INDEXES
}

/// Tells whether `format` is that of one chunk for `size` bytes.
pub(crate) fn is_whole(format: u32, size: u64) -> bool {
    let Ok(format) = u16::try_from(format) else {
        return false;
    };
    let bits = u32::from(format & BITS_MASK) + u32::from(BLOCK_BITS);
    format & !BITS_MASK == FULL_INDEXES && size <= 1 << bits
}

/// Returns the index of a chunk; `None` when its address has more than 32 bits.
pub(crate) fn encode(data: Data) -> Option<[u8; 8]> {
    let (device, offset) = match data {
        Data::Index(offset) => (DEVICE_INDEX, offset),
        Data::Tar(offset) => (DEVICE_TAR, offset),
    };
    let block = u32::try_from(offset / BLOCK_SIZE).ok()?;
    let mut index = [0; 8];
    index[2..4].copy_from_slice(&device.to_le_bytes());
    index[4..8].copy_from_slice(&block.to_le_bytes());
    Some(index)
}

/// Reads the index of a chunk; `None` when it is not one of ours.
pub(crate) fn decode(index: [u8; 8]) -> Option<Data> {
    let offset = u64::from(u32_at(&index, 4)) * BLOCK_SIZE;
    match u16_at(&index, 2) {
        DEVICE_INDEX => Some(Data::Index(offset)),
        DEVICE_TAR => Some(Data::Tar(offset)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_chunk_holds_the_whole_file() {
        for size in [
            1,
            511,
            512,
            513,
            1024,
            1025,
            70_000,
            1 << 31,
            (1 << 40) - 1,
            1 << 40,
        ] {
            let format = u32::from(format(size));
            assert!(is_whole(format, size), "{size}");
            assert!(size <= 512 || !is_whole(format, size * 2), "{size}");
        }
    }

    #[test]
    fn addresses_read_back() {
        for data in [
            Data::Tar(512),
            Data::Index(4096),
            Data::Tar((1 << 41) - 512),
        ] {
            assert_eq!(encode(data).and_then(decode), Some(data));
        }
        assert_eq!(encode(Data::Tar(1 << 41)), None);
    }
}
