//! Commits, loose or packed.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::ZlibDecoder;

use super::pack;
use super::repository::read_limited;

/// The name of an object: the SHA-1 of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ObjectId(pub(super) [u8; 20]);

impl ObjectId {
    pub(super) fn from_hex(text: &[u8]) -> Option<Self> {
        let mut id = [0; 20];
        if text.len() != 2 * id.len() {
            return None;
        }
        for (byte, digits) in id.iter_mut().zip(text.chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).ok()?;
            // A sign would be taken for a number's.
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(Self(id))
    }

    pub(super) fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What is of interest in a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) tree: ObjectId,
    /// When it was committed, in seconds since 1970.
    pub(super) time: i64,
}

/// The largest commit, or part of one, that is read.
pub(super) const MAX_COMMIT: u64 = 1 << 20;
/// The longest `info/alternates`.
const MAX_ALTERNATES: u64 = 64 << 10;
/// How many directories of objects are looked at.
const MAX_DIRECTORIES: usize = 16;

/// Reads a commit from a directory of objects, or from those that it borrows from.
pub(super) fn read_commit(objects: &Path, id: &ObjectId) -> Option<Commit> {
    let directories = directories(objects);
    let found = directories
        .iter()
        .find_map(|directory| read_loose(directory, id).or_else(|| pack::read(directory, id)));
    parse_commit(&found?)
}

/// Returns the directory and the alternates that it and those name.
fn directories(objects: &Path) -> Vec<PathBuf> {
    let mut directories = vec![objects.to_owned()];
    let mut next = 0;
    while next < directories.len() {
        let list = directories[next].join("info/alternates");
        let list = read_limited(&list, MAX_ALTERNATES).unwrap_or_default();
        for line in String::from_utf8_lossy(&list).lines() {
            let directory = directories[next].join(line);
            if directories.len() < MAX_DIRECTORIES && !directories.contains(&directory) {
                directories.push(directory);
            }
        }
        next += 1;
    }
    directories
}

fn read_loose(objects: &Path, id: &ObjectId) -> Option<Vec<u8>> {
    let hex = id.hex();
    let path = objects.join(&hex[..2]).join(&hex[2..]);
    let content = inflate(read_limited(&path, MAX_COMMIT)?.as_slice())?;
    let end = content.iter().position(|byte| *byte == 0)?;
    content[..end]
        .starts_with(b"commit ")
        .then(|| content[end + 1..].to_owned())
}

/// Inflates a zlib stream, up to the largest size that a commit may have.
pub(super) fn inflate(stream: impl Read) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let mut decoder = ZlibDecoder::new(stream).take(MAX_COMMIT + 1);
    let length = decoder.read_to_end(&mut content).ok()?;
    (u64::try_from(length).ok()? <= MAX_COMMIT).then_some(content)
}

fn parse_commit(content: &[u8]) -> Option<Commit> {
    let (mut tree, mut time) = (None, None);
    let lines = content.split(|byte| *byte == b'\n');
    for line in lines.take_while(|line| !line.is_empty()) {
        if let Some(hex) = line.strip_prefix(b"tree ") {
            tree = tree.or(ObjectId::from_hex(hex));
        } else if line.starts_with(b"committer ") {
            // Names may hold anything but `>`: `committer A <a@b> 1700000000 +0100`.
            let after = line.rsplit(|byte| *byte == b'>').next()?;
            let seconds = std::str::from_utf8(after).ok()?.split_whitespace().next()?;
            time = time.or(seconds.parse().ok());
        }
    }
    Some(Commit {
        tree: tree?,
        time: time?,
    })
}
