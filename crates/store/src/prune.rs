//! Removing what nobody needs: containers, images, build steps, compressed layers.

use std::collections::{BTreeMap, HashMap, HashSet};

use oci::{ImageId, Reference};
use rusqlite::{Connection, Transaction};

use crate::census::Census;
use crate::error::is_disk_full;
use crate::measure::disk_usage;
use crate::remove::{Removing, children, references};
use crate::resolve::Found;
use crate::sweep::{Needed, live};
use crate::target::{Chosen, OutOfReach};
use crate::why::{self, Done, Kept, Unmeasured};
use crate::{
    CacheRecord, ContainerRecord, Force, ImageRecord, Lock, Removal, RemoveError, ResolveError,
    StepFilter, StepRecord, Store, StoreError, Swept, Timestamp, container, image, step,
};

/// What [`Store::prune`] removes.
#[derive(Debug, Clone, Default)]
pub struct Prune {
    /// Containers that do not run. One that has changed since its record was read stays.
    pub containers: Vec<ContainerRecord>,
    /// Images.
    pub images: Option<PruneFilter>,
    /// Build steps, and directories of `RUN --mount=type=cache`.
    pub steps: Option<StepFilter>,
    /// Compressed forms of layers.
    pub compressed: Compressed,
    /// How many bytes the store may take. Only those of the images and steps go that were not used
    /// for the longest time, and only until it takes no more. What is held for an undo counts as
    /// gone.
    pub target: Option<u64>,
    /// Whether the report tells what is left, and why.
    pub explain: bool,
}

/// Whether the compressed forms of layers go that a push or a server would need again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compressed {
    /// They stay with their layers.
    #[default]
    Keep,
    /// They go.
    Drop,
}

/// Which images a prune removes. All conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct PruneFilter {
    /// Only images without a tag, or all that no container uses.
    pub scope: PruneScope,
    /// Only images made before.
    pub until: Option<Timestamp>,
    /// Only images that satisfy all of these.
    pub labels: Vec<LabelFilter>,
    /// Only images last used before; see [`ImageRecord::last_needed`].
    pub unused_since: Option<Timestamp>,
    /// Not the tags of each repository that were last used, so many of them.
    pub keep: Option<usize>,
}

/// Dangling images or all unused ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PruneScope {
    /// Images without a tag.
    #[default]
    Dangling,
    /// Images without a container.
    Unused,
}

/// A condition on an image's labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFilter {
    /// The label.
    pub key: String,
    /// Its value; `None` for any.
    pub value: Option<String>,
    /// Whether the label must be there, or must not.
    pub presence: Presence,
}

/// Whether a label must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// `label=`
    Required,
    /// `label!=`
    Forbidden,
}

/// What a prune removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PruneReport {
    /// The ids of containers.
    pub containers: Vec<String>,
    /// Names, images and chains of layers, in docker's order.
    pub removals: Vec<Removal>,
    /// Build steps.
    pub steps: Vec<StepRecord>,
    /// Directories of `RUN --mount=type=cache`, and the bytes of disk that each took.
    pub caches: Vec<(CacheRecord, u64)>,
    /// What the sweep then freed.
    pub swept: Swept,
    /// What is left, if that was asked for; containers that are left are always told of where only
    /// containers are removed.
    pub kept: Vec<Kept>,
}

