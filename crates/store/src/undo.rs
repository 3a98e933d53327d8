//! Undoing what an operation did to names and images.
//!
//! An operation is undone only where things are as it left them: a tag that another command has
//! moved since is never moved back over it. Images come back when all their layers are still in
//! the store: within the time that removed images are held, or when something else has the layers.

use std::collections::{BTreeMap, HashSet};

use oci::{DiffId, Digest, ImageId, Reference};
use rusqlite::{Connection, params};

use crate::change::{DigestChange, TagChange, TagState};
use crate::operation::IMAGE_COLUMNS;
use crate::{Operation, Store, StoreError, blob, change, db, image, journal, operation, tag};

/// What an undo did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undo {
    /// What was undone.
    pub operation: Operation,
    /// What is as it was before.
    pub restored: Vec<Restored>,
    /// Images that do not come back.
    pub lost: Vec<LostImage>,
    /// Names whose index, or manifest of something else than an image, does not come back.
    pub lost_documents: Vec<String>,
}

/// Something that an undo brought back, or took away again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// An image is in the store again.
    Image(ImageId),
    /// A tag, or a name with digest, leads where it did.
    Tagged(String),
    /// A tag, or a name with digest, is gone again.
    Untagged(String),
}

/// An image that does not come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostImage {
    /// The image.
    pub id: ImageId,
    /// The names that would lead to it.
    pub names: Vec<String>,
    /// Its layers that are gone. None is when only its configuration is.
    pub missing: Vec<DiffId>,
    /// Under which name and digest a registry had it.
    pub origin: Option<Reference>,
}

