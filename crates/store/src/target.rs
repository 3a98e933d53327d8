//! Choosing what goes so that the store takes no more than it may.

use std::collections::{HashMap, HashSet};

use oci::{Digest, ImageId};

use crate::census::{Census, Claim, Holder};
use crate::prune::{last_used_tags, selects};
use crate::{
    Compressed, ContainerRecord, ImageRecord, Prune, PruneFilter, StepScope, Store, StoreError,
    Timestamp, Usage, image,
};

/// The least by which the records of a prune, and of how to undo it, may grow, and how much more
/// for each image.
const GROWTH: u64 = 128 << 10;
const GROWTH_OF_IMAGE: u64 = 2 << 10;

/// A store cannot become as small as it should. Nothing was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("the store cannot be brought down to {target} bytes: {least} bytes stay")]
pub struct OutOfReach {
    /// The bytes that it should take at most.
    pub target: u64,
    /// The bytes that it takes at least.
    pub least: u64,
    /// Bytes of images that containers use.
    pub used_images: u64,
    /// The names of these containers, and bytes of their own.
    pub containers: (Vec<String>, u64),
    /// Bytes of other images, which were not to go.
    pub other_images: u64,
    /// Bytes of layers that only build steps need.
    pub build_cache: u64,
    /// Bytes of compressed forms of layers.
    pub compressed: u64,
    /// Bytes of partial downloads.
    pub partial: u64,
    /// Bytes of records.
    pub records: u64,
}

/// What goes.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    pub(crate) images: HashSet<ImageId>,
    pub(crate) steps: HashSet<Digest>,
    pub(crate) caches: HashSet<String>,
}

/// Something that may go.
enum Candidate<'a> {
    Image(&'a ImageRecord),
    Step(Digest),
    Cache(String),
}

impl Store {
    /// Chooses the images and steps that were not used for the longest time until the rest takes
    /// at most `target`. What is held for an undo counts as gone.
    pub(crate) fn choose(
        &self,
        prune: &Prune,
        target: u64,
    ) -> Result<Result<Chosen, OutOfReach>, StoreError> {
        let usage = self.usage(&|_| true)?;
        let (census, images, containers, steps) = self.read(|connection| {
            Ok((
                Census::read(connection)?,
                image::all(connection)?,
                crate::container::all(connection)?,
                crate::step::all(connection)?,
            ))
        })?;
        let mut candidates: Vec<(Timestamp, Candidate<'_>)> = Vec::new();
        if let Some(filter) = &prune.images {
            let images = choosable(&images, &containers, filter);
            candidates.extend(images.map(|image| (image.last_needed(), Candidate::Image(image))));
        }
        if let Some(filter) = &prune.steps {
            let used: HashSet<_> = images.iter().flat_map(|image| &image.layers).collect();
            let free = |layer| filter.scope == StepScope::All || !used.contains(layer);
            let steps = steps.iter().filter(|step| {
                filter.until.is_none_or(|until| step.last_used < until)
                    && step.layer.as_ref().is_none_or(free)
            });
            candidates.extend(steps.map(|step| (step.last_used, Candidate::Step(step.key))));
            let caches = self.caches_of(filter)?.into_iter();
            candidates.extend(caches.map(|cache| (cache.last_used, Candidate::Cache(cache.name))));
        }
        candidates.sort_by_key(|(used, _)| *used);
        let mut ledger = Ledger::new(&usage, &census, prune.compressed);
        let mut family = Family::new(&images);
        let mut chosen = Chosen::default();
        for (_, candidate) in candidates {
            if ledger.least() <= target {
                break;
            }
            match candidate {
                Candidate::Step(key) => {
                    ledger.remove(&Holder::Step(key));
                    chosen.steps.insert(key);
                }
                Candidate::Cache(name) => {
                    ledger.bytes -= usage.cache(&name);
                    chosen.caches.insert(name);
                }
                Candidate::Image(image) => {
                    for id in family.remove(image.id) {
                        ledger.remove_image(id);
                        chosen.images.insert(id);
                    }
                }
            }
        }
        if ledger.least() <= target {
            return Ok(Ok(chosen));
        }
        Ok(Err(ledger.out_of_reach(target, &containers)))
    }
}

/// Returns the images that may go: those that the filter selects, none of whose tags it keeps, and
/// that no container uses.
fn choosable<'a>(
    images: &'a [ImageRecord],
    containers: &[ContainerRecord],
    filter: &'a PruneFilter,
) -> impl Iterator<Item = &'a ImageRecord> {
    let used: HashSet<ImageId> = containers.iter().map(|container| container.image).collect();
    let kept = match filter.keep {
        Some(count) => last_used_tags(images, count),
        None => HashSet::new(),
    };
    images.iter().filter(move |image| {
        !used.contains(&image.id)
            && selects(filter, image)
            && !image.tags.iter().any(|tag| kept.contains(tag))
    })
}

