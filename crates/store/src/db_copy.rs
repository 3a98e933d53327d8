//! A second copy of the database, and checksums of its pages.
//!
//! SQLite has no checksums: a bit that flips in a row changes it silently. So what goes from the
//! write-ahead log into `db.sqlite` goes into `db.sqlite.copy` first, and the digest of each page
//! into `db.sqlite.sums`; nothing else writes to `db.sqlite`. A page that is not in the log is right
//! when it has the digest in the sums, and can be taken from the copy when it has not.
//!
//! ```text
//! db.sqlite.sums   "strata sums 1\n", then as 32-bit numbers, the lowest byte first: page size,
//!                  pages, two salts of the log; the first 16 bytes of the SHA-256 of each page;
//!                  the SHA-256 of all that
//! ```
//!
//! The salts tell which log the sums were written with, or which one followed it at once. Another one
//! means that another program (`sqlite3`, an older strata) has written to the database, and
//! the sums say nothing. What any program writes from this very log into `db.sqlite` does no harm: its
//! pages are read from the log until that begins anew.
//!
//! Killed at any point, this can be done again. The sums are of the database with the whole log, and
//! on disk before a page of it is in `db.sqlite`.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use oci::Digest;
use rusqlite::{Transaction, TransactionBehavior};

use crate::db::{self, Missing};
use crate::error::{at, is_disk_full};
use crate::wal::Wal;
use crate::{Store, StoreError, Timestamp};

const MAGIC: &[u8] = b"strata sums 1\n";
const HEADER: usize = MAGIC.len() + 16;
const SUM: usize = 16;
const DIGEST: usize = 32;

/// A log that is longer than this is written into the database by whoever made it so: 16 MiB.
const LONGEST_LOG: u64 = 16 << 20;

/// The paths of the database's files.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub(crate) database: PathBuf,
    pub(crate) wal: PathBuf,
    pub(crate) copy: PathBuf,
    pub(crate) sums: PathBuf,
}

impl Paths {
    pub(crate) fn of(root: &Path) -> Self {
        Self {
            database: root.join("db.sqlite"),
            wal: root.join("db.sqlite-wal"),
            copy: root.join("db.sqlite.copy"),
            sums: root.join("db.sqlite.sums"),
        }
    }
}

/// The digests of all pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) page_size: usize,
    pub(crate) salt: [u32; 2],
    pub(crate) pages: Vec<[u8; SUM]>,
}

/// What is in the file of the sums.
#[derive(Debug)]
pub(crate) enum SumsFile {
    Missing,
    Malformed,
    Read(Sums),
}

impl Sums {
    pub(crate) fn read(path: &Path) -> Result<SumsFile, StoreError> {
        match fs::read(path) {
            Ok(bytes) => Ok(Self::parse(&bytes).map_or(SumsFile::Malformed, SumsFile::Read)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(SumsFile::Missing),
            Err(error) => Err(at("read", path)(error)),
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (content, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST)?)?;
        if Digest::of(content).as_bytes() != digest || !content.starts_with(MAGIC) {
            return None;
        }
        let (header, pages) = content.split_at_checked(HEADER)?;
        let number = |index: usize| {
            let bytes = &header[MAGIC.len() + index * 4..][..4];
            u32::from_le_bytes(bytes.try_into().expect("invariant: 4 bytes"))
        };
        let pages = pages.chunks_exact(SUM);
        let sums = Self {
            page_size: usize::try_from(number(0)).ok()?,
            salt: [number(2), number(3)],
            pages: pages
                .map(|sum| sum.try_into().expect("invariant: 16 bytes"))
                .collect(),
        };
        let is_whole = u32::try_from(sums.pages.len()).is_ok_and(|count| count == number(1));
        (is_whole && sums.page_size.is_power_of_two()).then_some(sums)
    }

    fn bytes(&self) -> Vec<u8> {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = MAGIC.to_vec();
        bytes.extend(number(self.page_size));
        bytes.extend(number(self.pages.len()));
        bytes.extend(self.salt.iter().flat_map(|salt| salt.to_le_bytes()));
        bytes.extend(self.pages.iter().flatten());
        let digest = Digest::of(&bytes);
        bytes.extend(digest.as_bytes());
        bytes
    }

    /// Writes the file in one step, on disk on return.
    fn write(&self, path: &Path) -> Result<(), StoreError> {
        let partial = path.with_extension("sums-partial");
        let mut file = private(&partial, true)?;
        file.write_all(&self.bytes())
            .and_then(|()| file.sync_all())
            .map_err(at("write", &partial))?;
        fs::rename(&partial, path).map_err(at("rename", &partial))
    }

    /// Tells whether nothing but strata has written to the database since.
    pub(crate) fn are_of(&self, wal: Option<&Wal>) -> bool {
        wal.is_some_and(|wal| wal.salt == self.salt)
    }

    /// Returns the offset of a page that is numbered from 1.
    pub(crate) fn offset(&self, page: u32) -> u64 {
        let size = u64::try_from(self.page_size).unwrap_or(u64::MAX);
        u64::from(page.saturating_sub(1)).saturating_mul(size)
    }

    /// Reads a page of a file; `None` when it is not what its sum says or not there.
    pub(crate) fn page(&self, file: &File, page: u32) -> Option<Vec<u8>> {
        let index = usize::try_from(page.checked_sub(1)?).ok()?;
        let mut bytes = vec![0; self.page_size];
        file.read_exact_at(&mut bytes, self.offset(page)).ok()?;
        (self.pages.get(index)? == &sum(&bytes)).then_some(bytes)
    }

    /// Finds the bit of a page that has changed, if it is one: 80 ms for 4 KiB.
    pub(crate) fn mended(&self, file: &File, page: u32) -> Option<Vec<u8>> {
        let index = usize::try_from(page.checked_sub(1)?).ok()?;
        let wanted = self.pages.get(index)?;
        let mut bytes = vec![0; self.page_size];
        file.read_exact_at(&mut bytes, self.offset(page)).ok()?;
        for position in 0..bytes.len() {
            for bit in 0..8 {
                bytes[position] ^= 1 << bit;
                if &sum(&bytes) == wanted {
                    return Some(bytes);
                }
                bytes[position] ^= 1 << bit;
            }
        }
        None
    }

    /// Returns the pages, from 1, that are not in the log and not what their sums say.
    pub(crate) fn wrong_pages(&self, file: &File, wal: Option<&Wal>) -> Vec<u32> {
        let count = u32::try_from(self.pages.len()).unwrap_or(u32::MAX);
        (1..=count)
            .filter(|page| !wal.is_some_and(|wal| wal.has(*page)))
            .filter(|page| self.page(file, *page).is_none())
            .collect()
    }
}

fn sum(page: &[u8]) -> [u8; SUM] {
    let digest = Digest::of(page);
    let (start, _) = digest.as_bytes().split_at(SUM);
    start.try_into().expect("invariant: 16 of 32 bytes")
}

fn private(path: &Path, is_new: bool) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(is_new)
        .mode(0o600)
        .open(path)
        .map_err(at("open", path))
}

