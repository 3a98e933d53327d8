//! Tags and repository digests.

use oci::{DEFAULT_TAG, Digest, ImageId, Reference};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{Store, StoreError, Timestamp, db, image};

impl Store {
    /// Gives an image a name. The name moves when another image had it, which may leave that one
    /// dangling. With `digest`, the manifest digest under which a registry has the image, the
    /// name's repository gets an entry in the image's repository digests. A name that itself has
    /// a digest gets only such an entry, as in docker.
    pub fn tag(
        &self,
        name: &Reference,
        id: &ImageId,
        digest: Option<&Digest>,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            if !image::exists(tx, id)? {
                return Err(StoreError::ImageNotFound(*id));
            }
            if let Some(digest) = digest.or(name.digest()) {
                tx.execute(
                    "INSERT OR REPLACE INTO repo_digests (repository, digest, image)
                        VALUES (?1, ?2, ?3)",
                    params![name.repository(), digest.as_bytes(), id.digest().as_bytes()],
                )?;
            }
            if name.digest().is_none() {
                set(tx, name, id)?;
            }
            Ok(())
        })
    }

    /// Records the manifest with which a tag came from a registry, or was pushed to this one: a push
    /// of the tag sends that one, and the registry serves it. It is forgotten when the tag moves.
    pub fn set_tag_manifest(&self, name: &Reference, manifest: &Digest) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute(
                "UPDATE tags SET manifest = ?2 WHERE name = ?1",
                params![key(name), manifest.as_bytes()],
            )?;
            Ok(())
        })
    }

    /// Has the tag `new` lead to the manifest with which the tag `name` came. Both have the same
    /// image.
    pub fn copy_tag_manifest(&self, name: &Reference, new: &Reference) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute(
                "UPDATE tags SET manifest = (SELECT manifest FROM tags WHERE name = ?1)
                    WHERE name = ?2",
                params![key(name), key(new)],
            )?;
            Ok(())
        })
    }

    /// Returns the manifest with which a tag came from a registry.
    pub fn tag_manifest(&self, name: &Reference) -> Result<Option<Digest>, StoreError> {
        self.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT manifest FROM tags WHERE name = ?1")?;
            let found = query.query_row([key(name)], |row| db::optional_digest(row, 0));
            Ok(found.optional()?.flatten())
        })
    }

    /// Removes a name. Returns the image that had it.
    pub fn untag(&self, name: &Reference) -> Result<Option<ImageId>, StoreError> {
        self.write(|tx| remove(tx, name))
    }

    /// Returns the image that has exactly this tag (a name without tag means `latest`).
    pub fn tagged(&self, name: &Reference) -> Result<Option<ImageId>, StoreError> {
        self.read(|connection| find(connection, name))
    }

    /// Returns all tags, or those of one repository, sorted.
    pub fn tags(
        &self,
        repository: Option<&Reference>,
    ) -> Result<Vec<(Reference, ImageId)>, StoreError> {
        let repository = repository.map(Reference::repository);
        self.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT name, image FROM tags ORDER BY name")?;
            let mut rows = query.query([])?;
            let mut tags = Vec::new();
            while let Some(row) = rows.next()? {
                // Only valid names are written.
                let Ok(name) = Reference::parse(row.get_ref(0)?.as_str().unwrap_or_default())
                else {
                    continue;
                };
                if repository
                    .as_ref()
                    .is_none_or(|wanted| name.repository() == *wanted)
                {
                    tags.push((name, ImageId(db::digest(row, 1)?)));
                }
            }
            Ok(tags)
        })
    }
}

/// The form in which a tag is stored: full, always with a tag, never with a digest.
pub(crate) fn key(name: &Reference) -> String {
    let tag = name.tag().unwrap_or(DEFAULT_TAG);
    format!("{}:{tag}", name.repository())
}

pub(crate) fn find(
    connection: &Connection,
    name: &Reference,
) -> Result<Option<ImageId>, StoreError> {
    let mut query = connection.prepare_cached("SELECT image FROM tags WHERE name = ?1")?;
    let found = query.query_row([key(name)], |row| db::digest(row, 0));
    Ok(found.optional()?.map(ImageId))
}

/// Finds the image that a repository has under a manifest digest.
pub(crate) fn find_digest(
    connection: &Connection,
    repository: &str,
    digest: &Digest,
) -> Result<Option<ImageId>, StoreError> {
    let mut query = connection
        .prepare_cached("SELECT image FROM repo_digests WHERE repository = ?1 AND digest = ?2")?;
    let found = query.query_row(params![repository, digest.as_bytes()], |row| {
        db::digest(row, 0)
    });
    Ok(found.optional()?.map(ImageId))
}

fn set(tx: &Connection, name: &Reference, id: &ImageId) -> Result<(), StoreError> {
    let now = Timestamp::now();
    let before = find(tx, name)?;
    let after = id.digest().as_bytes();
    if before != Some(*id) {
        tx.execute(
            "INSERT OR REPLACE INTO tags (name, image) VALUES (?1, ?2)",
            params![key(name), after],
        )?;
        journal(tx, name, before.as_ref(), Some(id))?;
    }
    tx.execute(
        "UPDATE images SET last_tagged = ?2 WHERE id = ?1",
        params![after, now.0],
    )?;
    Ok(())
}

/// Removes a tag, or the repository digest when the name has a digest.
pub(crate) fn remove(tx: &Connection, name: &Reference) -> Result<Option<ImageId>, StoreError> {
    if let Some(digest) = name.digest() {
        let before = find_digest(tx, &name.repository(), digest)?;
        tx.execute(
            "DELETE FROM repo_digests WHERE repository = ?1 AND digest = ?2",
            params![name.repository(), digest.as_bytes()],
        )?;
        return Ok(before);
    }
    let before = find(tx, name)?;
    if before.is_some() {
        tx.execute("DELETE FROM tags WHERE name = ?1", [key(name)])?;
        journal(tx, name, before.as_ref(), None)?;
    }
    Ok(before)
}

fn journal(
    tx: &Connection,
    name: &Reference,
    before: Option<&ImageId>,
    after: Option<&ImageId>,
) -> Result<(), StoreError> {
    let column = |id: Option<&ImageId>| id.map(|id| *id.digest().as_bytes());
    tx.execute(
        "INSERT INTO tag_journal (name, before, after, at) VALUES (?1, ?2, ?3, ?4)",
        params![key(name), column(before), column(after), Timestamp::now().0],
    )?;
    Ok(())
}