/// Which image was committed from which: parents go after their children.
struct Family {
    parents: HashMap<ImageId, ImageId>,
    /// How many children each has here.
    children: HashMap<ImageId, u32>,
    /// Images without a name: they go with their last child.
    nameless: HashSet<ImageId>,
    /// Images whose turn came before that of their children.
    waiting: HashSet<ImageId>,
}

impl Family {
    fn new(images: &[ImageRecord]) -> Self {
        let here: HashSet<ImageId> = images.iter().map(|image| image.id).collect();
        let mut family = Self {
            parents: HashMap::new(),
            children: HashMap::new(),
            nameless: HashSet::new(),
            waiting: HashSet::new(),
        };
        for image in images {
            if let Some(parent) = image.parent.filter(|parent| here.contains(parent)) {
                family.parents.insert(image.id, parent);
                *family.children.entry(parent).or_default() += 1;
            }
            if image.tags.is_empty() && image.repo_digests.is_empty() {
                family.nameless.insert(image.id);
            }
        }
        family
    }

    /// Returns the images that go when the turn of `id` has come: none as long as it has children.
    fn remove(&mut self, id: ImageId) -> Vec<ImageId> {
        if self.children.get(&id).is_some_and(|count| *count > 0) {
            self.waiting.insert(id);
            return Vec::new();
        }
        let mut gone = vec![id];
        let mut last = id;
        while let Some(parent) = self.parents.remove(&last) {
            let count = self.children.entry(parent).or_default();
            *count = count.saturating_sub(1);
            let goes = self.nameless.contains(&parent) || self.waiting.contains(&parent);
            if *count > 0 || !goes {
                break;
            }
            gone.push(parent);
            last = parent;
        }
        gone
    }
}

/// What of the disk is needed, and by how many.
struct Ledger<'a> {
    usage: &'a Usage,
    claims: Vec<&'a Claim>,
    /// Positions in `claims` by what holds them.
    of_image: HashMap<ImageId, Vec<usize>>,
    of_step: HashMap<Digest, usize>,
    gone: HashSet<usize>,
    layers: HashMap<Digest, u32>,
    blobs: HashMap<Digest, u32>,
    compressions: HashMap<Digest, Vec<Digest>>,
    /// Bytes that stay as things are.
    bytes: u64,
    removed_images: u64,
}

impl<'a> Ledger<'a> {
    fn new(usage: &'a Usage, census: &'a Census, compressed: Compressed) -> Self {
        let mut ledger = Self {
            usage,
            claims: census.claims.iter().collect(),
            of_image: HashMap::new(),
            of_step: HashMap::new(),
            gone: HashSet::new(),
            layers: HashMap::new(),
            blobs: HashMap::new(),
            compressions: HashMap::new(),
            bytes: usage.records.bytes + usage.ingest + usage.caches(),
            removed_images: 0,
        };
        for (index, claim) in ledger.claims.iter().enumerate() {
            match &claim.holder {
                Holder::Image(id)
                | Holder::Tag {
                    image: Some(id), ..
                } => {
                    ledger.of_image.entry(*id).or_default().push(index);
                }
                Holder::Step(key) => {
                    ledger.of_step.insert(*key, index);
                }
                Holder::Container(id) => ledger.bytes += usage.container(id),
                Holder::Tag { image: None, .. } | Holder::Build(_) | Holder::Lease => {}
            }
            for layer in &claim.layers {
                *ledger.layers.entry(*layer).or_default() += 1;
            }
            for blob in &claim.blobs {
                *ledger.blobs.entry(*blob).or_default() += 1;
            }
        }
        if compressed == Compressed::Keep {
            for (blob, layer) in &census.compressions {
                if ledger.layers.contains_key(layer) {
                    ledger.compressions.entry(*layer).or_default().push(*blob);
                    *ledger.blobs.entry(*blob).or_default() += 1;
                }
            }
        }
        let layers = ledger.layers.keys().map(|layer| usage.layer_bytes(layer));
        let blobs = ledger.blobs.keys().map(|blob| usage.blob_bytes(blob));
        ledger.bytes += layers.chain(blobs).sum::<u64>();
        ledger
    }