/// Why nothing was pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The store cannot become as small as it should.
    #[error(transparent)]
    OutOfReach(Box<OutOfReach>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LabelFilter {
    /// Tells whether labels satisfy the condition.
    pub fn allows(&self, labels: &BTreeMap<String, String>) -> bool {
        let present = labels
            .get(&self.key)
            .is_some_and(|value| self.value.as_ref().is_none_or(|wanted| wanted == value));
        present == (self.presence == Presence::Required)
    }
}

impl Store {
    /// Removes what `prune` says in one transaction, then sweeps. Images that a container uses
    /// stay, with their parents. Waits for other commands first: an image that one of them has
    /// just made may be about to get its name. The caller must not hold a lock.
    pub fn prune(&self, prune: &Prune) -> Result<PruneReport, PruneError> {
        let lock = self.lock_exclusive()?;
        let chosen = self.chosen(prune)?;
        let removed =
            self.freeing(|| self.write(|tx| self.remove_records(tx, prune, chosen.as_ref())));
        let (mut report, left) = match removed {
            Err(error) if is_disk_full(&error) => {
                return self.prune_piecemeal(prune, chosen, &lock);
            }
            removed => removed?,
        };
        report.swept = self.sweep_locked(&lock)?;
        self.remove_caches(prune, chosen.as_ref(), &mut report)?;
        drop(lock);
        report.kept = self.kept(prune, left)?;
        if prune.target.is_some() {
            self.shorten_log()?;
        }
        Ok(report)
    }

    /// Tells what [`Store::prune`] would do now, and changes nothing. What other commands are
    /// writing meanwhile may count as not needed.
    pub fn rehearse_prune(&self, prune: &Prune) -> Result<PruneReport, PruneError> {
        let chosen = self.chosen(prune)?;
        let ((mut report, left), live, held) = self.rehearse(|tx| {
            let report = self.remove_records(tx, prune, chosen.as_ref())?;
            let (live, held) = live(tx, self.scope().begun())?;
            Ok((report, live, held))
        })?;
        report.swept = self.rehearse_sweep(&live, &held)?;
        self.add_caches(prune, chosen.as_ref(), &mut report)?;
        report.kept = self.kept(prune, left)?;
        Ok(report)
    }

    /// Adds to the report the caches that a prune removes.
    fn add_caches(
        &self,
        prune: &Prune,
        chosen: Option<&Chosen>,
        report: &mut PruneReport,
    ) -> Result<(), StoreError> {
        let Some(filter) = &prune.steps else {
            return Ok(());
        };
        for cache in self.caches_of(filter)? {
            if chosen.is_none_or(|chosen| chosen.caches.contains(&cache.name)) {
                let bytes = disk_usage(&self.cache_dir(&cache.name));
                report.swept.bytes += bytes;
                report.caches.push((cache, bytes));
            }
        }
        Ok(())
    }

    /// Removes the caches that a prune removes. The caller holds the root's lock alone.
    fn remove_caches(
        &self,
        prune: &Prune,
        chosen: Option<&Chosen>,
        report: &mut PruneReport,
    ) -> Result<(), StoreError> {
        self.add_caches(prune, chosen, report)?;
        for (cache, _) in &report.caches {
            self.discard(&self.cache_dir(&cache.name))?;
        }
        Ok(())
    }

    /// Does what [`Store::prune`] does where the disk has no room for the records of it: a few
    /// images at a time, each of which makes room for the next.
    fn prune_piecemeal(
        &self,
        prune: &Prune,
        chosen: Option<Chosen>,
        lock: &Lock,
    ) -> Result<PruneReport, PruneError> {
        // First: their images may go then.
        let containers = Prune {
            containers: prune.containers.clone(),
            ..Prune::default()
        };
        let (mut report, _) =
            self.freeing(|| self.write(|tx| self.remove_records(tx, &containers, None)))?;
        report.swept.add(self.sweep_locked(lock)?);
        self.empty_trash()?;
        let ids: Vec<ImageId> = match chosen {
            Some(Chosen { ref images, .. }) => images.iter().copied().collect(),
            None => self.images()?.iter().map(|image| image.id).collect(),
        };
        let (steps, caches) = chosen.map(|chosen| (chosen.steps, chosen.caches)).unzip();
        let caches = caches.map(|caches| Chosen {
            caches,
            ..Chosen::default()
        });
        let (mut ids, mut length) = (ids.as_slice(), PIECE);
        while !ids.is_empty() {
            let (images, others) = ids.split_at(length.min(ids.len()));
            let piece = Prune {
                images: prune.images.clone(),
                ..Prune::default()
            };
            let chosen = Chosen {
                images: images.iter().copied().collect(),
                ..Chosen::default()
            };
            let removed =
                self.freeing(|| self.write(|tx| self.remove_records(tx, &piece, Some(&chosen))));
            match removed {
                Err(error) if is_disk_full(&error) && length > PIECE => length = PIECE,
                Err(error) => return Err(error.into()),
                Ok((removed, _)) => {
                    report.removals.extend(removed.removals);
                    report.swept.add(self.sweep_locked(lock)?);
                    self.empty_trash()?;
                    (ids, length) = (others, length * 2);
                }
            }
        }
        let rest = Prune {
            containers: Vec::new(),
            images: None,
            ..prune.clone()
        };
        let chosen = steps.map(|steps| Chosen {
            steps,
            ..Chosen::default()
        });
        let (removed, left) =
            self.freeing(|| self.write(|tx| self.remove_records(tx, &rest, chosen.as_ref())))?;
        report.steps = removed.steps;
        report.swept.add(self.sweep_locked(lock)?);
        self.remove_caches(prune, caches.as_ref(), &mut report)?;
        report.kept = self.kept(prune, left)?;
        Ok(report)
    }

    fn chosen(&self, prune: &Prune) -> Result<Option<Chosen>, PruneError> {
        let Some(target) = prune.target else {
            return Ok(None);
        };
        match self.choose(prune, target)? {
            Ok(chosen) => Ok(Some(chosen)),
            Err(error) => Err(PruneError::OutOfReach(Box::new(error))),
        }
    }

    fn kept(&self, prune: &Prune, left: Vec<Unmeasured>) -> Result<Vec<Kept>, StoreError> {
        match prune.explain {
            true => {
                let mut kept = self.measured(left);
                kept.extend(self.kept_partial()?);
                Ok(kept)
            }
            false => Ok(Vec::new()),
        }
    }

    /// Removes containers that do not run, and frees what only they need. What other commands
    /// prevent from being swept now, a later sweep frees.
    pub fn prune_containers(
        &self,
        containers: &[ContainerRecord],
    ) -> Result<PruneReport, StoreError> {
        let (mut report, freed, left) =
            self.freeing(|| self.write(|tx| self.remove_containers(tx, containers)))?;
        report.kept = self.measured(left);
        report.swept.bytes = self.disk_usage_of(&freed);
        for id in &report.containers {
            self.discard(&self.container_dir(id))?;
        }
        if let Some(swept) = self.try_sweep()? {
            report.swept.layers = swept.layers;
        }
        Ok(report)
    }

    /// Tells what [`Store::prune_containers`] would do now, and changes nothing.
    pub fn rehearse_prune_containers(
        &self,
        containers: &[ContainerRecord],
    ) -> Result<PruneReport, StoreError> {
        let (mut report, freed, left) =
            self.rehearse(|tx| self.remove_containers(tx, containers))?;
        report.kept = self.measured(left);
        report.swept.bytes = self.disk_usage_of(&freed);
        Ok(report)
    }

    /// Removes records of containers; returns what nothing needs after that, and what is left.
    fn remove_containers(
        &self,
        tx: &Transaction<'_>,
        containers: &[ContainerRecord],
    ) -> Result<(PruneReport, Needed, Vec<Unmeasured>), StoreError> {
        let (mut freed, _) = live(tx, None)?;
        let report = PruneReport {
            containers: container::remove_unchanged(tx, containers)?,
            ..PruneReport::default()
        };
        freed.remove_all(&live(tx, None)?.0);
        let left = why::explain_containers(self, &container::all(tx)?);
        Ok((report, freed, left))
    }

    fn remove_records(
        &self,
        tx: &Transaction<'_>,
        prune: &Prune,
        chosen: Option<&Chosen>,
    ) -> Result<(PruneReport, Vec<Unmeasured>), StoreError> {
        let before = match prune.explain {
            true => Census::read(tx)?,
            false => Census::default(),
        };
        let mut report = PruneReport {
            containers: container::remove_unchanged(tx, &prune.containers)?,
            ..PruneReport::default()
        };
        let selection = match &prune.images {
            Some(filter) => Some(Selection::new(tx, filter, chosen)?),
            None => None,
        };
        if let Some(selection) = &selection {
            report.removals = self.prune_images(tx, selection)?;
        }
        if let Some(filter) = &prune.steps {
            report.steps = step::remove(tx, filter, |step| {
                chosen.is_none_or(|chosen| chosen.steps.contains(&step.key))
            })?;
        }
        if prune.compressed == Compressed::Drop {
            self.forget_compressed(tx)?;
        }
        let left = match prune.explain {
            true => {
                let done = Done {
                    prune,
                    selection: selection.as_ref(),
                    before: &before,
                    own: self.scope().begun(),
                };
                why::explain(self, tx, &done)?
            }
            false => Vec::new(),
        };
        Ok((report, left))
    }

    /// Forgets the compressed blobs of layers that are in the store.
    pub(crate) fn forget_compressed(&self, tx: &Connection) -> Result<(), StoreError> {
        tx.execute(
            "DELETE FROM compressions WHERE diff_id IN
                (SELECT diff_id FROM layers WHERE synced = 1 OR boot = ?1)",
            [self.boot_id()],
        )?;
        Ok(())
    }

    fn prune_images(
        &self,
        tx: &Transaction<'_>,
        selection: &Selection<'_>,
    ) -> Result<Vec<Removal>, StoreError> {
        let mut removing = Removing::new(tx)?;
        let mut removals = Vec::new();
        for id in &selection.order {
            removals.extend(self.prune_image(&mut removing, id, selection)?);
        }
        Ok(removals)
    }

    /// Removes one image, or those of its names that do not stay, if the filter selects it as it
    /// is now.
    fn prune_image(
        &self,
        removing: &mut Removing<'_>,
        id: &ImageId,
        selection: &Selection<'_>,
    ) -> Result<Vec<Removal>, StoreError> {
        let tx = removing.tx;
        let mut removals = Vec::new();
        // An earlier removal may have taken it along as a parent.
        let Some(image) = image::find(tx, id)? else {
            return Ok(removals);
        };
        let names = references(&image);
        let is_intermediate = names.is_empty() && !children(tx, id)?.is_empty();
        if is_intermediate || !selects(selection.filter, &image) {
            return Ok(removals);
        }
        if names.is_empty() {
            let removed = self.remove_found(removing, &id.to_string(), &Found::Id(*id), Force::No);
            removals.extend(unless_conflict(removed)?);
        }
        let keeps_a_tag = image.tags.iter().any(|tag| selection.kept.contains(tag));
        for name in names {
            // The digests of an image that stays go with the last tag of their repository.
            if keeps_a_tag && (name.digest().is_some() || selection.kept.contains(name)) {
                continue;
            }
            // With the last tag of a repository its digests have gone already.
            let remaining = image::find(tx, id)?;
            if !remaining.is_some_and(|image| references(&image).contains(&name)) {
                continue;
            }
            let found = Found::Name(name.clone(), *id);
            let removed = self.remove_found(removing, &name.familiar(), &found, Force::No);
            removals.extend(unless_conflict(removed)?);
        }
        Ok(removals)
    }
}

/// How many images go at a time at first where the disk is full; with the room they make, more do.
const PIECE: usize = 8;

/// Which images go, and which tags stay whatever becomes of the others.
pub(crate) struct Selection<'a> {
    pub(crate) filter: &'a PruneFilter,
    pub(crate) kept: HashSet<Reference>,
    pub(crate) chosen: Option<&'a Chosen>,
    /// Images that no container uses, newest first.
    order: Vec<ImageId>,
}

