//! What keeps what a prune leaves.

use std::collections::{HashMap, HashSet};

use oci::{DiffId, Digest, ImageId, Reference};
use rusqlite::{Connection, Transaction};

use crate::census::{Census, Holder};
use crate::held::{self, Whose};
use crate::measure::Meter;
use crate::prune::{Selection, selects};
use crate::sweep::Needed;
use crate::{
    Compressed, ContainerRecord, ImageRecord, Prune, PruneScope, StepScope, Store, StoreError,
    Timestamp, container, image, operation, step,
};

/// Something that a prune leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it is.
    pub what: KeptThing,
    /// The bytes of disk that it takes, what others have too among them.
    pub bytes: u64,
    /// What keeps it: never nothing.
    pub by: Vec<Keeper>,
}

/// What a prune leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptThing {
    /// A container, by its name.
    Container(String),
    /// An image: its first name, or none, and its id.
    Image(Option<String>, ImageId),
    /// A build step: its key and instruction.
    Step(Digest, String),
    /// A layer of something that goes.
    Layer(DiffId),
    /// The compressed forms of layers, so many.
    Compressed(usize),
    /// What only an undo of a command needs.
    Held(String),
    /// A download, an upload or a build under way, by the name of its file.
    Partial(String),
}

/// What keeps something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// A tag, which only a prune of all unused images removes.
    Tag(String),
    /// A tag that is among the last used ones of its repository.
    Recent(String),
    /// A container, by its name.
    Container(String),
    /// An image that was committed from it, by name or short id.
    Child(String),
    /// An image that has it, by name or short id.
    Image(String),
    /// A build step that made it, by its key.
    Step(Digest),
    /// An undo of this command, until then.
    Undo(String, Timestamp),
    /// It runs.
    Running,
    /// The conditions of the prune do not hold for it.
    Condition,
    /// The store is small enough without it.
    Target,
    /// The layers are here, and may be pushed or served.
    Layers,
    /// It belongs to an image that has not come whole yet.
    Arriving,
    /// A command works on it.
    Working,
    /// It may be gone on with for a week.
    Recently,
}

/// What is left, before its files are measured.
pub(crate) struct Unmeasured {
    kept: Kept,
    parts: Needed,
}

/// What a prune has done when its rest is explained.
pub(crate) struct Done<'a> {
    pub(crate) prune: &'a Prune,
    pub(crate) selection: Option<&'a Selection<'a>>,
    /// The needs of all records before.
    pub(crate) before: &'a Census,
    /// The operation that the prune is.
    pub(crate) own: Option<i64>,
}

/// Lists what is left of the kinds that the prune is for, in a transaction in which it was done.
pub(crate) fn explain(
    store: &Store,
    tx: &Transaction<'_>,
    done: &Done<'_>,
) -> Result<Vec<Unmeasured>, StoreError> {
    let census = Census::read(tx)?;
    let images = image::all(tx)?;
    let names: HashMap<ImageId, String> = images
        .iter()
        .map(|image| (image.id, name_of(image)))
        .collect();
    let mut left = Vec::new();
    let containers = container::all(tx)?;
    if !done.prune.containers.is_empty() || done.prune.images.is_some() {
        left.extend(explain_containers(store, &containers));
    }
    if let Some(selection) = done.selection {
        let mut users: HashMap<ImageId, Vec<Keeper>> = HashMap::new();
        for record in &containers {
            let keeper = Keeper::Container(record.name.clone());
            users.entry(record.image).or_default().push(keeper);
        }
        for image in &images {
            if let Some(parent) = image.parent {
                let keeper = Keeper::Child(name_of(image));
                users.entry(parent).or_default().push(keeper);
            }
        }
        for image in &images {
            let mut by = users.remove(&image.id).unwrap_or_default();
            by.extend(keepers_of_image(image, selection));
            let mut parts = Needed::default();
            parts
                .layers
                .extend(image.layers.iter().map(|layer| *layer.digest()));
            parts.blobs.insert(*image.id.digest());
            let name = image.tags.first().map(Reference::familiar);
            left.push(Unmeasured::new(KeptThing::Image(name, image.id), parts, by));
        }
    }
    if done.prune.steps.is_some() {
        explain_steps(tx, done, (&images, &names), &mut left)?;
    }
    explain_layers(tx, done, (&census, &names), &mut left)?;
    explain_rest(store, tx, done, &census, &mut left)?;
    Ok(left)
}

