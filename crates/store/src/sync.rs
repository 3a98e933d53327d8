//! What is safely on disk, and what is discarded after a power cut.
//!
//! Nobody waits for a disk. A blob or layer counts when its row says `synced`, or when it was
//! written in the running boot; a detached process syncs the file system later and sets the flag.
//! The first opening after a boot discards what has neither, with the images that need it.

use std::collections::HashSet;
use std::fs;
use std::fs::File;
use std::path::Path;

use oci::{DiffId, Digest, ImageId, Reference};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::error::at;
use crate::{Purpose, Store, StoreError, change, db, image, lock, operation};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The first process to open the database reads the whole write-ahead log: 1.2 ms for 4 MB, at
/// which SQLite itself would make some command wait for a checkpoint.
const LONG_LOG: u64 = 256 << 10;

/// What the first opening after a boot discarded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Blobs that were not known to be on disk.
    pub blobs: Vec<Digest>,
    /// Layers that were not known to be on disk.
    pub layers: Vec<DiffId>,
    /// The names (or ids) of images that needed one of these. They are removed.
    pub images: Vec<String>,
}

pub(crate) fn boot_id() -> Result<String, StoreError> {
    sys::boot::boot_id().map_err(at("read", Path::new(BOOT_ID)))
}

impl Store {
    /// Tells whether [`Store::mark_synced`] has something to do: blobs or layers that are not
    /// known to be on disk, a write-ahead log that has become long, or a database without checksums.
    pub fn needs_sync(&self) -> Result<bool, StoreError> {
        let log = fs::metadata(self.root().join("db.sqlite-wal"));
        if log.is_ok_and(|log| log.len() > LONG_LOG) || self.lacks_sums() {
            return Ok(true);
        }
        self.has_unsynced()
    }

    fn has_unsynced(&self) -> Result<bool, StoreError> {
        self.read(|connection| {
            let query = "SELECT EXISTS (SELECT 1 FROM blobs WHERE synced = 0)
                OR EXISTS (SELECT 1 FROM layers WHERE synced = 0)";
            Ok(connection.query_row(query, [], |row| row.get(0))?)
        })
    }

    /// Waits until everything written so far is on disk (`syncfs`, which may take seconds), then
    /// records that. Meant for a detached process, which must open the store itself.
    pub fn mark_synced(&self) -> Result<(), StoreError> {
        if self.has_unsynced()? {
            self.sync()?;
        }
        self.shorten_log()
    }

