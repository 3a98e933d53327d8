//! What the registry server keeps that no image record can hold: indexes, and manifests of other
//! things than images.

use oci::{DEFAULT_TAG, Digest, ImageId, Reference};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{Store, StoreError, db, tag};

/// A document that has a tag in the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served<'a> {
    /// The index or manifest; its bytes are a blob.
    pub document: Digest,
    /// All blobs that it leads to; they live as long as it does.
    pub parts: &'a [Digest],
    /// The image that has the same tag, when one of an index can run here. The document is
    /// forgotten when the tag leads elsewhere.
    pub image: Option<ImageId>,
}

impl Store {
    /// Serves a document under a tag, instead of the manifest of the image with that tag.
    pub fn serve(&self, name: &Reference, served: &Served<'_>) -> Result<(), StoreError> {
        let key = key(name);
        self.write(|tx| {
            remove(tx, &key)?;
            tx.execute(
                "INSERT INTO served (name, document, image) VALUES (?1, ?2, ?3)",
                params![
                    key,
                    served.document.as_bytes(),
                    served.image.as_ref().map(|image| image.digest().as_bytes())
                ],
            )?;
            for part in served.parts.iter().chain([&served.document]) {
                tx.execute(
                    "INSERT OR IGNORE INTO served_parts (name, part) VALUES (?1, ?2)",
                    params![key, part.as_bytes()],
                )?;
            }
            Ok(())
        })
    }

    /// Stops to serve a document under a tag; tells whether there was one.
    pub fn unserve(&self, name: &Reference) -> Result<bool, StoreError> {
        self.write(|tx| remove(tx, &key(name)))
    }

    /// Returns the document that is served under a tag, if the tag still leads where it did.
    pub fn served(&self, name: &Reference) -> Result<Option<Digest>, StoreError> {
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

    /// Returns the tags under which a document is served, sorted.
    pub fn served_names(&self) -> Result<Vec<Reference>, StoreError> {
        let names: Vec<String> = self.read(|connection| {
            let mut query = connection.prepare_cached("SELECT name FROM served ORDER BY name")?;
            let rows = query.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?;
        let mut served = Vec::new();
        for name in names {
            // Only valid names are written.
            if let Ok(name) = Reference::parse(&name)
                && self.served(&name)?.is_some()
            {
                served.push(name);
            }
        }
        Ok(served)
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

fn remove(tx: &Connection, key: &str) -> Result<bool, StoreError> {
    tx.execute("DELETE FROM served_parts WHERE name = ?1", [key])?;
    Ok(tx.execute("DELETE FROM served WHERE name = ?1", [key])? > 0)
}

fn key(name: &Reference) -> String {
    let tag = name.tag().unwrap_or(DEFAULT_TAG);
    format!("{}:{tag}", name.repository())
}

#[cfg(test)]
mod tests {
    use oci::{ImageConfig, MediaType};

    use super::*;
    use crate::NewImage;

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
    fn a_served_document_lives_as_long_as_its_tag_leads_to_its_image() {
        let directory = tempfile::tempdir().expect("a directory");
        let (root, run) = (directory.path().join("root"), directory.path().join("run"));
        let store = Store::open(&root, &run).expect("a store");
        let name = Reference::parse("app:1").expect("a name");
        let kind = MediaType::from(MediaType::OCI_INDEX);
        let document = store.put_blob(&kind, b"index").expect("stored").digest;
        let part = store.put_blob(&kind, b"part").expect("stored").digest;
        let first = image(&store, "a");
        store.tag(&name, &first, None).expect("tagged");
        let served = Served {
            document,
            parts: &[part],
            image: Some(first),
        };
        store.serve(&name, &served).expect("served");

        store.sweep().expect("swept");
        assert_eq!(store.served(&name).expect("read"), Some(document));
        assert_eq!(
            store.served_names().expect("read"),
            std::slice::from_ref(&name)
        );
        assert!(store.has_blob(&part).expect("read"));

        store.tag(&name, &image(&store, "b"), None).expect("moved");
        assert_eq!(store.served(&name).expect("read"), None);
        store.sweep().expect("swept");
        assert!(!store.has_blob(&part).expect("read"));
        assert!(!store.has_blob(&document).expect("read"));
    }

    #[test]
    fn a_document_without_an_image_lives_until_it_is_removed_or_the_tag_is_taken() {
        let directory = tempfile::tempdir().expect("a directory");
        let (root, run) = (directory.path().join("root"), directory.path().join("run"));
        let store = Store::open(&root, &run).expect("a store");
        let name = Reference::parse("app:1").expect("a name");
        let kind = MediaType::from(MediaType::OCI_INDEX);
        let document = store.put_blob(&kind, b"index").expect("stored").digest;
        let served = Served {
            document,
            parts: &[],
            image: None,
        };
        store.serve(&name, &served).expect("served");
        store.sweep().expect("swept");
        assert!(store.has_blob(&document).expect("read"));
        assert!(store.unserve(&name).expect("removed"));
        assert!(!store.unserve(&name).expect("nothing there"));
        store.sweep().expect("swept");
        assert!(!store.has_blob(&document).expect("read"));
    }
}
