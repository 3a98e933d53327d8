//! Layers: directories under `layers`, one for each DiffId.

use std::io;
use std::path::PathBuf;

use oci::{Descriptor, DiffId, Digest};
use rusqlite::{Connection, OptionalExtension as _, params};
use rustix::fs::{CWD, RenameFlags};

use crate::error::at;
use crate::{Scratch, Store, StoreError, Timestamp, db};

/// What is known of a layer that was written to a scratch directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLayer {
    /// The digest of its tar.
    pub diff_id: DiffId,
    /// The length of its tar.
    pub tar_size: u64,
    /// The sum of the sizes of its files: docker's SIZE.
    pub content_size: u64,
    /// The number of its entries.
    pub entries: u64,
}

/// A layer in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRecord {
    /// The digest of its tar.
    pub diff_id: DiffId,
    /// The length of its tar.
    pub tar_size: u64,
    /// The sum of the sizes of its files: docker's SIZE.
    pub content_size: u64,
    /// The number of its entries.
    pub entries: u64,
    /// When it was stored.
    pub created: Timestamp,
}

impl Store {
    /// Returns the directory that a layer has when it is in the store.
    pub fn layer_dir(&self, diff_id: &DiffId) -> PathBuf {
        self.root().join("layers").join(diff_id.digest().hex())
    }

    /// Tells whether a layer is in the store, complete and valid.
    pub fn has_layer(&self, diff_id: &DiffId) -> Result<bool, StoreError> {
        Ok(self.layer(diff_id)?.is_some())
    }

    /// Returns the record of a layer that is in the store.
    pub fn layer(&self, diff_id: &DiffId) -> Result<Option<LayerRecord>, StoreError> {
        self.read(|connection| self.find_layer(connection, diff_id))
    }

    /// Does what [`Store::layer`] does, also in a transaction.
    pub(crate) fn find_layer(
        &self,
        connection: &Connection,
        diff_id: &DiffId,
    ) -> Result<Option<LayerRecord>, StoreError> {
        let found = find(connection, diff_id, self.boot_id())?;
        Ok(found.filter(|_| self.layer_dir(diff_id).join("tar").exists()))
    }

    /// Makes the contents of `scratch` the directory of a layer. When the layer is there already
    /// the scratch is dropped.
    pub fn commit_layer(&self, scratch: Scratch, layer: &NewLayer) -> Result<(), StoreError> {
        let directory = self.layer_dir(&layer.diff_id);
        // The rename happens under the database's write lock, so that a directory with a valid
        // row is never replaced.
        let result = self.write(|tx| {
            if self.find_layer(tx, &layer.diff_id)?.is_some() {
                return Ok(());
            }
            let from = scratch.path();
            // Killed here before, or unsynced in an earlier boot: then an orphan is in the way.
            let flags = if directory.exists() {
                RenameFlags::EXCHANGE
            } else {
                RenameFlags::NOREPLACE
            };
            rustix::fs::renameat_with(CWD, from, CWD, &directory, flags)
                .map_err(|error| at("rename", from)(io::Error::from(error)))?;
            tx.execute(
                "INSERT OR REPLACE INTO layers
                    (diff_id, tar_size, content_size, entries, boot, created)
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    layer.diff_id.digest().as_bytes(),
                    db::from_u64(layer.tar_size),
                    db::from_u64(layer.content_size),
                    db::from_u64(layer.entries),
                    self.boot_id(),
                    Timestamp::now().0
                ],
            )?;
            Ok(())
        });
        drop(scratch);
        result
    }

    /// Records that the blob `descriptor` is the layer compressed.
    pub fn record_compressed(
        &self,
        diff_id: &DiffId,
        descriptor: &Descriptor,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute(
                "INSERT OR REPLACE INTO compressions (digest, diff_id, media_type, size)
                    VALUES (?1, ?2, ?3, ?4)",
                params![
                    descriptor.digest.as_bytes(),
                    diff_id.digest().as_bytes(),
                    descriptor.media_type.0,
                    db::from_u64(descriptor.size)
                ],
            )?;
            Ok(())
        })
    }

    /// Returns the blobs in the store that are the layer compressed, oldest digest first.
    pub fn compressed(&self, diff_id: &DiffId) -> Result<Vec<Descriptor>, StoreError> {
        let mut found: Vec<Descriptor> = self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT c.digest, c.media_type, c.size
                    FROM compressions c JOIN blobs b ON b.digest = c.digest
                    WHERE c.diff_id = ?1 AND (b.synced = 1 OR b.boot = ?2) ORDER BY b.seq",
            )?;
            let key = diff_id.digest().as_bytes();
            let rows = query.query_map(params![key, self.boot_id()], |row| {
                let media_type: String = row.get(1)?;
                Ok(Descriptor::new(
                    &media_type,
                    db::digest(row, 0)?,
                    db::to_u64(row, 2)?,
                ))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?;
        found.retain(|blob| self.blob_path(&blob.digest).exists());
        Ok(found)
    }

    /// Returns the layer that a blob unpacks to, when that was recorded and the layer is in the
    /// store. A layer's own tar unpacks to itself.
    pub fn layer_of_blob(&self, digest: &Digest) -> Result<Option<DiffId>, StoreError> {
        let recorded: Option<Digest> = self.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT diff_id FROM compressions WHERE digest = ?1")?;
            let found = query.query_row([digest.as_bytes()], |row| db::digest(row, 0));
            Ok(found.optional()?)
        })?;
        let diff_id = DiffId(recorded.unwrap_or(*digest));
        Ok(self.has_layer(&diff_id)?.then_some(diff_id))
    }

    /// Returns the bytes of disk that a layer's directory takes, or 0 when it is not there.
    pub fn layer_disk_usage(&self, diff_id: &DiffId) -> u64 {
        crate::measure::disk_usage(&self.layer_dir(diff_id))
    }
}

/// Finds the valid row of a layer.
pub(crate) fn find(
    connection: &Connection,
    diff_id: &DiffId,
    boot_id: &str,
) -> Result<Option<LayerRecord>, StoreError> {
    let mut query = connection.prepare_cached(
        "SELECT tar_size, content_size, entries, created FROM layers
            WHERE diff_id = ?1 AND (synced = 1 OR boot = ?2)",
    )?;
    let key = diff_id.digest().as_bytes();
    let found = query.query_row(params![key, boot_id], |row| {
        Ok(LayerRecord {
            diff_id: *diff_id,
            tar_size: db::to_u64(row, 0)?,
            content_size: db::to_u64(row, 1)?,
            entries: db::to_u64(row, 2)?,
            created: Timestamp(row.get(3)?),
        })
    });
    Ok(found.optional()?)
}
