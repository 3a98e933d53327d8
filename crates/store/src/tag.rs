//! Tags and repository digests.

use oci::{DEFAULT_TAG, Digest, ImageId, Reference};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{Store, StoreError, Timestamp, change, db, image};

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
            give(self, tx, name, (id, digest))
        })
    }

    /// Records the manifest with which a tag came from a registry, or was pushed to this one: a push
    /// of the tag sends that one, and the registry serves it. It is forgotten when the tag moves.
    pub fn set_tag_manifest(&self, name: &Reference, manifest: &Digest) -> Result<(), StoreError> {
        let key = key(name);
        self.write(|tx| {
            change::of_tag(self, tx, &key, || {
                tx.execute(
                    "UPDATE tags SET manifest = ?2 WHERE name = ?1",
                    params![key, manifest.as_bytes()],
                )?;
                Ok(())
            })
        })
    }

    /// Has the tag `new` lead to the manifest with which the tag `name` came. Both have the same
    /// image.
    pub fn copy_tag_manifest(&self, name: &Reference, new: &Reference) -> Result<(), StoreError> {
        let (key, new) = (key(name), key(new));
        self.write(|tx| {
            change::of_tag(self, tx, &new, || {
                tx.execute(
                    "UPDATE tags SET manifest = (SELECT manifest FROM tags WHERE name = ?1)
                        WHERE name = ?2",
                    params![key, new],
                )?;
                Ok(())
            })
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
        self.write(|tx| remove(self, tx, name))
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

/// Has a repository have an image under a manifest digest, or nothing.
pub(crate) fn set_digest(
    store: &Store,
    tx: &Connection,
    (repository, digest): (&str, &Digest),
    image: Option<&ImageId>,
) -> Result<(), StoreError> {
    let key = digest.as_bytes();
    change::of_digest(store, tx, (repository, digest), || {
        match image {
            Some(image) => tx
                .prepare_cached(
                    "INSERT OR REPLACE INTO repo_digests (repository, digest, image)
                        VALUES (?1, ?2, ?3)",
                )?
                .execute(params![repository, key, image.digest().as_bytes()])?,
            None => tx
                .prepare_cached("DELETE FROM repo_digests WHERE repository = ?1 AND digest = ?2")?
                .execute(params![repository, key])?,
        };
        Ok(())
    })
}

/// Gives a name to an image that is there, with the digest of its manifest in that repository.
pub(crate) fn give(
    store: &Store,
    tx: &Connection,
    name: &Reference,
    (id, digest): (&ImageId, Option<&Digest>),
) -> Result<(), StoreError> {
    if let Some(digest) = digest.or(name.digest()) {
        set_digest(store, tx, (&name.repository(), digest), Some(id))?;
    }
    match name.digest() {
        None => set(store, tx, name, id),
        Some(_) => Ok(()),
    }
}

fn set(store: &Store, tx: &Connection, name: &Reference, id: &ImageId) -> Result<(), StoreError> {
    let now = Timestamp::now();
    let after = id.digest().as_bytes();
    if find(tx, name)? != Some(*id) {
        let key = key(name);
        change::of_tag(store, tx, &key, || {
            tx.execute(
                "INSERT OR REPLACE INTO tags (name, image) VALUES (?1, ?2)",
                params![key, after],
            )?;
            Ok(())
        })?;
    }
    tx.execute(
        "UPDATE images SET last_tagged = ?2 WHERE id = ?1",
        params![after, now.0],
    )?;
    Ok(())
}

/// Removes a tag, or the repository digest when the name has a digest.
pub(crate) fn remove(
    store: &Store,
    tx: &Connection,
    name: &Reference,
) -> Result<Option<ImageId>, StoreError> {
    if let Some(digest) = name.digest() {
        let repository = name.repository();
        let before = find_digest(tx, &repository, digest)?;
        set_digest(store, tx, (&repository, digest), None)?;
        return Ok(before);
    }
    let before = find(tx, name)?;
    if before.is_some() {
        let key = key(name);
        change::of_tag(store, tx, &key, || {
            tx.prepare_cached("DELETE FROM tags WHERE name = ?1")?
                .execute([&key])?;
            Ok(())
        })?;
    }
    Ok(before)
}
