//! Changes of names: what a name led to before an operation, and after it.

use oci::{Digest, ImageId};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{Store, StoreError, Timestamp, db, tag_document};

/// What a tag leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TagState {
    pub(crate) image: Option<ImageId>,
    pub(crate) manifest: Option<Digest>,
    pub(crate) document: Option<Document>,
}

/// The index or manifest that a tag leads to beside an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) digest: Digest,
    pub(crate) parts: Vec<Digest>,
}

impl TagState {
    /// Reads what the tag `key` leads to. A document of an image that the tag has left is none.
    pub(crate) fn read(connection: &Connection, key: &str) -> Result<Self, StoreError> {
        let mut query =
            connection.prepare_cached("SELECT image, manifest FROM tags WHERE name = ?1")?;
        let tag = query.query_row([key], |row| {
            Ok((db::digest(row, 0)?, db::optional_digest(row, 1)?))
        });
        let (image, manifest) = match tag.optional()? {
            Some((image, manifest)) => (Some(image), manifest),
            None => (None, None),
        };
        let mut query = connection
            .prepare_cached("SELECT document FROM served WHERE name = ?1 AND image IS ?2")?;
        let digest = query.query_row(params![key, image.map(|id| *id.as_bytes())], |row| {
            db::digest(row, 0)
        });
        let document = match digest.optional()? {
            Some(digest) => Some(Document {
                digest,
                parts: parts(connection, key)?,
            }),
            None => None,
        };
        Ok(Self {
            image: image.map(ImageId),
            manifest,
            document,
        })
    }

    /// Has the tag `key` lead there.
    pub(crate) fn write(&self, tx: &Connection, key: &str) -> Result<(), StoreError> {
        tx.execute("DELETE FROM tags WHERE name = ?1", [key])?;
        tag_document::remove(tx, key)?;
        let image = self.image.map(|id| *id.digest().as_bytes());
        if let Some(image) = &image {
            tx.execute(
                "INSERT INTO tags (name, image, manifest) VALUES (?1, ?2, ?3)",
                params![key, image, self.manifest.map(|digest| *digest.as_bytes())],
            )?;
        }
        if let Some(document) = &self.document {
            tag_document::insert(tx, key, document, self.image.as_ref())?;
        }
        Ok(())
    }

    pub(crate) fn document_digest(&self) -> Option<Digest> {
        self.document.as_ref().map(|document| document.digest)
    }
}

fn parts(connection: &Connection, key: &str) -> Result<Vec<Digest>, StoreError> {
    let mut query = connection.prepare_cached("SELECT part FROM served_parts WHERE name = ?1")?;
    let rows = query.query_map([key], |row| db::digest(row, 0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Does `work`, which may change what the tag `key` leads to, and records what it changed.
pub(crate) fn of_tag<T>(
    store: &Store,
    tx: &Connection,
    key: &str,
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let before = TagState::read(tx, key)?;
    let value = work()?;
    let after = TagState::read(tx, key)?;
    if before == after {
        return Ok(value);
    }
    let operation = store.begin(tx)?;
    if before.image != after.image {
        journal(tx, key, [before.image, after.image], operation)?;
    }
    if let Some(operation) = operation {
        record(tx, operation, key, [&before, &after])?;
        let lets_go = (before.manifest.is_some() && before.manifest != after.manifest)
            || (before.document.is_some() && before.document != after.document);
        if lets_go {
            store.hold(tx, operation)?;
        }
    }
    Ok(value)
}

/// Records what a repository has under a manifest digest, before and after `work`.
pub(crate) fn of_digest(
    store: &Store,
    tx: &Connection,
    (repository, digest): (&str, &Digest),
    work: impl FnOnce() -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let before = crate::tag::find_digest(tx, repository, digest)?;
    work()?;
    let after = crate::tag::find_digest(tx, repository, digest)?;
    if before != after
        && let Some(operation) = store.begin(tx)?
    {
        let column = |id: Option<ImageId>| id.map(|id| *id.digest().as_bytes());
        tx.prepare_cached(
            "INSERT INTO undo_digests (operation, repository, digest, image, after_image)
                VALUES (?1, ?2, ?3, ?4, ?5)
                ON CONFLICT DO UPDATE SET after_image = excluded.after_image",
        )?
        .execute(params![
            operation,
            repository,
            digest.as_bytes(),
            column(before),
            column(after)
        ])?;
    }
    Ok(())
}

/// Writes one entry of a tag's history.
pub(crate) fn journal(
    tx: &Connection,
    key: &str,
    [before, after]: [Option<ImageId>; 2],
    operation: Option<i64>,
) -> Result<(), StoreError> {
    let column = |id: Option<ImageId>| id.map(|id| *id.digest().as_bytes());
    tx.prepare_cached(
        "INSERT INTO tag_journal (name, before, after, at, operation)
            VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        key,
        column(before),
        column(after),
        Timestamp::now().0,
        operation
    ])?;
    Ok(())
}

/// What was before the operation's first change of the tag stays.
fn record(
    tx: &Connection,
    operation: i64,
    key: &str,
    [before, after]: [&TagState; 2],
) -> Result<(), StoreError> {
    let image = |state: &TagState| state.image.map(|id| *id.digest().as_bytes());
    let bytes = |digest: Option<Digest>| digest.map(|digest| *digest.as_bytes());
    let known = tx
        .prepare_cached(
            "UPDATE undo_tags SET after_image = ?3, after_document = ?4
                WHERE operation = ?1 AND name = ?2",
        )?
        .execute(params![
            operation,
            key,
            image(after),
            bytes(after.document_digest())
        ])?;
    if known > 0 {
        return Ok(());
    }
    tx.prepare_cached(
        "INSERT INTO undo_tags (operation, name, image, manifest, document, after_image,
            after_document) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        operation,
        key,
        image(before),
        bytes(before.manifest),
        bytes(before.document_digest()),
        image(after),
        bytes(after.document_digest())
    ])?;
    for part in before.document.iter().flat_map(|document| &document.parts) {
        tx.execute(
            "INSERT INTO undo_parts (operation, name, part) VALUES (?1, ?2, ?3)",
            params![operation, key, part.as_bytes()],
        )?;
    }
    Ok(())
}