/// Lists the containers that are left.
pub(crate) fn explain_containers(store: &Store, records: &[ContainerRecord]) -> Vec<Unmeasured> {
    let left = records.iter().map(|record| {
        let keeper = match store.is_running(record) {
            true => Keeper::Running,
            false => Keeper::Condition,
        };
        let mut parts = Needed::default();
        parts.containers.insert(record.id.clone());
        let what = KeptThing::Container(record.name.clone());
        Unmeasured::new(what, parts, vec![keeper])
    });
    left.collect()
}

impl Unmeasured {
    fn new(what: KeptThing, parts: Needed, by: Vec<Keeper>) -> Self {
        let kept = Kept { what, bytes: 0, by };
        Self { kept, parts }
    }
}

fn name_of(image: &ImageRecord) -> String {
    let name = image.tags.first().map(Reference::familiar);
    name.unwrap_or_else(|| image.id.digest().short())
}

fn keepers_of_image(image: &ImageRecord, selection: &Selection<'_>) -> Vec<Keeper> {
    let recent = image.tags.iter().filter(|tag| selection.kept.contains(tag));
    let recent: Vec<Keeper> = recent.map(|tag| Keeper::Recent(tag.familiar())).collect();
    if !recent.is_empty() {
        return recent;
    }
    let only_tagged = selection.filter.scope == PruneScope::Dangling && !image.tags.is_empty();
    if only_tagged {
        let tags = image.tags.iter().map(|tag| Keeper::Tag(tag.familiar()));
        return tags.collect();
    }
    match selects(selection.filter, image) {
        false => vec![Keeper::Condition],
        true if selection.chosen.is_some() => vec![Keeper::Target],
        true => Vec::new(),
    }
}

fn explain_steps(
    tx: &Connection,
    done: &Done<'_>,
    (images, names): (&[ImageRecord], &HashMap<ImageId, String>),
    left: &mut Vec<Unmeasured>,
) -> Result<(), StoreError> {
    let Some(filter) = &done.prune.steps else {
        return Ok(());
    };
    let mut users: HashMap<DiffId, Vec<ImageId>> = HashMap::new();
    for image in images {
        for layer in &image.layers {
            users.entry(*layer).or_default().push(image.id);
        }
    }
    for step in step::all(tx)? {
        let mut by = Vec::new();
        if filter.scope == StepScope::Unused {
            let users = step.layer.and_then(|layer| users.get(&layer));
            let users = users.into_iter().flatten();
            by.extend(users.filter_map(|id| Some(Keeper::Image(names.get(id)?.clone()))));
        }
        if filter.until.is_some_and(|until| step.last_used >= until) {
            by.push(Keeper::Condition);
        }
        if by.is_empty() {
            by.push(Keeper::Target);
        }
        let mut parts = Needed::default();
        parts.layers.extend(step.layer.map(|layer| *layer.digest()));
        let what = KeptThing::Step(step.key, step.instruction);
        left.push(Unmeasured::new(what, parts, by));
    }
    Ok(())
}