/// How often a checkpoint that others have overtaken is made again.
const TRIES: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checkpoint {
    Done,
    /// Others wrote before the log could begin anew: the sums are of a log that was.
    Overtaken,
}

/// Which log, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    salt: [u32; 2],
    committed: usize,
}

impl Mark {
    fn of(wal: &Wal) -> Self {
        Self {
            salt: wal.salt,
            committed: wal.committed,
        }
    }
}

impl Store {
    /// Writes the log into the database if it has become very long: usually a detached process
    /// does it before.
    pub(crate) fn shorten_long_log(&self) -> Result<(), StoreError> {
        let log = fs::metadata(self.root().join("db.sqlite-wal"));
        match log.is_ok_and(|log| log.len() > LONGEST_LOG) {
            true => self.shorten_log(),
            false => Ok(()),
        }
    }

    /// Moves what is in the log to its place. On a full disk the copy makes way: it is made again
    /// later.
    pub(crate) fn shorten_log(&self) -> Result<(), StoreError> {
        match self.checkpoint() {
            Err(error) if is_disk_full(&error) => {}
            result => return result,
        }
        let paths = Paths::of(self.root());
        for path in [&paths.sums, &paths.copy] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(at("remove", path)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        self.read(|connection| {
            // Busy readers make this incomplete, which is no failure.
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            Ok(())
        })
    }

    /// Writes what is in the log into the copy, the sums and the database, and has the log begin
    /// anew unless somebody reads it. Does nothing on file systems where there is no log, and when the
    /// log is damaged: fsck tells that.
    fn checkpoint(&self) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            if self.try_checkpoint()? == Checkpoint::Done {
                break;
            }
        }
        Ok(())
    }

    fn try_checkpoint(&self) -> Result<Checkpoint, StoreError> {
        let paths = Paths::of(self.root());
        let Some(written) = self.write_log(&paths)? else {
            return Ok(Checkpoint::Done);
        };
        // The first writer after that has the log begin anew, and cuts it.
        let is_ours = self.write_durably(|tx| {
            let wal = Wal::read(&paths.wal)?;
            let is_same = wal.is_some_and(|wal| Mark::of(&wal) == written);
            if is_same {
                note_checkpoint(tx)?;
            }
            Ok(is_same)
        })?;
        if !is_ours {
            return Ok(Checkpoint::Overtaken);
        }
        self.exclusively(|| {
            let next = written.salt[0].wrapping_add(1);
            if let Some(wal) = Wal::read(&paths.wal)?
                && wal.salt[0] == next
                && let SumsFile::Read(sums) = Sums::read(&paths.sums)?
                && sums.salt == written.salt
            {
                let salt = wal.salt;
                Sums { salt, ..sums }.write(&paths.sums)?;
            }
            Ok(())
        })?;
        Ok(Checkpoint::Done)
    }

    /// Writes the log into the copy, the sums and the database. Returns what the log is when all of it
    /// is there.
    fn write_log(&self, paths: &Paths) -> Result<Option<Mark>, StoreError> {
        self.exclusively(|| {
            let Some(wal) = Wal::read(&paths.wal)? else {
                return Ok(None);
            };
            if wal.damage.is_some() || wal.page_count == 0 {
                return Ok(None);
            }
            sync_file(&paths.wal)?;
            mirror(self.database_file()?, paths, &wal)?;
            let other = db::open(&paths.database, Missing::Refuse)?;
            let query = "PRAGMA wal_checkpoint(PASSIVE)";
            // Busy readers make this incomplete, which is no failure.
            let is_whole = other.query_row(query, [], |row| {
                let (frames, written): (i64, i64) = (row.get(1)?, row.get(2)?);
                Ok(frames == written)
            })?;
            Ok(is_whole.then(|| Mark::of(&wal)))
        })
    }

    /// Tells whether there is a log and the sums are of another one, or are not there.
    pub(crate) fn lacks_sums(&self) -> bool {
        let paths = Paths::of(self.root());
        let mut wal = [0; 24];
        let mut sums = [0; HEADER];
        let is_read = |path: &Path, bytes: &mut [u8]| {
            File::open(path).is_ok_and(|file| file.read_exact_at(bytes, 0).is_ok())
        };
        let numbers = |bytes: &[u8], order: fn([u8; 4]) -> u32| {
            let mut numbers = bytes.chunks_exact(4);
            let mut next = || numbers.next().and_then(|number| number.try_into().ok());
            [next().map(order), next().map(order)]
        };
        is_read(&paths.wal, &mut wal)
            && (!is_read(&paths.sums, &mut sums)
                || numbers(&wal[16..], u32::from_be_bytes)
                    != numbers(&sums[HEADER - 8..], u32::from_le_bytes))
    }

    /// Makes the copy and the sums anew when the sums are not there, or are of another log.
    pub fn renew_database_copy(&self) -> Result<(), StoreError> {
        if !self.lacks_sums() {
            return Ok(());
        }
        // So that there is something in the log.
        self.write_durably(note_checkpoint)?;
        self.checkpoint()
    }

    /// Does `work` while no other process writes to the database. Nothing is written by it.
    fn exclusively<T>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.read(|connection| {
            let behavior = TransactionBehavior::Immediate;
            let tx = Transaction::new_unchecked(connection, behavior)?;
            let value = work()?;
            tx.rollback()?;
            Ok(value)
        })
    }
}

