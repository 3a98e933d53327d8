//! The index: what is staged, and how the files of the work tree looked then: git's
//! gitformat-index(5).

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::object::ObjectId;
use super::repository::read_limited;

/// An index without conflicts.
#[derive(Debug)]
pub(super) struct Index {
    /// The files, sorted by path.
    pub(super) entries: Vec<Entry>,
    /// The tree that a commit of the index would have, where git has computed it.
    pub(super) tree: Option<ObjectId>,
    /// When it was written: a file that changed since in the same moment may look unchanged.
    pub(super) written: Time,
}

/// Seconds, of which git keeps 32 bits, and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(pub(super) u32, pub(super) u32);

/// A tracked file.
#[derive(Debug)]
pub(super) struct Entry {
    /// From the top of the work tree.
    pub(super) path: Vec<u8>,
    pub(super) mode: u32,
    pub(super) id: ObjectId,
    pub(super) changed: Time,
    pub(super) modified: Time,
    pub(super) inode: u32,
    pub(super) size: u32,
    /// The user has told git not to look at the file.
    pub(super) is_assumed_unchanged: bool,
}

/// A larger index is not read: it would be of a million files.
const MAX_INDEX: u64 = 128 << 20;
/// How long all paths together may be: in version 4 a small index can tell of long ones.
const MAX_PATHS: usize = 512 << 20;
const CHECKSUM_SIZE: usize = 20;

const ASSUME_VALID: u16 = 0x8000;
const EXTENDED: u16 = 0x4000;
const STAGE: u16 = 0x3000;
const NAME_LENGTH: u16 = 0x0fff;
const SKIP_WORKTREE: u16 = 0x4000;
const INTENT_TO_ADD: u16 = 0x2000;

impl Index {
    /// Reads an index; `None` when it is missing, damaged, has conflicts, or uses features that
    /// change the meaning of what is read here.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let content = read_limited(path, MAX_INDEX)?;
        let written = Time::of(metadata.mtime(), metadata.mtime_nsec());
        parse(&content, written)
    }
}

impl Time {
    /// Returns a time as the index has it.
    pub(super) fn of(seconds: i64, nanoseconds: i64) -> Self {
        let low = seconds & i64::from(u32::MAX);
        let nanoseconds = u32::try_from(nanoseconds).unwrap_or_default();
        Self(u32::try_from(low).unwrap_or_default(), nanoseconds)
    }
}

fn parse(content: &[u8], written: Time) -> Option<Index> {
    let mut rest = Rest(&content[..content.len().checked_sub(CHECKSUM_SIZE)?]);
    if rest.take(4)? != b"DIRC" {
        return None;
    }
    let version = rest.number()?;
    if !(2..=4).contains(&version) {
        return None;
    }
    let count = rest.number()?;
    let mut entries: Vec<Entry> = Vec::new();
    let mut length = 0;
    for _ in 0..count {
        let previous = entries.last().map_or(&[][..], |entry| &entry.path);
        let entry = entry(&mut rest, version, previous)?;
        length += entry.path.len();
        if length > MAX_PATHS {
            return None;
        }
        entries.push(entry);
    }
    let mut tree = None;
    while !rest.0.is_empty() {
        let signature = rest.take(4)?;
        let length = usize::try_from(rest.number()?).ok()?;
        let extension = rest.take(length)?;
        match signature {
            b"TREE" => tree = root_tree(extension),
            // Small letters mark what must be understood: split and sparse indexes.
            [first, ..] if first.is_ascii_uppercase() => {}
            _ => return None,
        }
    }
    Some(Index {
        entries,
        tree,
        written,
    })
}

fn entry(rest: &mut Rest<'_>, version: u32, previous: &[u8]) -> Option<Entry> {
    let start = rest.0.len();
    let changed = Time(rest.number()?, rest.number()?);
    let modified = Time(rest.number()?, rest.number()?);
    let (_device, inode) = (rest.number()?, rest.number()?);
    let mode = rest.number()?;
    let (_uid, _gid, size) = (rest.number()?, rest.number()?, rest.number()?);
    let id = ObjectId(rest.take(20)?.try_into().ok()?);
    let flags = rest.short()?;
    let extended = match flags & EXTENDED {
        0 => 0,
        _ => rest.short()?,
    };
    if flags & STAGE != 0 || extended & INTENT_TO_ADD != 0 {
        return None;
    }
    let path = match version {
        4 => {
            let kept = previous.len().checked_sub(rest.variable()?)?;
            let mut path = previous[..kept].to_owned();
            path.extend_from_slice(rest.until_zero()?);
            path
        }
        _ => {
            let path = match flags & NAME_LENGTH {
                NAME_LENGTH => rest.until_zero()?,
                length => {
                    let path = rest.take(length.into())?;
                    rest.take(1)?;
                    path
                }
            };
            // Entries are padded with zeros to a multiple of eight bytes.
            let length = start - rest.0.len();
            rest.take(length.next_multiple_of(8) - length)?;
            path.to_owned()
        }
    };
    Some(Entry {
        path,
        mode,
        id,
        changed,
        modified,
        inode,
        size,
        is_assumed_unchanged: flags & ASSUME_VALID != 0 || extended & SKIP_WORKTREE != 0,
    })
}

/// Reads the first entry of the cached tree: that of the whole index, with a negative number
/// when it is not known.
fn root_tree(extension: &[u8]) -> Option<ObjectId> {
    let mut rest = Rest(extension);
    if !rest.until_zero()?.is_empty() {
        return None;
    }
    let end = rest.0.iter().position(|byte| *byte == b'\n')?;
    let counts = rest.take(end + 1)?;
    if counts.starts_with(b"-") {
        return None;
    }
    Some(ObjectId(rest.take(20)?.try_into().ok()?))
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// Returns the bytes before the next zero and passes over both.
    fn until_zero(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let taken = self.take(end)?;
        self.take(1)?;
        Some(taken)
    }

    /// Reads a number as the offsets in packs are written.
    fn variable(&mut self) -> Option<usize> {
        let mut value = 0_usize;
        for place in 0.. {
            let byte = self.take(1)?[0];
            if place > 0 {
                value = value.checked_add(1)?;
            }
            value = value.checked_mul(128)? | usize::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}