/// Lists the layers of what has gone that stay.
fn explain_layers(
    tx: &Connection,
    done: &Done<'_>,
    (census, names): (&Census, &HashMap<ImageId, String>),
    left: &mut Vec<Unmeasured>,
) -> Result<(), StoreError> {
    let here: HashSet<String> = census
        .claims
        .iter()
        .map(|c| format!("{:?}", c.holder))
        .collect();
    let gone = done.before.claims.iter();
    let gone = gone.filter(|claim| !here.contains(&format!("{:?}", claim.holder)));
    let mut layers: Vec<Digest> = gone
        .flat_map(|claim| claim.layers.iter().copied())
        .collect();
    layers.sort_unstable();
    layers.dedup();
    let mut keepers: HashMap<Digest, Vec<Keeper>> = HashMap::new();
    let mut containers = HashMap::new();
    for record in container::all(tx)? {
        containers.insert(record.id, record.name);
    }
    for claim in &census.claims {
        let keeper = match &claim.holder {
            Holder::Image(id) => Keeper::Image(names.get(id).cloned().unwrap_or_default()),
            Holder::Tag { key, .. } => Keeper::Tag(key.clone()),
            Holder::Container(id) => {
                Keeper::Container(containers.get(id).cloned().unwrap_or_default())
            }
            Holder::Step(key) => Keeper::Step(*key),
            Holder::Build(_) => continue,
            Holder::Lease => Keeper::Arriving,
        };
        for layer in &claim.layers {
            keepers.entry(*layer).or_default().push(keeper.clone());
        }
    }
    for layer in layers {
        if let Some(by) = keepers.remove(&layer) {
            let mut parts = Needed::default();
            parts.layers.insert(layer);
            left.push(Unmeasured::new(KeptThing::Layer(DiffId(layer)), parts, by));
        }
    }
    Ok(())
}

/// Lists what no prune is for.
fn explain_rest(
    store: &Store,
    tx: &Connection,
    done: &Done<'_>,
    census: &Census,
    left: &mut Vec<Unmeasured>,
) -> Result<(), StoreError> {
    let needed = census.needed(|_| true);
    if done.prune.compressed == Compressed::Keep {
        let mut parts = Needed::default();
        let compressed = census.compressions.iter();
        let compressed = compressed.filter(|(_, layer)| needed.layers.contains(layer));
        for (blob, _) in compressed {
            if crate::blob::find(tx, blob, store.boot_id())?.is_some() {
                parts.blobs.insert(*blob);
            }
        }
        if !parts.blobs.is_empty() {
            let what = KeptThing::Compressed(parts.blobs.len());
            left.push(Unmeasured::new(what, parts, vec![Keeper::Layers]));
        }
    }
    let mut query = tx.prepare_cached("SELECT seq FROM operations WHERE held_until > 0")?;
    let holding = query.query_map([], |row| row.get(0))?;
    let holding: Vec<i64> = holding.collect::<Result<_, _>>()?;
    for seq in holding.into_iter().filter(|seq| Some(*seq) != done.own) {
        let mut parts = held::held(tx, Whose::Only(seq), Timestamp::now())?;
        parts.remove_all(&needed);
        let Some(operation) = operation::find(tx, seq)? else {
            continue;
        };
        if let (false, Some(until)) = (parts.is_empty(), operation.held_until) {
            let title = operation.title();
            let keeper = Keeper::Undo(title.clone(), until);
            left.push(Unmeasured::new(KeptThing::Held(title), parts, vec![keeper]));
        }
    }
    Ok(())
}

impl Store {
    /// Measures what is left, outside a transaction.
    pub(crate) fn measured(&self, left: Vec<Unmeasured>) -> Vec<Kept> {
        let mut known: HashMap<(&str, String), u64> = HashMap::new();
        let mut bytes = |directory: &'static str, name: String| {
            let path = self.root().join(directory).join(&name);
            let measure = || Meter::default().tree(&path);
            *known.entry((directory, name)).or_insert_with(measure)
        };
        let mut all = Vec::with_capacity(left.len());
        for Unmeasured { mut kept, parts } in left {
            let layers = parts.layers.iter().map(|layer| ("layers", layer.hex()));
            let blobs = parts.blobs.iter().map(|blob| ("blobs/sha256", blob.hex()));
            let containers = parts.containers.iter().map(|id| ("containers", id.clone()));
            for (directory, name) in layers.chain(blobs).chain(containers) {
                kept.bytes += bytes(directory, name);
            }
            all.push(kept);
        }
        all
    }
}
