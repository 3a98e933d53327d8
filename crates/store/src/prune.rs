//! Removing the images that nobody needs.

use crate::{Removal, Store, StoreError, Swept, Timestamp};

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

impl Store {
    /// Removes images that `filter` selects and no container uses, then sweeps. Waits for
    /// other commands before the sweep; the caller must not hold a lock.
    pub fn prune_images(&self, filter: &PruneFilter) -> Result<PruneReport, StoreError> {
        let _ = filter;
        unimplemented!()
    }
}