    fn sync(&self) -> Result<(), StoreError> {
        let (blobs, layers) = self.read(|connection| {
            let query = "SELECT (SELECT coalesce(max(seq), 0) FROM blobs),
                (SELECT coalesce(max(seq), 0) FROM layers)";
            Ok(connection.query_row(query, [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            })?)
        })?;
        let root = self.root();
        let directory = File::open(root).map_err(at("open", root))?;
        rustix::fs::syncfs(&directory).map_err(|error| at("sync", root)(error.into()))?;
        let mark = |tx: &rusqlite::Transaction<'_>| {
            for (table, last) in [("blobs", blobs), ("layers", layers)] {
                tx.execute(
                    &format!(
                        "UPDATE {table} SET synced = 1 WHERE synced = 0 AND boot = ?1 AND seq <= ?2"
                    ),
                    params![self.boot_id(), last],
                )?;
            }
            Ok(())
        };
        // Sweeps come after it.
        self.freeing(|| self.write_durably(mark))
    }

    /// Discards, once in each boot, what an earlier boot left unsynced.
    pub(crate) fn recover(&self) -> Result<Option<Recovery>, StoreError> {
        if self.recorded_boot()?.as_deref() == Some(self.boot_id())
            || self.check_writable().is_err()
        {
            return Ok(None);
        }
        let path = self.root().join("open.lock");
        let lock = lock::open_file(&path)?;
        lock.lock().map_err(at("lock", &path))?;
        if self.recorded_boot()?.as_deref() == Some(self.boot_id()) {
            return Ok(None);
        }
        let store = self.operation(Purpose {
            kind: operation::RECOVERY.to_owned(),
            command: "recovery after a power cut".to_owned(),
            ..Purpose::default()
        });
        let recovery = store.write_durably(|tx| {
            let recovery = store.lost(tx)?;
            for digest in &recovery.blobs {
                tx.execute("DELETE FROM blobs WHERE digest = ?1", [digest.as_bytes()])?;
                tx.execute(
                    "DELETE FROM served WHERE document = ?1",
                    [digest.as_bytes()],
                )?;
                image::forget_manifest(tx, digest)?;
                tx.execute(
                    "UPDATE tags SET manifest = NULL WHERE manifest = ?1",
                    [digest.as_bytes()],
                )?;
            }
            for layer in &recovery.layers {
                let key = layer.digest().as_bytes();
                tx.execute("DELETE FROM layers WHERE diff_id = ?1", [key])?;
                tx.execute("DELETE FROM steps WHERE layer = ?1", [key])?;
            }
            Ok(recovery)
        })?;
        // Files without a row are not seen by anyone; the boot is recorded only when they are gone.
        for digest in &recovery.blobs {
            self.discard(&self.blob_path(digest))?;
        }
        for layer in &recovery.layers {
            self.discard(&self.layer_dir(layer))?;
        }
        self.write(|tx| {
            tx.execute(
                "INSERT OR REPLACE INTO meta (key, value) VALUES ('boot', ?1)",
                [self.boot_id()],
            )?;
            Ok::<_, StoreError>(())
        })?;
        Ok((recovery != Recovery::default()).then_some(recovery))
    }

    fn recorded_boot(&self) -> Result<Option<String>, StoreError> {
        self.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT value FROM meta WHERE key = 'boot'")?;
            Ok(query.query_row([], |row| row.get(0)).optional()?)
        })
    }

    /// Finds what was not synced, and removes the images that cannot do without.
    fn lost(&self, tx: &Connection) -> Result<Recovery, StoreError> {
        let unsynced = |column: &str, table: &str| -> Result<Vec<Digest>, StoreError> {
            let query = format!("SELECT {column} FROM {table} WHERE synced = 0 AND boot <> ?1");
            let mut query = tx.prepare(&query)?;
            let rows = query.query_map([self.boot_id()], |row| db::digest(row, 0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        let mut recovery = Recovery {
            blobs: unsynced("digest", "blobs")?,
            layers: unsynced("diff_id", "layers")?
                .into_iter()
                .map(DiffId)
                .collect(),
            images: Vec::new(),
        };
        let blobs: HashSet<&Digest> = recovery.blobs.iter().collect();
        let layers: HashSet<&DiffId> = recovery.layers.iter().collect();
        if blobs.is_empty() && layers.is_empty() {
            return Ok(recovery);
        }
        let mut query = tx.prepare("SELECT id, layers FROM images")?;
        let images = query.query_map([], |row| Ok((db::digest(row, 0)?, db::layers(row, 1)?)))?;
        let images: Vec<(Digest, Vec<DiffId>)> = images.collect::<Result<_, _>>()?;
        for (id, needed) in images {
            if blobs.contains(&id) || needed.iter().any(|layer| layers.contains(layer)) {
                recovery
                    .images
                    .extend(self.remove_lost_image(tx, &ImageId(id))?);
            }
        }
        recovery.images.sort();
        Ok(recovery)
    }

    /// Removes an image with its names, which are returned; an image without name returns its id.
    fn remove_lost_image(&self, tx: &Connection, id: &ImageId) -> Result<Vec<String>, StoreError> {
        let key = id.digest().as_bytes();
        let mut query = tx.prepare_cached("DELETE FROM tags WHERE image = ?1 RETURNING name")?;
        let names = query.query_map([key], |row| row.get::<_, String>(0))?;
        let mut names: Vec<String> = names.collect::<Result<_, _>>()?;
        for name in &mut names {
            let operation = self.begin(tx)?;
            change::journal(tx, name, [Some(*id), None], operation)?;
            if let Ok(reference) = Reference::parse(name) {
                *name = reference.familiar();
            }
        }
        tx.execute("DELETE FROM repo_digests WHERE image = ?1", [key])?;
        tx.execute("DELETE FROM images WHERE id = ?1", [key])?;
        if names.is_empty() {
            names.push(id.to_string());
        }
        Ok(names)
    }
}