impl<'a> Selection<'a> {
    fn new(
        tx: &Transaction<'_>,
        filter: &'a PruneFilter,
        chosen: Option<&'a Chosen>,
    ) -> Result<Self, StoreError> {
        let images = image::all(tx)?;
        let containers = container::all(tx)?.into_iter();
        let used: HashSet<ImageId> = containers.map(|container| container.image).collect();
        let kept = match filter.keep {
            Some(count) => last_used_tags(&images, count),
            None => HashSet::new(),
        };
        let free = images.iter().map(|image| image.id).filter(|id| {
            !used.contains(id) && chosen.is_none_or(|chosen| chosen.images.contains(id))
        });
        Ok(Self {
            filter,
            kept,
            chosen,
            order: free.collect(),
        })
    }
}

/// Returns the tags of each repository that were last used, `count` of each.
pub(crate) fn last_used_tags(images: &[ImageRecord], count: usize) -> HashSet<Reference> {
    let mut repositories: HashMap<String, Vec<(Timestamp, &Reference)>> = HashMap::new();
    for image in images {
        for tag in &image.tags {
            let tags = repositories.entry(tag.repository()).or_default();
            tags.push((image.last_needed(), tag));
        }
    }
    let mut kept = HashSet::new();
    for mut tags in repositories.into_values() {
        tags.sort_by_key(|(used, tag)| (std::cmp::Reverse(*used), tag.to_string()));
        kept.extend(tags.into_iter().take(count).map(|(_, tag)| tag.clone()));
    }
    kept
}