    /// Returns how much the store may take after the prune.
    fn least(&self) -> u64 {
        self.bytes + GROWTH + GROWTH_OF_IMAGE * self.removed_images
    }

    fn remove_image(&mut self, id: ImageId) {
        self.removed_images += 1;
        for index in self.of_image.remove(&id).unwrap_or_default() {
            self.release(index);
        }
    }

    fn remove(&mut self, holder: &Holder) {
        if let Holder::Step(key) = holder
            && let Some(index) = self.of_step.remove(key)
        {
            self.release(index);
        }
    }

    fn release(&mut self, index: usize) {
        self.gone.insert(index);
        let claim = self.claims[index];
        for layer in &claim.layers {
            if drops(&mut self.layers, layer) {
                self.bytes -= self.usage.layer_bytes(layer);
                for blob in self.compressions.remove(layer).unwrap_or_default() {
                    self.release_blob(&blob);
                }
            }
        }
        for blob in &claim.blobs {
            self.release_blob(blob);
        }
    }

    fn release_blob(&mut self, blob: &Digest) {
        if drops(&mut self.blobs, blob) {
            self.bytes -= self.usage.blob_bytes(blob);
        }
    }

    /// Tells what stays, each part with the first that needs it.
    fn out_of_reach(&self, target: u64, containers: &[ContainerRecord]) -> OutOfReach {
        let used: HashSet<ImageId> = containers.iter().map(|container| container.image).collect();
        let mut answer = OutOfReach {
            target,
            least: self.least(),
            partial: self.usage.partial.bytes - self.usage.partial.reclaimable,
            records: self.usage.records.bytes,
            ..OutOfReach::default()
        };
        answer.containers.0 = containers
            .iter()
            .map(|record| record.name.clone())
            .collect();
        let mut seen = HashSet::new();
        let is_used = |holder: &Holder| match holder {
            Holder::Container(_) => true,
            Holder::Image(id) => used.contains(id),
            _ => false,
        };
        let is_image = |holder: &Holder| matches!(holder, Holder::Image(_) | Holder::Tag { .. });
        let is_step = |holder: &Holder| matches!(holder, Holder::Step(_));
        answer.used_images = self.bytes_of(&mut seen, is_used);
        answer.other_images = self.bytes_of(&mut seen, is_image);
        answer.build_cache = self.bytes_of(&mut seen, is_step);
        let own = containers
            .iter()
            .map(|record| self.usage.container(&record.id));
        answer.containers.1 = own.sum();
        let compressed: HashSet<&Digest> = self.compressions.values().flatten().collect();
        let compressed = compressed.into_iter().filter(|blob| seen.insert(**blob));
        answer.compressed = compressed.map(|blob| self.usage.blob_bytes(blob)).sum();
        answer
    }

    fn bytes_of(&self, seen: &mut HashSet<Digest>, wanted: impl Fn(&Holder) -> bool) -> u64 {
        let mut bytes = 0;
        for (index, claim) in self.claims.iter().enumerate() {
            if self.gone.contains(&index) || !wanted(&claim.holder) {
                continue;
            }
            for part in claim.layers.iter().chain(&claim.blobs) {
                if seen.insert(*part) {
                    bytes += self.usage.layer_bytes(part) + self.usage.blob_bytes(part);
                }
            }
        }
        bytes
    }
}

/// Counts one user less; tells whether none is left.
fn drops(users: &mut HashMap<Digest, u32>, part: &Digest) -> bool {
    let Some(count) = users.get_mut(part) else {
        return false;
    };
    *count -= 1;
    if *count > 0 {
        return false;
    }
    users.remove(part);
    true
}
