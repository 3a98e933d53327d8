//! What a tag leads to that no image record can hold: an index with all its images, or a manifest
//! of another thing than an image.

use oci::{Digest, ImageId, Reference};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::change::Document;
use crate::tag::key;
use crate::{Store, StoreError, change, db, tag};

/// An index or manifest that a tag leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagDocument<'a> {
    /// The index or manifest; its bytes are a blob.
    pub document: Digest,
    /// All blobs that it leads to; they live as long as it does.
    pub parts: &'a [Digest],
    /// The image that has the same tag: one of the index. The document is forgotten when the tag
    /// leads elsewhere.
    pub image: Option<ImageId>,
}

impl Store {
    /// Has a tag lead to a document, instead of to the manifest of the image with that tag only.
    pub fn set_tag_document(
        &self,
        name: &Reference,
        new: &TagDocument<'_>,
    ) -> Result<(), StoreError> {
        let key = key(name);
        self.write(|tx| change::of_tag(self, tx, &key, || set(tx, &key, new)))
    }

    /// After a tag moved, has it keep its document if that is `document`, and forget any other.
    pub fn retain_tag_document(
        &self,
        name: &Reference,
        document: &Digest,
    ) -> Result<(), StoreError> {
        let key = key(name);
        self.write(|tx| {
            change::of_tag(self, tx, &key, || {
                let kept = tx.execute(
                    "UPDATE served SET image = (SELECT image FROM tags WHERE tags.name = ?1)
                        WHERE name = ?1 AND document = ?2",
                    params![key, document.as_bytes()],
                )?;
                if kept == 0 {
                    remove(tx, &key)?;
                }
                Ok(())
            })
        })
    }

    /// Forgets the document of a tag; tells whether there was one.
    pub fn remove_tag_document(&self, name: &Reference) -> Result<bool, StoreError> {
        let key = key(name);
        self.write(|tx| change::of_tag(self, tx, &key, || remove(tx, &key)))
    }