pub(crate) fn selects(filter: &PruneFilter, image: &ImageRecord) -> bool {
    let in_scope = match filter.scope {
        PruneScope::Dangling => image.is_dangling(),
        PruneScope::Unused => true,
    };
    in_scope
        && filter.until.is_none_or(|until| {
            // Of an image without a date, how long it has been here is all there is.
            image.created_at().unwrap_or(image.added) <= until
        })
        && filter
            .unused_since
            .is_none_or(|since| image.last_needed() < since)
        && filter
            .labels
            .iter()
            .all(|label| label.allows(&image.labels))
}

/// An image that must stay is not pruned, which is no failure.
fn unless_conflict(removed: Result<Vec<Removal>, RemoveError>) -> Result<Vec<Removal>, StoreError> {
    match removed {
        Ok(removals) => Ok(removals),
        Err(RemoveError::Store(error) | RemoveError::Resolve(ResolveError::Store(error))) => {
            Err(error)
        }
        Err(_) => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use oci::ImageConfig;

    use super::*;
    use crate::{NewImage, NewLayer};

    /// Makes a store of 20 images with two layers each.
    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().expect("a directory");
        let (root, run) = (directory.path().join("root"), directory.path().join("run"));
        let store = Store::open(&root, &run).expect("a store");
        let layer = |text: &str| {
            let scratch = store.scratch().expect("scratch");
            std::fs::write(scratch.path().join("tar"), text).expect("written");
            let layer = NewLayer {
                diff_id: oci::DiffId(oci::Digest::of(text.as_bytes())),
                tar_size: 1,
                content_size: 1,
                entries: 1,
            };
            store.commit_layer(scratch, &layer).expect("committed");
            layer.diff_id
        };
        for index in 0..20 {
            let mut config = ImageConfig {
                architecture: "amd64".to_owned(),
                os: "linux".to_owned(),
                author: index.to_string(),
                ..ImageConfig::default()
            };
            config.rootfs.diff_ids = vec![layer("shared"), layer(&index.to_string())];
            let image = NewImage {
                config: &config.to_bytes(),
                manifest: None,
                parent: None,
                times: &[],
            };
            let id = store.put_image(&image).expect("stored");
            let name = Reference::parse(&format!("app:{index}")).expect("valid");
            store.tag(&name, &id, None).expect("tagged");
        }
        store.empty_trash().expect("emptied");
        (directory, store)
    }

    /// Makes a container of the oldest image, with nothing of its own.
    fn container(store: &Store) -> ContainerRecord {
        let name = Reference::parse("app:0").expect("valid");
        let image = store.tagged(&name).expect("read").expect("there");
        let record = ContainerRecord {
            id: "a".repeat(64),
            name: "web".to_owned(),
            image,
            image_name: "app:0".to_owned(),
            command: Vec::new(),
            created: Timestamp(1),
            state: crate::ContainerState::Created,
            auto_remove: false,
            options: serde_json::Value::Null,
            layers: store.image(&image).expect("read").expect("there").layers,
        };
        store.put_container(&record).expect("stored");
        record
    }

    #[test]
    fn a_prune_in_pieces_removes_and_tells_the_same() {
        let prune = |containers| Prune {
            containers,
            images: Some(PruneFilter {
                scope: PruneScope::Unused,
                keep: Some(3),
                ..PruneFilter::default()
            }),
            ..Prune::default()
        };
        let (_first, whole) = store();
        let (_second, pieces) = store();
        let containers = [container(&whole), container(&pieces)];
        let [first, second] = containers.map(|container| prune(vec![container]));
        let expected = whole.prune(&first).expect("pruned");
        let lock = pieces.lock_exclusive().expect("locked");
        let found = pieces.prune_piecemeal(&second, None, &lock);
        let found = found.expect("pruned");
        let sorted = |report: &PruneReport| {
            let mut removals: Vec<String> = report
                .removals
                .iter()
                .map(|item| format!("{item:?}"))
                .collect();
            removals.sort_unstable();
            (removals, report.swept.bytes)
        };
        assert_eq!(sorted(&found), sorted(&expected));
        assert_eq!(found.containers, expected.containers);
        assert_eq!((found.containers.len(), found.removals.len()), (1, 17 * 3));
        assert_eq!(pieces.images().expect("read").len(), 3);
    }
}
