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
pub(super) struct Remembered<P = Vec<u8>> {
    /// The path in the context.
    pub(super) path: P,
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

    /// Returns it with a path that is elsewhere.
    pub(super) fn borrowed(&self) -> Remembered<&[u8]> {
        Remembered {
            path: &self.path,
            size: self.size,
            mtime: self.mtime,
            ctime: self.ctime,
            inode: self.inode,
            mode: self.mode,
            digest: self.digest,
        }
    }
}

impl<P> Remembered<P> {
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

/// What was remembered, as it was read: a context has many files, and few of them are asked for by
/// name.
#[derive(Debug, Default)]
pub(super) struct StatCache {
    bytes: Vec<u8>,
    /// Where the entries begin, sorted by path.
    starts: Vec<usize>,
}

impl StatCache {
    /// Finds a file. `next` is where it is likely to be, and becomes where the one after it is: who
    /// asks in order does not search.
    pub(super) fn find(&self, path: &[u8], next: &mut usize) -> Option<Remembered<&[u8]>> {
        let is_there = |at: &usize| self.path(*at) == Some(path);
        let at = match Some(*next).filter(is_there) {
            Some(at) => at,
            None => {
                let compare =
                    |start: &usize| path_at(&self.bytes, *start).unwrap_or_default().cmp(path);
                self.starts.binary_search_by(compare).ok()?
            }
        };
        *next = at + 1;
        self.get(at)
    }

    /// Returns all entries, sorted by path.
    pub(super) fn iter(&self) -> impl Iterator<Item = Remembered<&[u8]>> {
        (0..self.starts.len()).filter_map(|at| self.get(at))
    }

    fn path(&self, at: usize) -> Option<&[u8]> {
        path_at(&self.bytes, *self.starts.get(at)?)
    }

    fn get(&self, at: usize) -> Option<Remembered<&[u8]>> {
        let mut reader = Reader(self.bytes.get(*self.starts.get(at)?..)?);
        reader.entry()
    }
}

fn path_at(bytes: &[u8], start: usize) -> Option<&[u8]> {
    Reader(bytes.get(start..)?).path()
}

/// Reads a cache. A missing, damaged or foreign file is an empty cache.
pub(super) fn read(path: &Path) -> StatCache {
    let small = fs::metadata(path).is_ok_and(|metadata| metadata.len() <= MAX_SIZE);
    match fs::read(path) {
        Ok(bytes) if small => decode(bytes).unwrap_or_default(),
        Ok(_) | Err(_) => StatCache::default(),
    }
}

/// Replaces a cache atomically; `entries` are sorted by path.
pub(super) fn write(path: &Path, entries: &[Remembered<&[u8]>]) -> io::Result<()> {
    let bytes = encode(entries);
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}

fn encode(entries: &[Remembered<&[u8]>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + entries.len() * 160);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    let count = u64::try_from(entries.len()).expect("invariant: a length fits in 64 bits");
    out.extend_from_slice(&count.to_le_bytes());
    for entry in entries {
        let length = u32::try_from(entry.path.len()).expect("invariant: a path is short");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(entry.path);
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

fn decode(bytes: Vec<u8>) -> Option<StatCache> {
    let (body, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_SIZE)?)?;
    if Digest::of(body).as_bytes() != digest {
        return None;
    }
    let mut reader = Reader(body);
    if reader.bytes(MAGIC.len())? != MAGIC || reader.u32()? != VERSION {
        return None;
    }
    let count = reader.u64()?;
    let mut starts = Vec::new();
    let mut last: &[u8] = &[];
    for number in 0..count {
        starts.push(body.len() - reader.0.len());
        let path = reader.entry()?.path;
        if number > 0 && path <= last {
            return None;
        }
        last = path;
    }
    let is_whole = reader.0.is_empty();
    is_whole.then_some(StatCache { bytes, starts })
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

    fn path(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.bytes(length)
    }

    fn entry(&mut self) -> Option<Remembered<&'a [u8]>> {
        Some(Remembered {
            path: self.path()?,
            size: self.u64()?,
            mtime: self.time()?,
            ctime: self.time()?,
            inode: (self.u64()?, self.u64()?),
            mode: self.u32()?,
            digest: Digest::from_bytes(self.array()?),
        })
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
        let mut entries = [entry(), entry(), entry()];
        for (entry, path) in entries.iter_mut().zip([&b"a"[..], b"a-b", b"a/b"]) {
            entry.path = path.to_vec();
        }
        let borrowed: Vec<_> = entries.iter().map(Remembered::borrowed).collect();
        let bytes = encode(&borrowed);
        let cache = decode(bytes.clone()).expect("as written");
        assert!(cache.iter().eq(borrowed.iter().cloned()));
        let mut next = 0;
        for path in [&b"a"[..], b"a/b", b"a-b", b"a/b", b"a"] {
            let found = cache.find(path, &mut next);
            assert_eq!(found.map(|entry| entry.path), Some(path));
        }
        assert_eq!(cache.find(b"b", &mut next), None);
        let empty = decode(encode(&[])).expect("as written");
        assert_eq!(empty.iter().count(), 0);
        let unsorted = encode(&[borrowed[1].clone(), borrowed[0].clone()]);
        assert!(decode(unsorted).is_none());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(decode(damaged).is_none(), "byte {at}");
            assert!(decode(bytes[..at].to_vec()).is_none(), "cut at {at}");
        }
    }
}
