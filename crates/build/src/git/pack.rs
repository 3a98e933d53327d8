//! Packs of objects: git's gitformat-pack(5).

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::object::{MAX_COMMIT, ObjectId, inflate};

/// git itself makes chains of at most 50.
const MAX_CHAIN: usize = 64;
const COMMIT: u8 = 1;
const OFFSET_DELTA: u8 = 6;
const NAMED_DELTA: u8 = 7;

/// Reads a commit from the packs of a directory of objects.
pub(super) fn read(objects: &Path, id: &ObjectId) -> Option<Vec<u8>> {
    let entries = fs::read_dir(objects.join("pack")).ok()?;
    let indexes = entries.flatten().map(|entry| entry.path());
    indexes
        .filter(|path| path.extension().is_some_and(|extension| extension == "idx"))
        .find_map(|index| Pack::open(&index)?.commit(id))
}

struct Pack {
    index: File,
    content: File,
    /// How many objects have an id that starts with this byte or a smaller one.
    fanout: [u32; 256],
}

/// Where the parts of an index of version 2 begin.
const FANOUT: u64 = 8;
const IDS: u64 = FANOUT + 4 * 256;
const ID_SIZE: u64 = 20;
const CHECKSUM_SIZE: u64 = 4;
const OFFSET_SIZE: u64 = 4;
const LARGE_OFFSET: u32 = 1 << 31;

impl Pack {
    fn open(index_path: &Path) -> Option<Self> {
        let index = open_regular(index_path)?;
        let mut header = [0; 8];
        index.read_exact_at(&mut header, 0).ok()?;
        if header != *b"\xfftOc\0\0\0\x02" {
            return None;
        }
        let mut table = [0; 4 * 256];
        index.read_exact_at(&mut table, FANOUT).ok()?;
        let mut fanout = [0; 256];
        for (count, bytes) in fanout.iter_mut().zip(table.chunks_exact(4)) {
            *count = u32::from_be_bytes(bytes.try_into().ok()?);
        }
        Some(Self {
            index,
            content: open_regular(&index_path.with_extension("pack"))?,
            fanout,
        })
    }

    fn commit(&self, id: &ObjectId) -> Option<Vec<u8>> {
        let mut deltas = Vec::new();
        let mut at = self.find(id)?;
        for _ in 0..MAX_CHAIN {
            let header = Header::read(&self.content, at)?;
            let content = inflate(From {
                file: &self.content,
                at: header.content,
            })?;
            match header.kind {
                Kind::Commit => return deltas.iter().rev().try_fold(content, apply),
                Kind::Delta(Base::At(base)) => at = base,
                Kind::Delta(Base::Named(base)) => at = self.find(&base)?,
            }
            deltas.push(content);
        }
        None
    }

    /// Returns where an object begins.
    fn find(&self, id: &ObjectId) -> Option<u64> {
        let first = usize::from(id.0[0]);
        let mut low = match first {
            0 => 0,
            _ => u64::from(self.fanout[first - 1]),
        };
        let mut high = u64::from(self.fanout[first]);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut found = [0; 20];
            let at = IDS + ID_SIZE * middle;
            self.index.read_exact_at(&mut found, at).ok()?;
            match ObjectId(found).cmp(id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return self.offset(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn offset(&self, number: u64) -> Option<u64> {
        let count = u64::from(self.fanout[255]);
        let offsets = IDS + (ID_SIZE + CHECKSUM_SIZE) * count;
        let mut bytes = [0; 4];
        let at = offsets + OFFSET_SIZE * number;
        self.index.read_exact_at(&mut bytes, at).ok()?;
        let offset = u32::from_be_bytes(bytes);
        if offset & LARGE_OFFSET == 0 {
            return Some(offset.into());
        }
        let large = offsets + OFFSET_SIZE * count;
        let at = large + 8 * u64::from(offset & !LARGE_OFFSET);
        let mut bytes = [0; 8];
        self.index.read_exact_at(&mut bytes, at).ok()?;
        Some(u64::from_be_bytes(bytes))
    }
}

fn open_regular(path: &Path) -> Option<File> {
    fs::metadata(path).ok()?.is_file().then_some(())?;
    File::open(path).ok()
}

/// What stands before the content of an object.
struct Header {
    kind: Kind,
    /// Where its content begins.
    content: u64,
}

enum Kind {
    Commit,
    Delta(Base),
}

/// What a delta is applied to.
enum Base {
    At(u64),
    Named(ObjectId),
}

impl Header {
    fn read(file: &File, at: u64) -> Option<Self> {
        let mut from = From { file, at };
        let first = from.byte()?;
        let mut last = first;
        // The size is told by the stream itself.
        while last & 0x80 != 0 {
            last = from.byte()?;
        }
        let kind = match first >> 4 & 7 {
            COMMIT => Kind::Commit,
            OFFSET_DELTA => {
                let mut byte = from.byte()?;
                let mut distance = u64::from(byte & 0x7f);
                while byte & 0x80 != 0 {
                    byte = from.byte()?;
                    distance = distance.checked_add(1)?.checked_mul(128)? | u64::from(byte & 0x7f);
                }
                // Nothing is based on itself.
                Kind::Delta(Base::At(at.checked_sub(distance).filter(|_| distance > 0)?))
            }
            NAMED_DELTA => {
                let mut id = [0; 20];
                from.read_exact(&mut id).ok()?;
                Kind::Delta(Base::Named(ObjectId(id)))
            }
            _ => return None,
        };
        Some(Self {
            kind,
            content: from.at,
        })
    }
}

/// A file, read from a place on.
struct From<'a> {
    file: &'a File,
    at: u64,
}

impl From<'_> {
    fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        self.read_exact(&mut byte).ok()?;
        Some(byte[0])
    }
}

impl Read for From<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.at)?;
        let read = u64::try_from(length).map_err(io::Error::other)?;
        self.at = self
            .at
            .checked_add(read)
            .ok_or(io::ErrorKind::InvalidData)?;
        Ok(length)
    }
}

/// Applies a delta: instructions to copy from the base and to insert.
fn apply(base: Vec<u8>, delta: &Vec<u8>) -> Option<Vec<u8>> {
    let mut rest = delta.as_slice();
    let (_base_size, _result_size) = (size(&mut rest)?, size(&mut rest)?);
    let mut result = Vec::new();
    while let Some((instruction, after)) = rest.split_first() {
        rest = after;
        if instruction & 0x80 == 0 {
            let (inserted, after) = rest.split_at_checked(usize::from(*instruction))?;
            result.extend_from_slice(inserted);
            rest = after;
        } else {
            let mut number = |bits: std::ops::Range<u32>| {
                let mut value = 0_usize;
                for (place, bit) in bits.enumerate() {
                    if instruction >> bit & 1 != 0 {
                        let (byte, after) = rest.split_first()?;
                        value |= usize::from(*byte) << (8 * place);
                        rest = after;
                    }
                }
                Some(value)
            };
            let offset = number(0..4)?;
            let size = match number(4..7)? {
                0 => 0x1_0000,
                size => size,
            };
            result.extend_from_slice(base.get(offset..offset.checked_add(size)?)?);
        }
        if u64::try_from(result.len()).ok()? > MAX_COMMIT {
            return None;
        }
    }
    Some(result)
}

/// Reads a number of 7 bits a byte, the lowest first.
fn size(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for place in 0..9 {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
