//! All records, as they are: what cannot be read is a finding, not an error.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use oci::{DiffId, Digest, Reference};
use rusqlite::{Connection, Row, Transaction, TransactionBehavior};

use super::{Damage, Finding, NeededBy, Role};
use crate::held::{self, Whose};
use crate::{ContainerRecord, Store, StoreError, Timestamp, db};

/// What is recorded of a blob.
#[derive(Debug, Clone)]
pub(crate) struct BlobRow {
    pub(crate) media_type: String,
    pub(crate) size: u64,
}

/// What is recorded of a layer.
#[derive(Debug, Clone)]
pub(crate) struct LayerRow {
    pub(crate) tar_size: u64,
    pub(crate) content_size: u64,
    pub(crate) entries: u64,
}

/// What is recorded of a compressed layer.
#[derive(Debug, Clone)]
pub(crate) struct CompressionRow {
    pub(crate) diff_id: Digest,
    pub(crate) media_type: String,
    pub(crate) size: u64,
}

/// What is recorded of an image.
#[derive(Debug, Clone)]
pub(crate) struct ImageRow {
    pub(crate) id: Digest,
    pub(crate) manifest: Option<Digest>,
    pub(crate) layers: Vec<DiffId>,
}

/// What is recorded of a tag.
#[derive(Debug, Clone)]
pub(crate) struct TagRow {
    pub(crate) name: String,
    pub(crate) image: Digest,
    pub(crate) manifest: Option<Digest>,
}

/// What is recorded of a container: columns and the record.
#[derive(Debug, Clone)]
pub(crate) struct ContainerRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) image: Digest,
    pub(crate) record: Result<Box<ContainerRecord>, String>,
}

/// The records of one moment. Rows that are not valid count as absent.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) blobs: HashMap<Digest, BlobRow>,
    pub(crate) layers: HashMap<Digest, LayerRow>,
    pub(crate) compressions: HashMap<Digest, CompressionRow>,
    pub(crate) images: Vec<ImageRow>,
    pub(crate) tags: Vec<TagRow>,
    /// Repository, digest, image.
    pub(crate) repo_digests: Vec<(String, Digest, Digest)>,
    pub(crate) containers: Vec<ContainerRow>,
    /// Key and layer.
    pub(crate) steps: Vec<(Digest, Digest)>,
    /// The logs of builds.
    pub(crate) logs: Vec<Digest>,
    /// Tag, document, image.
    pub(crate) served: Vec<(String, Digest, Option<Digest>)>,
    /// Tag and part.
    pub(crate) served_parts: Vec<(String, Digest)>,
    /// Blobs and layers that are kept for an undo.
    pub(crate) held: HashSet<Digest>,
}

impl Records {
    /// Reads all tables at once, while no other process writes: a file is renamed into place
    /// inside the transaction that records it.
    pub(super) fn read(store: &Store) -> Result<(Self, Vec<Finding>), StoreError> {
        let behavior = match store.check_writable() {
            Ok(()) => TransactionBehavior::Immediate,
            Err(_) => TransactionBehavior::Deferred,
        };
        store.read(|connection| {
            let tx = Transaction::new_unchecked(connection, behavior)?;
            let mut reader = Reader {
                connection: &tx,
                path: store.root().join("db.sqlite"),
                findings: Vec::new(),
            };
            let records = reader.all(store.boot_id())?;
            Ok((records, reader.findings))
        })
    }
}

struct Reader<'a> {
    connection: &'a Connection,
    path: std::path::PathBuf,
    findings: Vec<Finding>,
}