fn note_checkpoint(tx: &Transaction<'_>) -> Result<(), StoreError> {
    let query = "INSERT OR REPLACE INTO meta (key, value) VALUES ('checkpoint', ?1)";
    tx.execute(query, [Timestamp::now().0.to_string()])?;
    Ok(())
}

/// Brings copy and sums to what the database is with all of its log.
fn mirror(database: &File, paths: &Paths, wal: &Wal) -> Result<(), StoreError> {
    let known = match Sums::read(&paths.sums)? {
        SumsFile::Read(sums) if sums.are_of(Some(wal)) && sums.page_size == wal.page_size => {
            Some(sums)
        }
        _ => None,
    };
    let copy = private(&paths.copy, known.is_none())?;
    let mut sums = match known {
        Some(sums) => Sums {
            salt: wal.salt,
            ..sums
        },
        None => Sums {
            page_size: wal.page_size,
            salt: wal.salt,
            pages: copy_all(database, &copy, wal)?,
        },
    };
    let count = usize::try_from(wal.page_count).unwrap_or(usize::MAX);
    sums.pages.resize(count, [0; SUM]);
    for (page, bytes) in wal.pages() {
        let index = usize::try_from(page).unwrap_or(usize::MAX);
        let Some(place) = index
            .checked_sub(1)
            .and_then(|index| sums.pages.get_mut(index))
        else {
            continue;
        };
        *place = sum(bytes);
        copy.write_all_at(bytes, sums.offset(page))
            .map_err(at("write", &paths.copy))?;
    }
    copy.set_len(sums.offset(wal.page_count.saturating_add(1)))
        .and_then(|()| copy.sync_data())
        .map_err(at("write", &paths.copy))?;
    sums.write(&paths.sums)
}

/// Copies the database's file. Returns the sums of its pages.
fn copy_all(database: &File, copy: &File, wal: &Wal) -> Result<Vec<[u8; SUM]>, StoreError> {
    let path = Path::new("db.sqlite");
    let mut page = vec![0; wal.page_size];
    let mut sums = Vec::new();
    let mut offset = 0;
    loop {
        match database.read_exact_at(&mut page, offset) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(sums),
            Err(error) => return Err(at("read", path)(error)),
        }
        copy.write_all_at(&page, offset).map_err(at("copy", path))?;
        sums.push(sum(&page));
        offset += u64::try_from(page.len()).unwrap_or(0);
    }
}

fn sync_file(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|file| file.sync_data())
        .map_err(at("sync", path))
}
