//! Removing what nobody needs: containers, images, build steps, compressed layers.

use std::collections::{BTreeMap, HashMap, HashSet};

use oci::{ImageId, Reference};
use rusqlite::{Connection, Transaction};

use crate::remove::{children, references};
use crate::resolve::Found;
use crate::sweep::{Needed, live};
use crate::{
    ContainerRecord, Force, ImageRecord, Removal, RemoveError, ResolveError, StepFilter,
    StepRecord, Store, StoreError, Swept, Timestamp, container, image, step,
};

/// What [`Store::prune`] removes.
#[derive(Debug, Clone, Default)]
pub struct Prune {
    /// Containers that do not run. One that has changed since its record was read stays.
    pub containers: Vec<ContainerRecord>,
    /// Images.
    pub images: Option<PruneFilter>,
    /// Build steps.
    pub steps: Option<StepFilter>,
    /// Compressed forms of layers.
    pub compressed: Compressed,
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
    /// What the sweep then freed.
    pub swept: Swept,
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
    pub fn prune(&self, prune: &Prune) -> Result<PruneReport, StoreError> {
        let lock = self.lock_exclusive()?;
        let mut report = self.write(|tx| self.remove_records(tx, prune))?;
        report.swept = self.sweep_locked(&lock)?;
        Ok(report)
    }

    /// Tells what [`Store::prune`] would do now, and changes nothing. What other commands are
    /// writing meanwhile may count as not needed.
    pub fn rehearse_prune(&self, prune: &Prune) -> Result<PruneReport, StoreError> {
        let (mut report, live, held) = self.rehearse(|tx| {
            let report = self.remove_records(tx, prune)?;
            let (live, held) = live(tx, self.scope().begun())?;
            Ok((report, live, held))
        })?;
        report.swept = self.rehearse_sweep(&live, &held)?;
        Ok(report)
    }

    /// Removes containers that do not run, and frees what only they need. What other commands
    /// prevent from being swept now, a later sweep frees.
    pub fn prune_containers(
        &self,
        containers: &[ContainerRecord],
    ) -> Result<PruneReport, StoreError> {
        let (mut report, freed) = self.write(|tx| remove_containers(tx, containers))?;
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
        let (mut report, freed) = self.rehearse(|tx| remove_containers(tx, containers))?;
        report.swept.bytes = self.disk_usage_of(&freed);
        Ok(report)
    }

    fn remove_records(
        &self,
        tx: &Transaction<'_>,
        prune: &Prune,
    ) -> Result<PruneReport, StoreError> {
        let mut report = PruneReport {
            containers: container::remove_unchanged(tx, &prune.containers)?,
            ..PruneReport::default()
        };
        if let Some(filter) = &prune.images {
            report.removals = self.prune_images(tx, filter)?;
        }
        if let Some(filter) = &prune.steps {
            report.steps = step::remove(tx, filter, |_| true)?;
        }
        if prune.compressed == Compressed::Drop {
            self.forget_compressed(tx)?;
        }
        Ok(report)
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
        filter: &PruneFilter,
    ) -> Result<Vec<Removal>, StoreError> {
        let images = image::all(tx)?;
        let used: HashSet<ImageId> = container::all(tx)?
            .into_iter()
            .map(|container| container.image)
            .collect();
        let kept = match filter.keep {
            Some(count) => last_used_tags(&images, count),
            None => HashSet::new(),
        };
        let selection = Selection { filter, kept };
        let mut removals = Vec::new();
        for image in images.iter().filter(|image| !used.contains(&image.id)) {
            self.prune_image(tx, &image.id, &selection, &mut removals)?;
        }
        Ok(removals)
    }

    /// Removes one image, or those of its names that do not stay, if the filter selects it as it
    /// is now.
    fn prune_image(
        &self,
        tx: &Transaction<'_>,
        id: &ImageId,
        selection: &Selection<'_>,
        removals: &mut Vec<Removal>,
    ) -> Result<(), StoreError> {
        // An earlier removal may have taken it along as a parent.
        let Some(image) = image::find(tx, id)? else {
            return Ok(());
        };
        let names = references(&image);
        let is_intermediate = names.is_empty() && !children(tx, id)?.is_empty();
        if is_intermediate || !selects(selection.filter, &image) {
            return Ok(());
        }
        if names.is_empty() {
            let removed = self.remove_found(tx, &id.to_string(), &Found::Id(*id), Force::No);
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
            let removed = self.remove_found(tx, &name.familiar(), &found, Force::No);
            removals.extend(unless_conflict(removed)?);
        }
        Ok(())
    }
}

/// Removes records of containers; returns what nothing needs after that.
fn remove_containers(
    tx: &Transaction<'_>,
    containers: &[ContainerRecord],
) -> Result<(PruneReport, Needed), StoreError> {
    let (mut freed, _) = live(tx, None)?;
    let report = PruneReport {
        containers: container::remove_unchanged(tx, containers)?,
        ..PruneReport::default()
    };
    freed.remove_all(&live(tx, None)?.0);
    Ok((report, freed))
}

/// Which images go, and which tags stay whatever becomes of the others.
struct Selection<'a> {
    filter: &'a PruneFilter,
    kept: HashSet<Reference>,
}

/// Returns the tags of each repository that were last used, `count` of each.
fn last_used_tags(images: &[ImageRecord], count: usize) -> HashSet<Reference> {
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

fn selects(filter: &PruneFilter, image: &ImageRecord) -> bool {
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