impl Reader<'_> {
    fn all(&mut self, boot_id: &str) -> Result<Records, StoreError> {
        let mut records = Records::default();
        let valid = format!("WHERE synced = 1 OR boot = '{}'", boot_id.replace('\'', ""));
        let query = format!("SELECT digest, media_type, size FROM blobs {valid}");
        records.blobs.extend(self.rows("blobs", &query, |row| {
            let size = db::to_u64(row, 2)?;
            let media_type = row.get(1)?;
            Ok((db::digest(row, 0)?, BlobRow { media_type, size }))
        })?);
        let query = format!("SELECT diff_id, tar_size, content_size, entries FROM layers {valid}");
        records.layers.extend(self.rows("layers", &query, |row| {
            let layer = LayerRow {
                tar_size: db::to_u64(row, 1)?,
                content_size: db::to_u64(row, 2)?,
                entries: db::to_u64(row, 3)?,
            };
            Ok((db::digest(row, 0)?, layer))
        })?);
        let query = "SELECT digest, diff_id, media_type, size FROM compressions";
        records
            .compressions
            .extend(self.rows("compressions", query, |row| {
                let compression = CompressionRow {
                    diff_id: db::digest(row, 1)?,
                    media_type: row.get(2)?,
                    size: db::to_u64(row, 3)?,
                };
                Ok((db::digest(row, 0)?, compression))
            })?);
        records.images = self.rows("images", "SELECT id, manifest, layers FROM images", |row| {
            Ok(ImageRow {
                id: db::digest(row, 0)?,
                manifest: db::optional_digest(row, 1)?,
                layers: db::layers(row, 2)?,
            })
        })?;
        let query = "SELECT name, image, manifest FROM tags ORDER BY name";
        records.tags = self.rows("tags", query, |row| {
            Ok(TagRow {
                name: row.get(0)?,
                image: db::digest(row, 1)?,
                manifest: db::optional_digest(row, 2)?,
            })
        })?;
        self.rest(&mut records)?;
        self.history()?;
        records.held = self.held()?;
        Ok(records)
    }

    fn rest(&mut self, records: &mut Records) -> Result<(), StoreError> {
        let query = "SELECT repository, digest, image FROM repo_digests";
        records.repo_digests = self.rows("repo_digests", query, |row| {
            Ok((row.get(0)?, db::digest(row, 1)?, db::digest(row, 2)?))
        })?;
        let query = "SELECT id, name, image, record FROM containers ORDER BY name";
        records.containers = self.rows("containers", query, |row| {
            let record: String = row.get(3)?;
            let record = serde_json::from_str(&record);
            Ok(ContainerRow {
                id: row.get(0)?,
                name: row.get(1)?,
                image: db::digest(row, 2)?,
                record: record.map(Box::new).map_err(|error| error.to_string()),
            })
        })?;
        let query = "SELECT key, layer FROM steps WHERE layer IS NOT NULL";
        records.steps = self.rows("steps", query, |row| {
            Ok((db::digest(row, 0)?, db::digest(row, 1)?))
        })?;
        let query = "SELECT log FROM builds WHERE log IS NOT NULL";
        records.logs = self.rows("builds", query, |row| db::digest(row, 0))?;
        let query = "SELECT name, document, image FROM served";
        records.served = self.rows("served", query, |row| {
            let image = db::optional_digest(row, 2)?;
            Ok((row.get(0)?, db::digest(row, 1)?, image))
        })?;
        let query = "SELECT name, part FROM served_parts";
        records.served_parts = self.rows("served_parts", query, |row| {
            Ok((row.get(0)?, db::digest(row, 1)?))
        })?;
        Ok(())
    }

    /// Reads what only tells of the past, to see whether it can be read.
    fn history(&mut self) -> Result<(), StoreError> {
        // The table, its digests, and a column that is text.
        let tables: [(&'static str, &str, &str); 7] = [
            ("tag_journal", "before, after", "name"),
            ("origins", "digest", "repository"),
            ("uploads", "digest", "url"),
            (
                "undo_tags",
                "image, manifest, document, after_image, after_document",
                "name",
            ),
            ("undo_parts", "part", "name"),
            ("undo_digests", "digest, image, after_image", "repository"),
            ("undo_images", "id, manifest, parent", "labels"),
        ];
        for (table, digests, text) in tables {
            let count = digests.split(',').count();
            let query = format!("SELECT {digests}, {text} FROM {table}");
            self.rows(table, &query, |row| {
                for column in 0..count {
                    db::optional_digest(row, column)?;
                }
                row.get::<_, String>(count).map(drop)
            })?;
        }
        let query = "SELECT command, kind FROM operations";
        self.rows("operations", query, |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        Ok(())
    }

    fn held(&mut self) -> Result<HashSet<Digest>, StoreError> {
        let held = held::held(self.connection, Whose::All, Timestamp::now())?;
        Ok(held.layers.into_iter().chain(held.blobs).collect())
    }

    /// Reads the rows of one table. One of the wrong shape is a finding.
    fn rows<T>(
        &mut self,
        table: &'static str,
        query: &str,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut query = self.connection.prepare(query)?;
        let mut rows = query.query([])?;
        let mut found = Vec::new();
        let mut number = 0_usize;
        while let Some(row) = rows.next()? {
            number += 1;
            match read(row) {
                Ok(value) => found.push(value),
                Err(error) => self.findings.push(Finding {
                    damage: Damage::Record {
                        table,
                        row: format!("row {number}"),
                        what: error.to_string(),
                        mend: None,
                    },
                    path: self.path.clone(),
                    needed_by: NeededBy::default(),
                }),
            }
        }
        Ok(found)
    }
}

/// Who needs what.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Names by image.
    names: HashMap<Digest, Vec<String>>,
    /// Under which names with digest registries have an image.
    sources: HashMap<Digest, Vec<String>>,
    /// What is kept for an undo.
    held: HashSet<Digest>,
    /// Images by blob or layer.
    images: HashMap<Digest, BTreeSet<Digest>>,
    /// Tags by part of what they lead to.
    tags: HashMap<Digest, BTreeSet<String>>,
    /// Containers by blob or layer, and whether they run.
    containers: HashMap<Digest, BTreeMap<String, bool>>,
    roles: HashMap<Digest, Role>,
}

