//! Blobs that others send in several requests, and that outlive this process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use oci::{Descriptor, Digest, Hasher, MediaType};

use crate::blob_writer::{hash_what_is_there, is_at};
use crate::error::at;
use crate::{Store, StoreError, lock};

/// Receives a blob whose digest the sender tells at the end. It has a name of the caller's, and
/// what was written stays under it when the process dies or lets go: [`Store::find_kept_blob`]
/// goes on there. A sweep removes what nobody has written to for a week. One process at a time
/// has it.
///
/// ```text
/// start_kept_blob(name) -> write… -> drop: kept -> find_kept_blob(name) -> write… -> commit_as
///                                                                                \-> discard
/// ```
#[derive(Debug)]
pub struct KeptBlob {
    store: Store,
    path: PathBuf,
    /// Made by the first write: a blob of which nothing came leaves nothing.
    file: Option<File>,
    hasher: Hasher,
    size: u64,
}

impl KeptBlob {
    /// Returns how many bytes are there.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Gives the blob the name `expected` and records it, if that is its digest. On a mismatch
    /// the bytes are discarded.
    pub fn commit_as(
        mut self,
        media_type: &MediaType,
        expected: &Digest,
    ) -> Result<Descriptor, StoreError> {
        let found = self.hasher.clone().finish();
        if found != *expected {
            self.discard()?;
            return Err(StoreError::DigestMismatch {
                expected: *expected,
                found,
            });
        }
        if self.file.is_none() {
            self.file = Some(self.create()?);
        }
        self.store
            .name_blob(&self.path, media_type, &found, self.size)?;
        Ok(Descriptor::new(&media_type.0, found, self.size))
    }

    /// Throws away what came.
    pub fn discard(self) -> Result<(), StoreError> {
        match self.file {
            Some(_) => fs::remove_file(&self.path).map_err(at("remove", &self.path)),
            None => Ok(()),
        }
    }

    fn create(&self) -> Result<File, StoreError> {
        // No sweep may see the file before it is locked.
        let _lock = self.store.lock_shared()?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(at("create", &self.path))?;
        file.lock().map_err(at("lock", &self.path))?;
        Ok(file)
    }
}

impl Write for KeptBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = self.create().map_err(io::Error::other)?;
                self.file.insert(file)
            }
        };
        let count = file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += u64::try_from(count).unwrap_or(u64::MAX);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Store {
    /// Starts to receive a blob under `name`, which nobody has used before.
    pub fn start_kept_blob(&self, name: &Digest) -> Result<KeptBlob, StoreError> {
        self.check_writable()?;
        Ok(KeptBlob {
            store: self.clone(),
            path: self.kept_blob_path(name),
            file: None,
            hasher: Hasher::new(),
            size: 0,
        })
    }

    /// Returns what came of the blob that was started under `name`, to go on with. `None` when
    /// nothing did, and while another process has it. Reads what is there, to hash it.
    pub fn find_kept_blob(&self, name: &Digest) -> Result<Option<KeptBlob>, StoreError> {
        self.check_writable()?;
        let path = self.kept_blob_path(name);
        let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at("open", &path)(error)),
        };
        // Another process may have it, have given it its name, or sweep it.
        if !lock::try_exclusive(&file, &path)? || !is_at(&file, &path)? {
            return Ok(None);
        }
        let (hasher, size) = hash_what_is_there(&mut file, &path)?;
        Ok(Some(KeptBlob {
            store: self.clone(),
            path,
            file: Some(file),
            hasher,
            size,
        }))
    }

    /// The end of the name makes a sweep keep it for a while.
    fn kept_blob_path(&self, name: &Digest) -> PathBuf {
        self.ingest_dir()
            .join(format!("upload-{}.blob", name.hex()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().expect("a directory");
        let (root, run) = (directory.path().join("root"), directory.path().join("run"));
        let store = Store::open(&root, &run).expect("a store");
        (directory, store)
    }

    fn files(store: &Store) -> usize {
        fs::read_dir(store.ingest_dir()).expect("there").count()
    }

    #[test]
    fn what_came_is_found_again_and_becomes_the_blob() {
        let (_directory, store) = store();
        let (name, digest) = (Digest::of(b"a name"), Digest::of(b"hello world"));
        let media_type = MediaType::from(MediaType::OCI_LAYER_GZIP);
        assert!(store.find_kept_blob(&name).expect("looked").is_none());
        let mut blob = store.start_kept_blob(&name).expect("started");
        assert_eq!(files(&store), 0, "nothing came yet");
        blob.write_all(b"hello ").expect("written");
        let taken = store.find_kept_blob(&name).expect("looked");
        assert!(taken.is_none(), "another has it");
        drop(blob);
        store.sweep().expect("swept");
        let mut blob = store.find_kept_blob(&name).expect("looked").expect("kept");
        assert_eq!(blob.size(), 6);
        blob.write_all(b"world").expect("written");
        blob.commit_as(&media_type, &digest).expect("committed");
        assert!(store.has_blob(&digest).expect("looked"));
        assert!(store.find_kept_blob(&name).expect("looked").is_none());
        assert_eq!(files(&store), 0);
    }

    #[test]
    fn wrong_content_is_discarded_and_nothing_is_a_blob_too() {
        let (_directory, store) = store();
        let name = Digest::of(b"a name");
        let media_type = MediaType::from(MediaType::OCI_LAYER_GZIP);
        let mut blob = store.start_kept_blob(&name).expect("started");
        blob.write_all(b"hello").expect("written");
        let wrong = blob.commit_as(&media_type, &Digest::of(b"other"));
        assert!(matches!(wrong, Err(StoreError::DigestMismatch { .. })));
        assert_eq!(files(&store), 0);
        let empty = store.start_kept_blob(&name).expect("started");
        let committed = empty.commit_as(&media_type, &Digest::of(b""));
        assert_eq!(committed.expect("committed").size, 0);
        assert_eq!(files(&store), 0);
    }

    #[test]
    fn what_nobody_went_on_with_is_swept_after_a_week() {
        let (_directory, store) = store();
        let name = Digest::of(b"a name");
        let mut blob = store.start_kept_blob(&name).expect("started");
        blob.write_all(b"hello").expect("written");
        drop(blob);
        let file = File::options()
            .write(true)
            .open(store.kept_blob_path(&name));
        let old = SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
        file.expect("there").set_modified(old).expect("set");
        store.sweep().expect("swept");
        assert_eq!(files(&store), 0);
    }
}