    /// Returns the document of a tag, if the tag still leads to its image.
    pub fn tag_document(&self, name: &Reference) -> Result<Option<Digest>, StoreError> {
        self.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT document, image FROM served WHERE name = ?1")?;
            let row = query.query_row([key(name)], |row| {
                Ok((db::digest(row, 0)?, db::optional_digest(row, 1)?))
            });
            let Some((document, image)) = row.optional()? else {
                return Ok(None);
            };
            let current = tag::find(connection, name)?;
            Ok((current == image.map(ImageId)).then_some(document))
        })
    }

    /// Returns the digests of the document of a tag and of all that it leads to.
    pub fn tag_document_parts(&self, name: &Reference) -> Result<Vec<Digest>, StoreError> {
        self.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT part FROM served_parts WHERE name = ?1")?;
            let rows = query.query_map([key(name)], |row| db::digest(row, 0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Has the tag `new` lead to the document of the tag `name`, if that has one. Both have the
    /// same image.
    pub fn copy_tag_document(&self, name: &Reference, new: &Reference) -> Result<(), StoreError> {
        let document = self.tag_document(name)?;
        let parts = self.tag_document_parts(name)?;
        let image = self.tagged(name)?;
        match document {
            Some(document) if key(name) != key(new) => self.set_tag_document(
                new,
                &TagDocument {
                    document,
                    parts: &parts,
                    image,
                },
            ),
            _ => Ok(()),
        }
    }

    /// Returns the tags that have a document, sorted.
    pub fn tags_with_documents(&self) -> Result<Vec<Reference>, StoreError> {
        let names: Vec<String> = self.read(|connection| {
            let mut query = connection.prepare_cached("SELECT name FROM served ORDER BY name")?;
            let rows = query.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?;
        let mut tags = Vec::new();
        for name in names {
            // Only valid names are written.
            if let Ok(name) = Reference::parse(&name)
                && self.tag_document(&name)?.is_some()
            {
                tags.push(name);
            }
        }
        Ok(tags)
    }
}

/// Forgets documents whose tag leads elsewhere; a sweep does this before it collects what lives.
pub(crate) fn forget_stale(tx: &Connection) -> Result<(), StoreError> {
    tx.execute(
        "DELETE FROM served WHERE image IS NOT (SELECT image FROM tags WHERE tags.name = served.name)",
        [],
    )?;
    tx.execute(
        "DELETE FROM served_parts WHERE name NOT IN (SELECT name FROM served)",
        [],
    )?;
    Ok(())
}

fn set(tx: &Connection, key: &str, new: &TagDocument<'_>) -> Result<(), StoreError> {
    remove(tx, key)?;
    let document = Document {
        digest: new.document,
        parts: new.parts.iter().chain([&new.document]).copied().collect(),
    };
    insert(tx, key, &document, new.image.as_ref())?;
    for part in &document.parts {
        // The document holds it from now on.
        tx.execute(
            "UPDATE blobs SET leased_until = 0 WHERE digest = ?1",
            [part.as_bytes()],
        )?;
    }
    Ok(())
}

/// Gives a tag that has no document one. The parts are all that it leads to, itself too.
pub(crate) fn insert(
    tx: &Connection,
    key: &str,
    document: &Document,
    image: Option<&ImageId>,
) -> Result<(), StoreError> {
    let image = image.map(|image| image.digest().as_bytes());
    tx.execute(
        "INSERT INTO served (name, document, image) VALUES (?1, ?2, ?3)",
        params![key, document.digest.as_bytes(), image],
    )?;
    for part in &document.parts {
        tx.execute(
            "INSERT OR IGNORE INTO served_parts (name, part) VALUES (?1, ?2)",
            params![key, part.as_bytes()],
        )?;
    }
    Ok(())
}

pub(crate) fn remove(tx: &Connection, key: &str) -> Result<bool, StoreError> {
    tx.execute("DELETE FROM served_parts WHERE name = ?1", [key])?;
    Ok(tx.execute("DELETE FROM served WHERE name = ?1", [key])? > 0)
}

#[cfg(test)]
mod tests {
    use oci::{ImageConfig, MediaType};

    use super::*;
    use crate::NewImage;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().expect("a directory");
        let (root, run) = (directory.path().join("root"), directory.path().join("run"));
        let store = Store::open(&root, &run).expect("a store");
        (directory, store)
    }

    fn image(store: &Store, author: &str) -> ImageId {
        let config = ImageConfig {
            author: author.to_owned(),
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            ..ImageConfig::default()
        };
        store
            .put_image(&NewImage {
                config: &config.to_bytes(),
                manifest: None,
                parent: None,
                times: &[],
            })
            .expect("an image")
    }

    #[test]
    fn a_document_lives_as_long_as_its_tag_leads_to_its_image() {
        let (_directory, store) = store();
        let name = Reference::parse("app:1").expect("a name");
        let kind = MediaType::from(MediaType::OCI_INDEX);
        let document = store.put_blob(&kind, b"index").expect("stored").digest;
        let part = store.put_blob(&kind, b"part").expect("stored").digest;
        let first = image(&store, "a");
        store.tag(&name, &first, None).expect("tagged");
        let new = TagDocument {
            document,
            parts: &[part],
            image: Some(first),
        };
        store.set_tag_document(&name, &new).expect("set");

        store.sweep().expect("swept");
        assert_eq!(store.tag_document(&name).expect("read"), Some(document));
        assert_eq!(
            store.tags_with_documents().expect("read"),
            std::slice::from_ref(&name)
        );
        assert!(store.has_blob(&part).expect("read"));

        store.tag(&name, &image(&store, "b"), None).expect("moved");
        assert_eq!(store.tag_document(&name).expect("read"), None);
        store.sweep().expect("swept");
        assert!(!store.has_blob(&part).expect("read"));
        assert!(!store.has_blob(&document).expect("read"));
    }

    #[test]
    fn a_document_without_an_image_lives_until_it_is_removed_or_the_tag_is_taken() {
        let (_directory, store) = store();
        let name = Reference::parse("app:1").expect("a name");
        let kind = MediaType::from(MediaType::OCI_INDEX);
        let document = store.put_blob(&kind, b"index").expect("stored").digest;
        let new = TagDocument {
            document,
            parts: &[],
            image: None,
        };
        store.set_tag_document(&name, &new).expect("set");
        store.sweep().expect("swept");
        assert!(store.has_blob(&document).expect("read"));
        assert!(store.remove_tag_document(&name).expect("removed"));
        assert!(!store.remove_tag_document(&name).expect("nothing there"));
        store.sweep().expect("swept");
        assert!(!store.has_blob(&document).expect("read"));
    }

    #[test]
    fn a_tag_that_moves_keeps_its_document_only_when_told() {
        let (_directory, store) = store();
        let name = Reference::parse("app:1").expect("a name");
        let kind = MediaType::from(MediaType::OCI_INDEX);
        let put = |bytes: &[u8]| store.put_blob(&kind, bytes).expect("stored").digest;
        let (document, newer) = (put(b"index"), put(b"newer index"));
        let first = image(&store, "a");
        store.tag(&name, &first, None).expect("tagged");
        let new = TagDocument {
            document,
            parts: &[],
            image: Some(first),
        };
        store.set_tag_document(&name, &new).expect("set");
        let other = Reference::parse("other:1").expect("a name");
        store.tag(&other, &first, None).expect("tagged");
        store.copy_tag_document(&name, &other).expect("copied");

        store.tag(&name, &image(&store, "b"), None).expect("moved");
        store.retain_tag_document(&name, &document).expect("kept");
        assert_eq!(store.tag_document(&name).expect("read"), Some(document));
        store.retain_tag_document(&name, &newer).expect("forgotten");
        assert_eq!(store.tag_document(&name).expect("read"), None);
        assert_eq!(store.tag_document(&other).expect("read"), Some(document));
    }
}
