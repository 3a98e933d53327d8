//! Rows that contradict others, made right.

use oci::{Digest, ImageConfig, ImageId, MAX_CONFIG_SIZE};
use rusqlite::{Connection, params};

use crate::{Store, StoreError, Timestamp, db, image};

/// How a row becomes right. It is looked at again in the transaction that changes it: another
/// command may have been faster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mend(pub(crate) Change);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A tag leads to no image, or has no valid name.
    DeleteTag { name: String },
    /// A repository digest leads to no image.
    DeleteRepoDigest { repository: String, digest: Digest },
    /// A step made a layer that is not recorded.
    DeleteStep { key: Digest },
    /// What an image's row says is not what its configuration says.
    RewriteImage { id: ImageId },
    /// The manifest of an image is one of another image.
    ForgetManifest { id: ImageId, manifest: Digest },
    /// The manifest of a tag is one of another image.
    ForgetTagManifest { name: String, manifest: Digest },
    /// What a compression says of its blob is not what the blob is.
    RewriteCompression { digest: Digest },
    /// The recorded length or type of a blob is not its own.
    RewriteBlob {
        digest: Digest,
        size: u64,
        media_type: String,
    },
    /// What is recorded of a layer is not what its tar says.
    RewriteLayer {
        diff_id: Digest,
        tar_size: u64,
        content_size: u64,
        entries: u64,
    },
}

impl Mend {
    /// Returns the name whose image is lost: all that can be done is to remove it.
    pub fn lost_name(&self) -> Option<&str> {
        match &self.0 {
            Change::DeleteTag { name } => Some(name),
            _ => None,
        }
    }
}

impl Store {
    /// Makes rows right, all in one transaction that is on disk on return.
    pub fn mend(&self, mends: &[&Mend]) -> Result<(), StoreError> {
        if mends.is_empty() {
            return Ok(());
        }
        let mut configs = Vec::new();
        for Mend(change) in mends {
            if let Change::RewriteImage { id } = change {
                let config = self.read_blob(id.digest(), MAX_CONFIG_SIZE)?;
                configs.push((*id, ImageConfig::parse(&config)?));
            }
        }
        self.write_durably(|tx| {
            for Mend(change) in mends {
                apply(tx, change)?;
            }
            for (id, config) in &configs {
                image::rewrite(tx, id, config)?;
            }
            Ok(())
        })
    }

    /// Forgets that images, tags and documents came with a manifest or index that is lost: images
    /// get a new manifest when they are pushed.
    pub fn forget_document(&self, digest: &Digest) -> Result<(), StoreError> {
        let key = digest.as_bytes();
        self.write_durably(|tx| {
            image::forget_manifest(tx, digest)?;
            tx.execute("UPDATE tags SET manifest = NULL WHERE manifest = ?1", [key])?;
            // An index without image is all that its tag has; it stays, to be fetched later.
            tx.execute(
                "DELETE FROM served WHERE document = ?1 AND image IS NOT NULL",
                [key],
            )?;
            tx.execute(
                "DELETE FROM served_parts WHERE name NOT IN (SELECT name FROM served)",
                [],
            )?;
            Ok(())
        })
    }
}

fn apply(tx: &Connection, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::DeleteTag { name } => {
            let before: Option<[u8; 32]> = tx
                .query_row("SELECT image FROM tags WHERE name = ?1", [name], |row| {
                    row.get(0)
                })
                .ok();
            let deleted = tx.execute("DELETE FROM tags WHERE name = ?1", [name])?;
            if deleted > 0 {
                tx.execute(
                    "INSERT INTO tag_journal (name, before, after, at) VALUES (?1, ?2, NULL, ?3)",
                    params![name, before, Timestamp::now().0],
                )?;
            }
        }
        Change::DeleteRepoDigest { repository, digest } => {
            tx.execute(
                "DELETE FROM repo_digests WHERE repository = ?1 AND digest = ?2",
                params![repository, digest.as_bytes()],
            )?;
        }
        Change::DeleteStep { key } => {
            tx.execute("DELETE FROM steps WHERE key = ?1", [key.as_bytes()])?;
        }
        // Configurations are read before the transaction, which does no I/O on content.
        Change::RewriteImage { .. } => {}
        Change::ForgetManifest { id, manifest } => {
            tx.execute(
                "UPDATE images SET manifest = NULL, manifest_type = NULL, manifest_size = NULL,
                    manifest_received = 0 WHERE id = ?1 AND manifest = ?2",
                params![id.digest().as_bytes(), manifest.as_bytes()],
            )?;
        }
        Change::ForgetTagManifest { name, manifest } => {
            tx.execute(
                "UPDATE tags SET manifest = NULL WHERE name = ?1 AND manifest = ?2",
                params![name, manifest.as_bytes()],
            )?;
        }
        Change::RewriteCompression { digest } => {
            let key = digest.as_bytes();
            tx.execute(
                "UPDATE compressions SET (size, media_type) =
                    (SELECT size, media_type FROM blobs WHERE blobs.digest = ?1) WHERE digest = ?1",
                [key],
            )?;
        }
        Change::RewriteBlob {
            digest,
            size,
            media_type,
        } => {
            tx.execute(
                "UPDATE blobs SET size = ?2, media_type = ?3 WHERE digest = ?1",
                params![digest.as_bytes(), db::from_u64(*size), media_type],
            )?;
        }
        Change::RewriteLayer {
            diff_id,
            tar_size,
            content_size,
            entries,
        } => {
            tx.execute(
                "UPDATE layers SET tar_size = ?2, content_size = ?3, entries = ?4
                    WHERE diff_id = ?1",
                params![
                    diff_id.as_bytes(),
                    db::from_u64(*tar_size),
                    db::from_u64(*content_size),
                    db::from_u64(*entries)
                ],
            )?;
        }
    }
    Ok(())
}
