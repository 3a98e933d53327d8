//! What is remembered of a context between builds: which content a file had when it looked as
//! it does now. `docs/build-cache.md` specifies the file.

use std::fs;
use std::io;
use std::path::Path;

use layer::Timestamp;
use oci::Digest;

use super::ContextFile;

const MAGIC: &[u8; 8] = b"strata\x00c";
const VERSION: u32 = 1;
const DIGEST_SIZE: usize = 32;
/// A file whose change is not this much older than the look at it may change again within the
/// same tick of the clock that stamps it. Kernel ticks are at most 10 ms.
const TICK_NANOSECONDS: i128 = 100_000_000;
/// The same for file systems that keep whole (FAT: even) seconds.
const COARSE_NANOSECONDS: i128 = 2_100_000_000;
/// A larger file is not read: it would not be ours.
const MAX_SIZE: u64 = 1 << 30;

/// One file, as it was when its content was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remembered {
    /// The path in the context.
    pub(super) path: Vec<u8>,
    size: u64,
    mtime: Timestamp,
    ctime: Timestamp,
    inode: (u64, u64),
    mode: u32,
    /// The digest of the content.
    pub(super) digest: Digest,
}

impl Remembered {
    /// Remembers the digest of a file that was looked at after `now`; `None` when it changed so
    /// shortly before that it could change again without a trace.
    pub(super) fn new(
        file: &ContextFile,
        size: u64,
        digest: Digest,
        now: Timestamp,
    ) -> Option<Self> {
        let slack = match file.ctime.nanoseconds {
            0 => COARSE_NANOSECONDS,
            _ => TICK_NANOSECONDS,
        };
        (nanoseconds(file.ctime) + slack < nanoseconds(now)).then(|| Self {
            path: file.path.clone(),
            size,
            mtime: file.mtime,
            ctime: file.ctime,
            inode: file.inode,
            mode: file.mode,
            digest,
        })
    }

    /// Tells whether the file still looks the same.
    pub(super) fn fits(&self, file: &ContextFile, size: u64) -> bool {
        self.size == size
            && self.mtime == file.mtime
            && self.ctime == file.ctime
            && self.inode == file.inode
            && self.mode == file.mode
    }
}

fn nanoseconds(time: Timestamp) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds)
}

/// Reads a cache, sorted by path. A missing, damaged or foreign file is an empty cache.
pub(super) fn read(path: &Path) -> Vec<Remembered> {
    let small = fs::metadata(path).is_ok_and(|metadata| metadata.len() <= MAX_SIZE);
    match fs::read(path) {
        Ok(bytes) if small => decode(&bytes).unwrap_or_default(),
        Ok(_) | Err(_) => Vec::new(),
    }
}

/// Replaces a cache atomically; `entries` are sorted by path.
pub(super) fn write(path: &Path, entries: &[Remembered]) -> io::Result<()> {
    let bytes = encode(entries);
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}

fn encode(entries: &[Remembered]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + entries.len() * 160);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    let count = u64::try_from(entries.len()).expect("invariant: a length fits in 64 bits");
    out.extend_from_slice(&count.to_le_bytes());
    for entry in entries {
        let length = u32::try_from(entry.path.len()).expect("invariant: a path is short");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&entry.path);
        out.extend_from_slice(&entry.size.to_le_bytes());
        for time in [entry.mtime, entry.ctime] {
            out.extend_from_slice(&time.seconds.to_le_bytes());
            out.extend_from_slice(&time.nanoseconds.to_le_bytes());
        }
        out.extend_from_slice(&entry.inode.0.to_le_bytes());
        out.extend_from_slice(&entry.inode.1.to_le_bytes());
        out.extend_from_slice(&entry.mode.to_le_bytes());
        out.extend_from_slice(entry.digest.as_bytes());
    }
    let digest = Digest::of(&out);
    out.extend_from_slice(digest.as_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<Vec<Remembered>> {
    let (body, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_SIZE)?)?;
    if Digest::of(body).as_bytes() != digest {
        return None;
    }
    let mut reader = Reader(body);
    if reader.bytes(MAGIC.len())? != MAGIC || reader.u32()? != VERSION {
        return None;
    }
    let count = reader.u64()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(reader.u32()?).ok()?;
        entries.push(Remembered {
            path: reader.bytes(length)?.to_vec(),
            size: reader.u64()?,
            mtime: reader.time()?,
            ctime: reader.time()?,
            inode: (reader.u64()?, reader.u64()?),
            mode: reader.u32()?,
            digest: Digest::from_bytes(reader.array()?),
        });
    }
    let sorted = entries.is_sorted_by(|a, b| a.path < b.path);
    (sorted && reader.0.is_empty()).then_some(entries)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn time(&mut self) -> Option<Timestamp> {
        Some(Timestamp {
            seconds: self.array().map(i64::from_le_bytes)?,
            nanoseconds: self.u32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use layer::EntryKind;

    use super::*;

    fn file(ctime: Timestamp) -> ContextFile {
        ContextFile {
            path: b"a/b".to_vec(),
            kind: EntryKind::File { size: 3 },
            mode: 0o644,
            mtime: ctime,
            ctime,
            inode: (1, 2),
            nlink: 1,
        }
    }

    fn at(seconds: i64, nanoseconds: u32) -> Timestamp {
        Timestamp {
            seconds,
            nanoseconds,
        }
    }

    fn entry() -> Remembered {
        Remembered::new(&file(at(5, 7)), 3, Digest::of(b"abc"), at(9, 0)).expect("not racy")
    }

    #[test]
    fn a_file_that_just_changed_is_not_remembered() {
        for (ctime, now, remembered) in [
            (at(5, 7), at(5, 8), false),
            (at(5, 7), at(5, 99_000_000), false),
            (at(5, 7), at(5, 200_000_000), true),
            (at(5, 0), at(6, 0), false),
            (at(5, 0), at(8, 0), true),
            (at(50, 7), at(6, 0), false),
        ] {
            let found = Remembered::new(&file(ctime), 3, Digest::of(b""), now);
            assert_eq!(found.is_some(), remembered, "{ctime:?} {now:?}");
        }
    }

    #[test]
    fn any_difference_of_looks_is_a_miss() {
        let entry = entry();
        let same = file(at(5, 7));
        assert!(entry.fits(&same, 3));
        assert!(!entry.fits(&same, 4));
        for other in [
            ContextFile {
                mode: 0o755,
                ..same.clone()
            },
            ContextFile {
                inode: (1, 3),
                ..same.clone()
            },
            ContextFile {
                ctime: at(6, 7),
                ..same.clone()
            },
            ContextFile {
                mtime: at(6, 7),
                ..same.clone()
            },
        ] {
            assert!(!entry.fits(&other, 3), "{other:?}");
        }
    }

    #[test]
    fn a_cache_reads_as_written_and_not_at_all_when_damaged() {
        let entries = vec![entry()];
        let bytes = encode(&entries);
        assert_eq!(decode(&bytes), Some(entries));
        assert_eq!(decode(&encode(&[])), Some(Vec::new()));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged), None, "byte {at}");
            assert_eq!(decode(&bytes[..at]), None, "cut at {at}");
        }
    }
}
