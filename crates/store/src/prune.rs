//! Removing the images that nobody needs.

use std::collections::{BTreeMap, HashSet};

use oci::ImageId;
use rusqlite::Transaction;

use crate::remove::{children, references};
use crate::resolve::Found;
use crate::{
    Force, ImageRecord, Removal, RemoveError, ResolveError, Store, StoreError, Swept, Timestamp,
    container, image,
};

/// Which images [`Store::prune_images`] removes. All conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct PruneFilter {
    /// Only images without a tag, or all that no container uses.
    pub scope: PruneScope,
    /// Only images made before.
    pub until: Option<Timestamp>,
    /// Only images that satisfy all of these.
    pub labels: Vec<LabelFilter>,
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

/// What a prune removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Names, images and chains of layers, in docker's order.
    pub removals: Vec<Removal>,
    /// What the sweep then freed.
    pub swept: Swept,
}

impl LabelFilter {
    fn allows(&self, labels: &BTreeMap<String, String>) -> bool {
        let present = labels
            .get(&self.key)
            .is_some_and(|value| self.value.as_ref().is_none_or(|wanted| wanted == value));
        present == (self.presence == Presence::Required)
    }
}

impl Store {
    /// Removes images that `filter` selects and no container uses, then sweeps. Waits for
    /// other commands first: an image that one of them has just made may be about to get its name.
    /// The caller must not hold a lock.
    pub fn prune_images(&self, filter: &PruneFilter) -> Result<PruneReport, StoreError> {
        let lock = self.lock_exclusive()?;
        let images = self.images()?;
        let removals = self.write(|tx| {
            let used: HashSet<ImageId> = container::all(tx)?
                .into_iter()
                .map(|container| container.image)
                .collect();
            let mut removals = Vec::new();
            for image in images.iter().filter(|image| !used.contains(&image.id)) {
                self.prune_image(tx, &image.id, filter, &mut removals)?;
            }
            Ok::<_, StoreError>(removals)
        })?;
        let swept = self.sweep_locked(&lock)?;
        Ok(PruneReport { removals, swept })
    }

    /// Removes one image if the filter selects it as it is now.
    fn prune_image(
        &self,
        tx: &Transaction<'_>,
        id: &ImageId,
        filter: &PruneFilter,
        removals: &mut Vec<Removal>,
    ) -> Result<(), StoreError> {
        // An earlier removal may have taken it along as a parent.
        let Some(image) = image::find(tx, id)? else {
            return Ok(());
        };
        let names = references(&image);
        let is_intermediate = names.is_empty() && !children(tx, id)?.is_empty();
        if is_intermediate || !selects(filter, &image) {
            return Ok(());
        }
        if names.is_empty() {
            let removed = self.remove_found(tx, &id.to_string(), &Found::Id(*id), Force::No);
            removals.extend(unless_conflict(removed)?);
        }
        for name in names {
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