impl Needs {
    pub(super) fn of(store: &Store, records: &Records) -> Self {
        let mut needs = Self::default();
        for tag in &records.tags {
            let name = familiar(&tag.name);
            needs.names.entry(tag.image).or_default().push(name);
        }
        needs.held.clone_from(&records.held);
        for (repository, digest, image) in &records.repo_digests {
            let name = match Reference::parse(repository) {
                Ok(name) => name.with_digest(*digest).familiar(),
                Err(_) => format!("{repository}@{digest}"),
            };
            needs.sources.entry(*image).or_default().push(name);
        }
        for (image, sources) in &needs.sources {
            if !needs.names.contains_key(image) {
                needs.names.insert(*image, sources.clone());
            }
        }
        let mut by_layer: HashMap<Digest, BTreeSet<Digest>> = HashMap::new();
        for image in &records.images {
            needs.image(image.id, &image.id, Role::Config);
            if let Some(manifest) = &image.manifest {
                needs.image(image.id, manifest, Role::Manifest);
            }
            for layer in &image.layers {
                by_layer
                    .entry(*layer.digest())
                    .or_default()
                    .insert(image.id);
            }
        }
        for tag in &records.tags {
            if let Some(manifest) = &tag.manifest {
                needs.image(tag.image, manifest, Role::Manifest);
            }
        }
        for container in &records.containers {
            needs.roles.entry(container.image).or_insert(Role::Config);
            needs.container(store, container, &container.image);
            for layer in container.record.iter().flat_map(|record| &record.layers) {
                needs.container(store, container, layer.digest());
            }
        }
        for (digest, compression) in &records.compressions {
            let role = Role::Layer(DiffId(compression.diff_id));
            needs.roles.entry(*digest).or_insert(role);
            // Without it, the image runs; only a push as it came does not go.
            let images = by_layer.get(&compression.diff_id).cloned();
            needs
                .images
                .entry(*digest)
                .or_default()
                .extend(images.into_iter().flatten());
        }
        for log in &records.logs {
            needs.roles.insert(*log, Role::Log);
        }
        for (name, part) in &records.served_parts {
            needs.tags.entry(*part).or_default().insert(familiar(name));
        }
        for (layer, images) in by_layer {
            needs.images.entry(layer).or_default().extend(images);
        }
        needs
    }

    fn image(&mut self, image: Digest, part: &Digest, role: Role) {
        self.images.entry(*part).or_default().insert(image);
        self.roles.insert(*part, role);
    }

    fn container(&mut self, store: &Store, container: &ContainerRow, part: &Digest) {
        let record = container.record.as_ref();
        let is_running = record.is_ok_and(|record| store.is_running(record));
        let users = self.containers.entry(*part).or_default();
        users.insert(container.name.clone(), is_running);
    }

    /// Returns what a blob is for.
    pub(super) fn role(&self, digest: &Digest) -> Role {
        self.roles.get(digest).copied().unwrap_or(Role::Part)
    }

    /// Returns the names of an image.
    pub(super) fn names(&self, image: &Digest) -> Vec<String> {
        match self.names.get(image) {
            Some(names) => names.clone(),
            None => vec![image.short()],
        }
    }

    /// Returns the images that need a blob or layer.
    pub(super) fn images(&self, part: &Digest) -> impl Iterator<Item = &Digest> {
        self.images.get(part).into_iter().flatten()
    }

    /// Returns who needs a blob or layer.
    pub(super) fn by(&self, part: &Digest) -> NeededBy {
        let mut images: BTreeSet<String> = self
            .images(part)
            .flat_map(|image| self.names(image))
            .collect();
        images.extend(self.tags.get(part).into_iter().flatten().cloned());
        let sources: BTreeSet<String> = self
            .images(part)
            .flat_map(|image| self.sources.get(image).into_iter().flatten().cloned())
            .collect();
        let users = self.containers.get(part);
        let users = || users.into_iter().flatten();
        NeededBy {
            images: images.into_iter().collect(),
            sources: sources.into_iter().collect(),
            is_held: self.held.contains(part),
            containers: users().map(|(name, _)| name.clone()).collect(),
            running: users()
                .filter(|(_, is_running)| **is_running)
                .map(|(name, _)| name.clone())
                .collect(),
        }
    }
}

/// Returns a stored name as people write it.
fn familiar(name: &str) -> String {
    match Reference::parse(name) {
        Ok(reference) => reference.familiar(),
        Err(_) => name.to_owned(),
    }
}