/// Why nothing was undone. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// There was no operation, or all were undone.
    #[error("nothing to undo")]
    NothingToUndo,
    /// There is no operation with the number.
    #[error("no such operation: {0}")]
    NoSuchOperation(i64),
    /// The operation is itself an undo.
    #[error("operation {0} is itself an undo")]
    IsUndo(i64),
    /// The operation was undone before.
    #[error("`{0}` was undone already")]
    AlreadyUndone(String),
    /// What the operation changed is not known.
    #[error("what `{0}` changed is not remembered any more")]
    Forgotten(String),
    /// Things are not as the operation left them.
    #[error("cannot undo `{operation}`: {name} was changed since{}", by(.later.as_deref()))]
    Changed {
        /// The operation.
        operation: String,
        /// The name that has changed.
        name: String,
        /// The operation that changed it, if that is known.
        later: Option<Box<Operation>>,
    },
    /// All that the operation removed is gone.
    #[error("cannot undo `{}`: what it removed is gone", .0.operation.title())]
    Lost(Box<Undo>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn by(later: Option<&Operation>) -> String {
    later.map_or_else(String::new, |later| {
        format!(" by `{}` (operation {})", later.title(), later.seq)
    })
}

impl Store {
    /// Undoes an operation given by its number, else the last one that was not undone. The undo is
    /// an operation too, the one that this handle stands for. The caller must not hold the root's
    /// lock exclusively.
    pub fn undo(&self, seq: Option<i64>) -> Result<Undo, UndoError> {
        // No sweep takes a layer between the look at it and the record that keeps it.
        let lock = self.lock_shared()?;
        let undo = self.write(|tx| {
            let plan = self.plan(tx, seq)?;
            self.apply(tx, &plan)?;
            Ok(plan.undo)
        });
        drop(lock);
        undo
    }

    /// Tells what [`Store::undo`] would do now.
    pub fn rehearse_undo(&self, seq: Option<i64>) -> Result<Undo, UndoError> {
        let plan = self.read(|connection| Ok(self.plan(connection, seq)))?;
        Ok(plan?.undo)
    }

    fn plan(&self, connection: &Connection, seq: Option<i64>) -> Result<Plan, UndoError> {
        let operation = choose(connection, seq)?;
        let tags = change::tags(connection, operation.seq)?;
        let digests = change::digests(connection, operation.seq)?;
        let images = removed_images(connection, operation.seq)?;
        if tags.is_empty() && digests.is_empty() && images.is_empty() {
            return Err(UndoError::Forgotten(operation.title()));
        }
        let mut plan = Plan {
            undo: Undo {
                operation,
                restored: Vec::new(),
                lost: Vec::new(),
                lost_documents: Vec::new(),
            },
            images: Vec::new(),
            coming: HashSet::new(),
            tags: Vec::new(),
            digests: Vec::new(),
            lost: BTreeMap::new(),
        };
        for image in images {
            self.plan_image(connection, &mut plan, image)?;
        }
        for change in tags {
            self.plan_tag(connection, &mut plan, change)?;
        }
        for change in digests {
            plan_digest(connection, &mut plan, change)?;
        }
        for (id, (names, missing)) in std::mem::take(&mut plan.lost) {
            let origin = journal::origin(connection, ImageId(id))?;
            plan.undo.lost.push(LostImage {
                id: ImageId(id),
                names,
                missing,
                origin,
            });
        }
        let is_lost = !plan.undo.lost.is_empty() || !plan.undo.lost_documents.is_empty();
        if plan.undo.restored.is_empty() && is_lost {
            return Err(UndoError::Lost(Box::new(plan.undo)));
        }
        Ok(plan)
    }

    fn plan_image(
        &self,
        connection: &Connection,
        plan: &mut Plan,
        removed: RemovedImage,
    ) -> Result<(), StoreError> {
        let id = removed.id;
        if image::exists(connection, &id)? {
            return Ok(());
        }
        let mut missing = Vec::new();
        for layer in removed.layers {
            if self.find_layer(connection, &layer)?.is_none() {
                missing.push(layer);
            }
        }
        if !missing.is_empty() || !self.has_part(connection, id.digest())? {
            plan.lost.insert(*id.digest(), (Vec::new(), missing));
            return Ok(());
        }
        let has_manifest = match &removed.manifest {
            Some(manifest) => self.has_part(connection, manifest)?,
            None => false,
        };
        plan.coming.insert(id);
        plan.images.push((id, has_manifest));
        plan.undo.restored.push(Restored::Image(id));
        Ok(())
    }

    fn plan_tag(
        &self,
        connection: &Connection,
        plan: &mut Plan,
        change: TagChange,
    ) -> Result<(), UndoError> {
        let now = TagState::read(connection, &change.key)?;
        let (mut wanted, key) = (change.before, change.key);
        let leads = |image, document| now.image == image && now.document_digest() == document;
        if leads(wanted.image, wanted.document_digest()) {
            return Ok(());
        }
        let name = familiar(&key);
        if !leads(change.after_image, change.after_document) {
            let operation = &plan.undo.operation;
            return Err(UndoError::Changed {
                operation: operation.title(),
                name,
                later: later_change(connection, &key, operation.seq)?.map(Box::new),
            });
        }
        if let Some(id) = wanted.image
            && !plan.has(connection, id)?
        {
            plan.lose(id, name);
            return Ok(());
        }
        if let Some(manifest) = wanted.manifest
            && !self.has_part(connection, &manifest)?
        {
            wanted.manifest = None;
        }
        if !self.has_document(connection, &wanted)? {
            wanted.document = None;
            plan.undo.lost_documents.push(name.clone());
            if wanted.image.is_none() {
                return Ok(());
            }
        }
        let is_nothing = wanted.image.is_none() && wanted.document.is_none();
        plan.undo.restored.push(match is_nothing {
            true => Restored::Untagged(name),
            false => Restored::Tagged(name),
        });
        plan.tags.push((key, wanted));
        Ok(())
    }

    /// Tells whether all that a tag's document leads to is in the store.
    fn has_document(&self, connection: &Connection, state: &TagState) -> Result<bool, StoreError> {
        if let Some(document) = &state.document {
            for part in document.parts.iter().chain([&document.digest]) {
                if !self.has_part(connection, part)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Tells whether a blob or layer is in the store, as [`Store::has_blob`] does outside
    /// transactions.
    fn has_part(&self, connection: &Connection, digest: &Digest) -> Result<bool, StoreError> {
        if blob::find(connection, digest, self.boot_id())?.is_some()
            && self.blob_path(digest).exists()
        {
            return Ok(true);
        }
        Ok(self.find_layer(connection, &DiffId(*digest))?.is_some())
    }

    fn apply(&self, tx: &Connection, plan: &Plan) -> Result<(), StoreError> {
        let undone = plan.undo.operation.seq;
        let own = self.begin(tx)?;
        let insert = format!(
            "INSERT INTO images ({IMAGE_COLUMNS})
                SELECT {IMAGE_COLUMNS} FROM undo_images WHERE operation = ?1 AND id = ?2"
        );
        let mut insert = tx.prepare_cached(&insert)?;
        for (id, has_manifest) in &plan.images {
            let id = id.digest().as_bytes();
            insert.execute(params![undone, id])?;
            if !has_manifest {
                tx.execute(
                    "UPDATE images SET manifest = NULL, manifest_type = NULL,
                        manifest_size = NULL, manifest_received = 0 WHERE id = ?1",
                    [id],
                )?;
            }
        }
        for (key, state) in &plan.tags {
            change::of_tag(self, tx, key, || state.write(tx, key))?;
        }
        for change in &plan.digests {
            let of = (change.repository.as_str(), &change.digest);
            tag::set_digest(self, tx, of, change.before.as_ref())?;
        }
        tx.execute(
            "UPDATE operations SET undone_by = ?2, held_until = 0 WHERE seq = ?1",
            params![undone, own.unwrap_or(undone)],
        )?;
        tx.execute(
            "UPDATE operations SET undoes = ?2, command = ?3 WHERE seq = ?1",
            params![
                own,
                undone,
                format!("undo: {}", plan.undo.operation.title())
            ],
        )?;
        Ok(())
    }
}

/// What an undo is going to write.
struct Plan {
    undo: Undo,
    /// Images to restore, and whether their manifests are there.
    images: Vec<(ImageId, bool)>,
    coming: HashSet<ImageId>,
    tags: Vec<(String, TagState)>,
    digests: Vec<DigestChange>,
    /// Names and missing layers of images that do not come back.
    lost: BTreeMap<Digest, (Vec<String>, Vec<DiffId>)>,
}

impl Plan {
    fn has(&self, connection: &Connection, id: ImageId) -> Result<bool, StoreError> {
        Ok(self.coming.contains(&id) || image::exists(connection, &id)?)
    }

    fn lose(&mut self, id: ImageId, name: String) {
        let (names, _) = self.lost.entry(*id.digest()).or_default();
        names.push(name);
    }
}

struct RemovedImage {
    id: ImageId,
    manifest: Option<Digest>,
    layers: Vec<DiffId>,
}

fn removed_images(
    connection: &Connection,
    operation: i64,
) -> Result<Vec<RemovedImage>, StoreError> {
    let mut query = connection
        .prepare_cached("SELECT id, manifest, layers FROM undo_images WHERE operation = ?1")?;
    let rows = query.query_map([operation], |row| {
        Ok(RemovedImage {
            id: ImageId(db::digest(row, 0)?),
            manifest: db::optional_digest(row, 1)?,
            layers: db::layers(row, 2)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn choose(connection: &Connection, seq: Option<i64>) -> Result<Operation, UndoError> {
    let Some(seq) = seq else {
        return operation::last(connection)?.ok_or(UndoError::NothingToUndo);
    };
    let found = operation::find(connection, seq)?;
    let operation = found.ok_or(UndoError::NoSuchOperation(seq))?;
    if operation.undoes.is_some() {
        return Err(UndoError::IsUndo(seq));
    }
    if operation.undone_by.is_some() {
        return Err(UndoError::AlreadyUndone(operation.title()));
    }
    Ok(operation)
}

fn plan_digest(
    connection: &Connection,
    plan: &mut Plan,
    change: DigestChange,
) -> Result<(), UndoError> {
    let now = tag::find_digest(connection, &change.repository, &change.digest)?;
    if now == change.before {
        return Ok(());
    }
    let name = format!("{}@{}", familiar(&change.repository), change.digest);
    if now != change.after {
        return Err(UndoError::Changed {
            operation: plan.undo.operation.title(),
            name,
            later: None,
        });
    }
    match change.before {
        Some(id) if !plan.has(connection, id)? => {
            plan.lose(id, name);
            return Ok(());
        }
        Some(_) => plan.undo.restored.push(Restored::Tagged(name)),
        None => plan.undo.restored.push(Restored::Untagged(name)),
    }
    plan.digests.push(change);
    Ok(())
}

/// Finds the last operation after `seq` that changed a tag.
fn later_change(
    connection: &Connection,
    key: &str,
    seq: i64,
) -> Result<Option<Operation>, StoreError> {
    let mut query = connection.prepare_cached(
        "SELECT max(operation) FROM undo_tags WHERE name = ?1 AND operation > ?2",
    )?;
    let later: Option<i64> = query.query_row(params![key, seq], |row| row.get(0))?;
    match later {
        Some(later) => operation::find(connection, later),
        None => Ok(None),
    }
}

/// Only valid names are written.
fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.familiar())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use oci::ImageConfig;
    use rusqlite::types::Value;

    use super::*;
    use crate::{Force, NewImage, Purpose, Timestamp, UndoWindow};

    fn rows(store: &Store) -> Vec<Vec<Value>> {
        let rows = store.read(|connection| {
            let mut query = connection.prepare("SELECT * FROM images")?;
            let columns = query.column_count();
            let rows = query.query_map([], |row| {
                let values = (0..columns).map(|column| row.get(column));
                values.collect::<rusqlite::Result<Vec<Value>>>()
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        });
        rows.expect("read")
    }

    /// Fails when a column of `images` is missing in [`IMAGE_COLUMNS`].
    #[test]
    fn an_image_comes_back_with_every_column() {
        let directory = tempfile::tempdir().expect("a directory");
        let (root, run) = (directory.path().join("root"), directory.path().join("run"));
        let store = Store::open(&root, &run).expect("a store");
        let config = ImageConfig {
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            created: Some("2026-01-02T03:04:05Z".to_owned()),
            ..ImageConfig::default()
        };
        let image = NewImage {
            config: &config.to_bytes(),
            manifest: None,
            parent: Some(ImageId(Digest::of(b"parent"))),
            times: &[Some(Timestamp(5))],
        };
        let id = store.put_image(&image).expect("an image");
        store.generated_manifest(&id);
        let name = Reference::parse("a:1").expect("a name");
        store.tag(&name, &id, None).expect("tagged");
        store.touch_image(&id).expect("used");
        let before = rows(&store);
        assert!(
            before[0].iter().all(|value| *value != Value::Null),
            "{before:?}"
        );

        let own = store.operation(Purpose {
            window: UndoWindow::Always(Duration::from_secs(3600)),
            ..Purpose::default()
        });
        own.remove_image("a:1", Force::No).expect("removed");
        assert!(rows(&store).is_empty());
        store.sweep().expect("swept");
        store.undo(None).expect("undone");
        assert_eq!(rows(&store), before);
    }

    impl Store {
        fn generated_manifest(&self, id: &ImageId) {
            let bytes = self.generate_manifest(id, Vec::new()).expect("made");
            self.record_generated_manifest(id, &bytes)
                .expect("recorded");
        }
    }
}
