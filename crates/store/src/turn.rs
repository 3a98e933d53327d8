//! One at a time: what several processes would make at once is made by one of them.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::PathBuf;

use oci::Digest;

use crate::blob_writer::is_at;
use crate::error::at;
use crate::{Store, StoreError, lock};

/// The right to make a step, as long as this lives. On disk it is a locked file in `ingest`; when
/// the process dies, the next one takes it over, or a sweep removes it.
#[derive(Debug)]
pub struct Turn {
    path: PathBuf,
    file: File,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Removed while it is locked: who waits for it sees that it has another file.
        drop(fs::remove_file(&self.path));
        // A child that was forked and has yet to exec holds the file too, as with [`crate::Lock`].
        drop(self.file.unlock());
    }
}

impl Store {
    /// Takes the turn for a step by its key, unless another has it.
    pub fn try_turn(&self, key: &Digest) -> Result<Option<Turn>, StoreError> {
        self.check_writable()?;
        let path = self.turn_path(key);
        loop {
            let file = lock::open_file(&path)?;
            if !lock::try_exclusive(&file, &path)? {
                return Ok(None);
            }
            if is_at(&file, &path)? {
                return Ok(Some(Turn { path, file }));
            }
        }
    }

    /// Waits until a turn that [`Store::try_turn`] could not have might be had. Others may be
    /// faster.
    pub fn wait_for_turn(&self, key: &Digest) -> Result<(), StoreError> {
        let path = self.turn_path(key);
        match File::open(&path) {
            Ok(file) => file.lock().map_err(at("lock", &path)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(at("open", &path)(error)),
        }
    }

    fn turn_path(&self, key: &Digest) -> PathBuf {
        self.ingest_dir().join(format!("{}.step", key.hex()))
    }
}