/// A change of a tag by an operation.
#[derive(Debug)]
pub(crate) struct TagChange {
    pub(crate) key: String,
    pub(crate) before: TagState,
    pub(crate) after_image: Option<ImageId>,
    pub(crate) after_document: Option<Digest>,
}

/// Reads which tags an operation changed.
pub(crate) fn tags(connection: &Connection, operation: i64) -> Result<Vec<TagChange>, StoreError> {
    let mut query = connection.prepare_cached(
        "SELECT name, image, manifest, document, after_image, after_document FROM undo_tags
            WHERE operation = ?1 ORDER BY name",
    )?;
    let mut parts = connection
        .prepare_cached("SELECT part FROM undo_parts WHERE operation = ?1 AND name = ?2")?;
    let mut rows = query.query([operation])?;
    let mut changes = Vec::new();
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        let document = match db::optional_digest(row, 3)? {
            Some(digest) => {
                let parts = parts.query_map(params![operation, key], |row| db::digest(row, 0))?;
                Some(Document {
                    digest,
                    parts: parts.collect::<Result<_, _>>()?,
                })
            }
            None => None,
        };
        changes.push(TagChange {
            key,
            before: TagState {
                image: db::optional_digest(row, 1)?.map(ImageId),
                manifest: db::optional_digest(row, 2)?,
                document,
            },
            after_image: db::optional_digest(row, 4)?.map(ImageId),
            after_document: db::optional_digest(row, 5)?,
        });
    }
    Ok(changes)
}

/// A change of what a repository has under a digest.
#[derive(Debug)]
pub(crate) struct DigestChange {
    pub(crate) repository: String,
    pub(crate) digest: Digest,
    pub(crate) before: Option<ImageId>,
    pub(crate) after: Option<ImageId>,
}

/// Reads which repository digests an operation changed.
pub(crate) fn digests(
    connection: &Connection,
    operation: i64,
) -> Result<Vec<DigestChange>, StoreError> {
    let mut query = connection.prepare_cached(
        "SELECT repository, digest, image, after_image FROM undo_digests
            WHERE operation = ?1 ORDER BY repository, digest",
    )?;
    let rows = query.query_map([operation], |row| {
        Ok(DigestChange {
            repository: row.get(0)?,
            digest: db::digest(row, 1)?,
            before: db::optional_digest(row, 2)?.map(ImageId),
            after: db::optional_digest(row, 3)?.map(ImageId),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
