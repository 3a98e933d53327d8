//! Room that is kept for the records of commands that free space: on a full disk nothing could be
//! recorded, and so nothing be freed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::error::{at, is_disk_full};
use crate::{Store, StoreError};

/// The name of the file that takes the room.
pub(crate) const NAME: &str = "reserve";

/// What the log of a removal takes, of an image with dozens of layers. Removing more takes more,
/// but then there is something else to free first.
const SIZE: u64 = 1 << 20;

/// The index of the write-ahead log, which the first process to open the database makes anew, and
/// as much again. The index is mapped: where a block of it cannot be had, the process is killed
/// (SIGBUS). SQLite writes a byte of each page to have it, which is not enough where blocks are
/// smaller than pages.
const TO_OPEN: u64 = 64 << 10;

/// With less than this it is tried whether there is room for the index.
const LITTLE: u64 = 1 << 20;

/// Makes the file, or makes it whole again.
pub(crate) fn take(root: &Path) -> Result<(), StoreError> {
    let path = root.join(NAME);
    let failed = |error| at("write", &path)(error);
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    let there = file.metadata().map_err(failed)?.len();
    let missing = usize::try_from(SIZE.saturating_sub(there)).unwrap_or(0);
    // Written, not only allocated: not every file system can allocate. What is not zero is not
    // left out by those that compress.
    let bytes: Vec<u8> = (0..missing).map(noise).collect();
    file.write_all(&bytes).map_err(failed)
}

/// Bytes that do not compress.
fn noise(index: usize) -> u8 {
    let mut state = u64::try_from(index)
        .unwrap_or(0)
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state.to_le_bytes()[3]
}

/// Gives up `bytes` of the room at most; tells whether there were any.
fn shrink(root: &Path, bytes: u64) -> Result<bool, StoreError> {
    let path = root.join(NAME);
    let failed = |error| at("truncate", &path)(error);
    let file = match File::options().write(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    let there = file.metadata().map_err(failed)?.len();
    file.set_len(there.saturating_sub(bytes)).map_err(failed)?;
    Ok(there > 0)
}

/// Sees to it that the database can be opened, on a full disk with a part of the room.
pub(crate) fn make_room_to_open(root: &Path) -> Result<(), StoreError> {
    let status = rustix::fs::statvfs(root).map_err(|errno| at("look at", root)(errno.into()))?;
    if status.f_bavail.saturating_mul(status.f_frsize) >= LITTLE {
        return Ok(());
    }
    // Figures do not tell: file systems keep blocks that nobody gets.
    match has_room(root, TO_OPEN)? {
        true => Ok(()),
        false => shrink(root, TO_OPEN).map(drop),
    }
}

/// Tries whether `bytes` can be written.
fn has_room(root: &Path, bytes: u64) -> Result<bool, StoreError> {
    let path = root.join(NAME);
    let failed = |error| at("write", &path)(error);
    let mut file = match File::options().append(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(failed(error)),
    };
    let there = file.metadata().map_err(failed)?.len();
    let bytes = vec![1; usize::try_from(bytes).unwrap_or(0)];
    let written = file.write_all(&bytes);
    file.set_len(there).map_err(failed)?;
    Ok(written.is_ok())
}

impl Store {
    /// Does `work`, which frees space, and which must have changed nothing when it fails. On a full
    /// disk it is done again with room that was kept for that.
    pub fn freeing<T, E>(&self, mut work: impl FnMut() -> Result<T, E>) -> Result<T, E>
    where
        E: std::error::Error + From<StoreError> + 'static,
    {
        match work() {
            Err(error) if is_disk_full(&error) => {
                self.free_without_records();
                match work() {
                    Err(error) if is_disk_full(&error) && shrink(self.root(), SIZE)? => work(),
                    result => result,
                }
            }
            result => result,
        }
    }

    /// Frees what can go without a record of it. What fails now is not better later.
    fn free_without_records(&self) {
        let trash = self.empty_trash();
        let remains = self.sweep_remains();
        let log = self.shorten_log();
        drop([trash, remains, log]);
    }

    /// Takes the room again that was given up, as far as there is some.
    pub fn restore_reserve(&self) -> Result<(), StoreError> {
        match self.lacks_reserve() {
            true => match take(self.root()) {
                Err(error) if is_disk_full(&error) => Ok(()),
                result => result,
            },
            false => Ok(()),
        }
    }

    /// Tells whether some of the room was given up.
    pub fn lacks_reserve(&self) -> bool {
        fs::metadata(self.root().join(NAME)).map_or(0, |file| file.len()) < SIZE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_there_from_the_first_and_comes_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let (root, run) = (directory.path().join("root"), directory.path().join("run"));
        let length = || fs::metadata(root.join(NAME)).map_or(0, |file| file.len());
        let store = Store::open(&root, &run).expect("a store");
        assert_eq!(length(), SIZE);
        assert!(shrink(&root, TO_OPEN).expect("shrunk"));
        assert_eq!(length(), SIZE - TO_OPEN);
        assert!(store.lacks_reserve());
        assert!(has_room(&root, TO_OPEN).expect("tried"));
        assert_eq!(length(), SIZE - TO_OPEN, "a trial leaves nothing");
        store.restore_reserve().expect("restored");
        assert_eq!((length(), store.lacks_reserve()), (SIZE, false));
        assert!(shrink(&root, SIZE).expect("shrunk"));
        assert!(!shrink(&root, SIZE).expect("nothing left"));
        fs::remove_file(root.join(NAME)).expect("removed");
        assert!(!shrink(&root, SIZE).expect("none there"));
        Store::open(&root, &run).expect("a store of an earlier version");
        assert_eq!(length(), SIZE);
    }

    #[test]
    fn work_is_done_again_on_a_full_disk_only() {
        let directory = tempfile::tempdir().expect("a directory");
        let (root, run) = (directory.path().join("root"), directory.path().join("run"));
        let store = Store::open(&root, &run).expect("a store");
        let fails = |kind: io::ErrorKind| {
            let mut times = 0;
            let result: Result<(), StoreError> = store.freeing(|| {
                times += 1;
                Err(at("write", &root)(kind.into()))
            });
            assert!(result.is_err());
            times
        };
        assert_eq!(fails(io::ErrorKind::PermissionDenied), 1);
        assert!(!store.lacks_reserve());
        assert_eq!(fails(io::ErrorKind::StorageFull), 3);
        assert!(store.lacks_reserve());
    }
}
