//! Blobs: content-addressed files under `blobs/sha256`.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci::{Descriptor, DiffId, Digest, MediaType};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::error::at;
use crate::{Store, StoreError, Timestamp, db, upload};

/// How long what has come of an image waits for the rest.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

impl Store {
    /// Stores a small blob.
    pub fn put_blob(&self, media_type: &MediaType, bytes: &[u8]) -> Result<Descriptor, StoreError> {
        let descriptor = Descriptor::of(&media_type.0, bytes);
        if self.stored_blob(&descriptor.digest)?.is_some() {
            return Ok(descriptor);
        }
        let mut blob = self.new_blob()?;
        let written = blob.write_all(bytes);
        written.map_err(at("write", &self.blob_path(&descriptor.digest)))?;
        blob.commit(media_type)
    }

    /// Opens a blob; the tar of a layer is a blob too, under its DiffId.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<File>, StoreError> {
        if self.stored_blob(digest)?.is_some()
            && let Some(file) = open_if_there(&self.blob_path(digest))?
        {
            return Ok(Some(file));
        }
        let layer = DiffId(*digest);
        if !self.has_layer(&layer)? {
            return Ok(None);
        }
        open_if_there(&self.layer_dir(&layer).join("tar"))
    }

    /// Reads a blob of at most `limit` bytes and verifies it. One whose bytes have changed is an
    /// error.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(digest);
        let file = self
            .open_blob(digest)?
            .ok_or(StoreError::BlobNotFound(*digest))?;
        let size = file.metadata().map_err(at("stat", &path))?.len();
        if size > limit {
            return Err(StoreError::BlobTooLarge {
                digest: *digest,
                size,
                limit,
            });
        }
        let mut bytes = Vec::new();
        file.take(limit)
            .read_to_end(&mut bytes)
            .map_err(at("read", &path))?;
        if Digest::of(&bytes) != *digest {
            return Err(StoreError::DamagedBlob { path });
        }
        Ok(bytes)
    }

    /// Returns media type and size of a blob; `None` when it is not in the store.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Descriptor>, StoreError> {
        if let Some(descriptor) = self.stored_blob(digest)? {
            return Ok(Some(descriptor));
        }
        let layer = self.layer(&DiffId(*digest))?;
        Ok(layer.map(|layer| Descriptor::new(MediaType::OCI_LAYER, *digest, layer.tar_size)))
    }

    /// Tells whether a blob is in the store.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.blob(digest)?.is_some())
    }

    /// Keeps a blob or layer that no image needs yet from being swept before `until`: for parts
    /// of an image that arrive in separate requests.
    pub fn lease(&self, digest: &Digest, until: Timestamp) -> Result<(), StoreError> {
        self.write(|tx| {
            let key = digest.as_bytes();
            tx.execute(
                "UPDATE blobs SET leased_until = max(leased_until, ?2) WHERE digest = ?1",
                params![key, until.0],
            )?;
            tx.execute(
                "UPDATE layers SET leased_until = max(leased_until, ?2) WHERE diff_id = ?1",
                params![key, until.0],
            )?;
            Ok(())
        })
    }

    /// Keeps a blob or layer for a week: what has come of an image waits that long for the rest.
    pub(crate) fn keep_for_another_try(&self, digest: &Digest) -> Result<(), StoreError> {
        let kept = i64::try_from(KEPT.as_nanos()).unwrap_or(i64::MAX);
        let until = Timestamp::now().0.saturating_add(kept);
        self.lease(digest, Timestamp(until))
    }

    /// Ends the leases of layers: the next sweep takes those that no image needs.
    pub(crate) fn end_leases(&self, layers: &[DiffId]) -> Result<(), StoreError> {
        self.write(|tx| {
            for layer in layers {
                tx.execute(
                    "UPDATE layers SET leased_until = 0 WHERE diff_id = ?1",
                    [layer.digest().as_bytes()],
                )?;
            }
            Ok(())
        })
    }

    /// Records that a repository (`docker.io/library/debian`) of a registry has a blob. A session
    /// in which it was being sent there is forgotten.
    pub fn record_origin(&self, digest: &Digest, repository: &str) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute(
                "INSERT OR REPLACE INTO origins (digest, repository, seen) VALUES (?1, ?2, ?3)",
                params![digest.as_bytes(), repository, Timestamp::now().0],
            )?;
            upload::forget(tx, repository, digest)
        })
    }

    /// Returns the repositories that are known to have a blob, last seen first.
    pub fn origins(&self, digest: &Digest) -> Result<Vec<String>, StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT repository FROM origins WHERE digest = ?1 ORDER BY seen DESC, repository",
            )?;
            let rows = query.query_map([digest.as_bytes()], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root().join("blobs/sha256").join(digest.hex())
    }

    /// Returns what is recorded of a blob that has a file of its own.
    pub(crate) fn stored_blob(&self, digest: &Digest) -> Result<Option<Descriptor>, StoreError> {
        let found = self.read(|connection| find(connection, digest, self.boot_id()))?;
        // A file that someone deleted by hand is fetched again rather than missed later.
        Ok(found.filter(|_| self.blob_path(digest).exists()))
    }

    /// Renames a complete file to its digest and records it. Both under the database's write
    /// lock, so that a file with a valid row is never replaced.
    pub(crate) fn name_blob(
        &self,
        partial: &Path,
        media_type: &MediaType,
        digest: &Digest,
        size: u64,
    ) -> Result<(), StoreError> {
        let path = self.blob_path(digest);
        self.write(|tx| {
            if find(tx, digest, self.boot_id())?.is_some() && path.exists() {
                fs::remove_file(partial).map_err(at("remove", partial))?;
                return Ok(());
            }
            fs::rename(partial, &path).map_err(at("rename", partial))?;
            tx.execute(
                "INSERT OR REPLACE INTO blobs (digest, media_type, size, boot, created)
                    VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    digest.as_bytes(),
                    media_type.0,
                    db::from_u64(size),
                    self.boot_id(),
                    Timestamp::now().0
                ],
            )?;
            Ok(())
        })
    }
}

fn open_if_there(path: &Path) -> Result<Option<File>, StoreError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at("open", path)(error)),
    }
}

/// Finds the valid row of a blob that has a file of its own.
pub(crate) fn find(
    connection: &Connection,
    digest: &Digest,
    boot_id: &str,
) -> Result<Option<Descriptor>, StoreError> {
    let mut query = connection.prepare_cached(
        "SELECT media_type, size FROM blobs WHERE digest = ?1 AND (synced = 1 OR boot = ?2)",
    )?;
    let found = query.query_row(params![digest.as_bytes(), boot_id], |row| {
        Ok(Descriptor::new(
            &row.get::<_, String>(0)?,
            *digest,
            db::to_u64(row, 1)?,
        ))
    });
    Ok(found.optional()?)
}
