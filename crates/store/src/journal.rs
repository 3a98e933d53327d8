//! The history of tags: what each was, and which command changed it.

use std::collections::HashMap;
use std::fmt;

use oci::{ImageId, PastName, Reference};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{ResolveError, Store, StoreError, Timestamp, db, image, tag};

/// A change of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// The tag, and how many changes came after this one.
    pub name: PastName,
    /// The image that it led to from then on; `None` when it was removed.
    pub image: Option<ImageId>,
    /// Whether the image is still in the store.
    pub is_here: bool,
    /// When.
    pub at: Timestamp,
    /// The kind of command that did it; empty when it is not known.
    pub kind: String,
    /// The command that did it; empty when it is not known.
    pub command: String,
}

/// Why what a tag was cannot be used: the tag was removed with that change, or the image is
/// gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastImage {
    /// What was asked for.
    pub name: PastName,
    /// The image; `None` when the tag led to none.
    pub image: Option<ImageId>,
    /// When the tag or the image was removed, and by which command, if that is known.
    pub removed: Option<(Timestamp, String)>,
    /// The number of the operation that removed the image, if that can be undone.
    pub operation: Option<i64>,
    /// Under which name and digest a registry had the image.
    pub origin: Option<Reference>,
}

impl fmt::Display for PastImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.image {
            None => write!(f, "{name} names no image: the tag was removed")?,
            Some(image) => {
                let short = image.digest().short();
                write!(f, "{name} was the image {short}, which was removed")?;
            }
        }
        match &self.removed {
            Some((at, command)) if command.is_empty() => write!(f, " at {at}"),
            Some((at, command)) => write!(f, " at {at} by `{command}`"),
            None => Ok(()),
        }
    }
}

impl Store {
    /// Returns the changes of a tag (a name without tag means `latest`), or of all, last first.
    pub fn journal(&self, name: Option<&Reference>) -> Result<Vec<JournalEntry>, StoreError> {
        let key = name.map(tag::key);
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT j.name, j.after, j.at, coalesce(o.kind, ''), coalesce(o.command, ''),
                    EXISTS (SELECT 1 FROM images WHERE images.id = j.after)
                    FROM tag_journal j LEFT JOIN operations o ON o.seq = j.operation
                    WHERE ?1 IS NULL OR j.name = ?1 ORDER BY j.seq DESC",
            )?;
            let mut rows = query.query([key])?;
            let mut seen: HashMap<String, usize> = HashMap::new();
            let mut entries = Vec::new();
            while let Some(row) = rows.next()? {
                let key: String = row.get(0)?;
                // Only valid names are written.
                let Ok(name) = Reference::parse(&key) else {
                    continue;
                };
                let changes = seen.entry(key).or_insert(0);
                let back = *changes;
                *changes += 1;
                entries.push(JournalEntry {
                    name: PastName { name, back },
                    image: db::optional_digest(row, 1)?.map(ImageId),
                    at: Timestamp(row.get(2)?),
                    kind: row.get(3)?,
                    command: row.get(4)?,
                    is_here: row.get(5)?,
                });
            }
            Ok(entries)
        })
    }
}

/// Finds the image that a tag was.
pub(crate) fn find(connection: &Connection, name: &PastName) -> Result<ImageId, ResolveError> {
    let key = tag::key(&name.name);
    let (image, at, command) = match entry(connection, &key, name.back)? {
        Some(entry) => entry,
        // Tags may be older than their history, which is shortened.
        None if name.back == 0 => match tag::find(connection, &name.name)? {
            Some(id) => return Ok(id),
            None => return Err(no_such_entry(connection, name, &key)?),
        },
        None => return Err(no_such_entry(connection, name, &key)?),
    };
    let gone = match image {
        Some(id) if image::exists(connection, &id)? => return Ok(id),
        Some(id) => gone(connection, name, id)?,
        None => PastImage {
            name: name.clone(),
            image: None,
            removed: Some((at, command)),
            operation: None,
            origin: None,
        },
    };
    Err(ResolveError::Gone(Box::new(gone)))
}

type Entry = (Option<ImageId>, Timestamp, String);

fn entry(connection: &Connection, key: &str, back: usize) -> Result<Option<Entry>, StoreError> {
    let Ok(back) = i64::try_from(back) else {
        return Ok(None);
    };
    let mut query = connection.prepare_cached(
        "SELECT j.after, j.at, coalesce(o.command, '') FROM tag_journal j
            LEFT JOIN operations o ON o.seq = j.operation
            WHERE j.name = ?1 ORDER BY j.seq DESC LIMIT 1 OFFSET ?2",
    )?;
    let found = query.query_row(params![key, back], |row| {
        Ok((
            db::optional_digest(row, 0)?.map(ImageId),
            Timestamp(row.get(1)?),
            row.get(2)?,
        ))
    });
    Ok(found.optional()?)
}

fn no_such_entry(
    connection: &Connection,
    name: &PastName,
    key: &str,
) -> Result<ResolveError, StoreError> {
    let mut query =
        connection.prepare_cached("SELECT count(*) FROM tag_journal WHERE name = ?1")?;
    let count: i64 = query.query_row([key], |row| row.get(0))?;
    Ok(ResolveError::NoSuchEntry {
        name: name.name.familiar(),
        count,
    })
}

/// Tells what became of an image.
fn gone(connection: &Connection, name: &PastName, image: ImageId) -> Result<PastImage, StoreError> {
    let key = image.digest().as_bytes();
    let mut query = connection.prepare_cached(
        "SELECT o.at, o.command, o.seq, o.undone_by IS NULL FROM undo_images u
            JOIN operations o ON o.seq = u.operation
            WHERE u.id = ?1 ORDER BY u.operation DESC LIMIT 1",
    )?;
    let removed = query.query_row([key], |row| {
        let seq: i64 = row.get(2)?;
        let can_be_undone: bool = row.get(3)?;
        Ok((
            (Timestamp(row.get(0)?), row.get(1)?),
            can_be_undone.then_some(seq),
        ))
    });
    let (removed, operation) = match removed.optional()? {
        Some((removed, operation)) => (Some(removed), operation),
        None => (None, None),
    };
    Ok(PastImage {
        name: name.clone(),
        image: Some(image),
        removed,
        operation,
        origin: origin(connection, image)?,
    })
}

/// Returns under which name and digest a registry had an image that is gone.
pub(crate) fn origin(
    connection: &Connection,
    image: ImageId,
) -> Result<Option<Reference>, StoreError> {
    let mut query = connection.prepare_cached(
        "SELECT repository, digest FROM undo_digests WHERE image = ?1
            ORDER BY operation DESC, repository LIMIT 1",
    )?;
    let found = query.query_row([image.digest().as_bytes()], |row| {
        Ok((row.get::<_, String>(0)?, db::digest(row, 1)?))
    });
    Ok(found.optional()?.and_then(|(repository, digest)| {
        let name = Reference::parse(&repository).ok()?;
        Some(name.with_digest(digest))
    }))
}
