//! The write-ahead log of the database, read as bytes.
//!
//! SQLite takes a frame that is not what its checksum says for the end of the log: what was
//! committed after it is silently gone. So a check reads the log itself, with the frames that
//! follow. The format is <https://sqlite.org/fileformat2.html#walformat>.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use crate::StoreError;
use crate::error::at;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The last bit says in which order the checksums take bytes.
const MAGIC: u32 = 0x377f_0682;

/// A log that was read whole.
#[derive(Debug)]
pub(crate) struct Wal {
    bytes: Vec<u8>,
    /// Counts how often the log began anew, and a random number.
    pub(crate) salt: [u32; 2],
    pub(crate) page_size: usize,
    /// The last committed content of each page, as the offset in `bytes`.
    pages: BTreeMap<u32, usize>,
    /// How many pages the database has after the last commit; 0 when there was none.
    pub(crate) page_count: u32,
    /// How many frames are committed.
    pub(crate) committed: usize,
    pub(crate) damage: Option<WalDamage>,
}

/// A frame that is wrong although committed ones follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WalDamage {
    /// From 1; 0 is the header.
    pub(crate) frame: u32,
    /// How many frames were committed.
    pub(crate) frames: u32,
}

impl Wal {
    /// Reads the log in the file; `None` when there is nothing in it.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(mut file) => file.read_to_end(&mut bytes).map_err(at("read", path))?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at("open", path)(error)),
        };
        Ok(Self::parse(bytes))
    }

    /// Reads a log; `None` when it is too short to be one: its writer was killed.
    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let header = bytes.get(..HEADER)?;
        let magic = word(header, 0);
        let order = match magic & 1 {
            0 => u32::from_le_bytes,
            _ => u32::from_be_bytes,
        };
        let checksum = sum([0, 0], &header[..HEADER - 8], order);
        let page_size = usize::try_from(word(header, 2)).unwrap_or(0);
        let mut wal = Self {
            salt: [word(header, 4), word(header, 5)],
            page_size,
            pages: BTreeMap::new(),
            page_count: 0,
            committed: 0,
            damage: None,
            bytes: Vec::new(),
        };
        let is_right = magic & !1 == MAGIC
            && checksum == [word(header, 6), word(header, 7)]
            && page_size.is_power_of_two()
            && (512..=65536).contains(&page_size);
        if is_right {
            wal.frames(&bytes[HEADER..], checksum, order);
        } else {
            wal.damage = Some(WalDamage {
                frame: 0,
                frames: 0,
            });
        }
        wal.bytes = bytes;
        Some(wal)
    }

    fn frames(&mut self, bytes: &[u8], mut checksum: [u32; 2], order: fn([u8; 4]) -> u32) {
        let mut uncommitted = Vec::new();
        let mut wrong = None;
        let frame_size = FRAME_HEADER + self.page_size;
        for (position, frame) in bytes.chunks_exact(frame_size).enumerate() {
            let number = u32::try_from(position + 1).unwrap_or(u32::MAX);
            let is_ours = [word(frame, 2), word(frame, 3)] == self.salt;
            if !is_ours && wrong.is_none() {
                // What was here before the log began anew, or a frame whose salt is wrong.
                wrong = Some(number);
            }
            let commit = word(frame, 1);
            if let Some(wrong) = wrong {
                // Of a transaction that was not committed and that a shorter one has overwritten,
                // the end is never there.
                if is_ours && commit != 0 {
                    self.damage = Some(WalDamage {
                        frame: wrong,
                        frames: number,
                    });
                }
                continue;
            }
            let found = sum(checksum, &frame[..8], order);
            let found = sum(found, &frame[FRAME_HEADER..], order);
            if found != [word(frame, 4), word(frame, 5)] {
                wrong = Some(number);
                if commit != 0 {
                    self.damage = Some(WalDamage {
                        frame: number,
                        frames: number,
                    });
                }
                continue;
            }
            checksum = found;
            let offset = HEADER + position * frame_size + FRAME_HEADER;
            uncommitted.push((word(frame, 0), offset));
            if commit != 0 {
                self.page_count = commit;
                self.committed = position + 1;
                self.pages.extend(uncommitted.drain(..));
            }
        }
    }

    /// Tells whether a page is in the log: what the database's own file has of it is not read.
    pub(crate) fn has(&self, page: u32) -> bool {
        self.pages.contains_key(&page)
    }

    /// Returns the pages in the log, each with its last committed content.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.pages
            .iter()
            .map(|(page, offset)| (*page, &self.bytes[*offset..*offset + self.page_size]))
    }
}

/// Returns the `index`th number of a header.
fn word(bytes: &[u8], index: usize) -> u32 {
    let bytes = bytes.get(index * 4..index * 4 + 4);
    bytes.map_or(0, |bytes| {
        u32::from_be_bytes(bytes.try_into().expect("invariant: 4 bytes"))
    })
}

fn sum(mut sum: [u32; 2], bytes: &[u8], order: fn([u8; 4]) -> u32) -> [u32; 2] {
    for pair in bytes.chunks_exact(8) {
        let number = |at: usize| {
            let bytes = &pair[at..at + 4];
            order(bytes.try_into().expect("invariant: 4 bytes"))
        };
        sum[0] = sum[0].wrapping_add(number(0)).wrapping_add(sum[1]);
        sum[1] = sum[1].wrapping_add(number(4)).wrapping_add(sum[0]);
    }
    sum
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// Returns the log of a database after three transactions, and how many pages it has.
    fn log() -> (Vec<u8>, u32) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("db");
        let connection = Connection::open(&path).expect("opened");
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; CREATE TABLE t (a);
                INSERT INTO t VALUES (randomblob(9000)); INSERT INTO t VALUES (1);",
            )
            .expect("written");
        let pages = connection.query_row("PRAGMA page_count", [], |row| row.get(0));
        let log = std::fs::read(directory.path().join("db-wal")).expect("read");
        (log, pages.expect("counted"))
    }

    #[test]
    fn the_log_of_sqlite_is_read_to_its_end() {
        let (bytes, page_count) = log();
        let wal = Wal::parse(bytes.clone()).expect("a log");
        assert_eq!((wal.page_count, wal.damage), (page_count, None));
        assert_eq!(
            wal.pages().count(),
            usize::try_from(page_count).expect("few")
        );
        let torn = bytes[..bytes.len() - 100].to_vec();
        let wal = Wal::parse(torn).expect("a log");
        assert_eq!(wal.damage, None, "the writer of the last frame was killed");
        assert!(Wal::parse(bytes[..20].to_vec()).is_none());
    }

    #[test]
    fn a_bit_that_flips_in_a_page_of_the_log_is_seen() {
        let (bytes, _) = log();
        let frame_size = FRAME_HEADER + 4096;
        let frames = (bytes.len() - HEADER) / frame_size;
        for position in (0..HEADER).chain((HEADER..bytes.len()).step_by(97)) {
            let in_frame = position.saturating_sub(HEADER) % frame_size;
            let is_last = position >= HEADER && (position - HEADER) / frame_size == frames - 1;
            // The length and salt of the very last frame: it looks like one that was never written.
            if is_last && (4..16).contains(&in_frame) {
                continue;
            }
            let mut flipped = bytes.clone();
            flipped[position] ^= 1;
            let wal = Wal::parse(flipped).expect("long enough");
            assert!(wal.damage.is_some(), "byte {position}");
        }
    }
}
