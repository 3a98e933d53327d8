//! Build steps: the build cache. A step keeps its layer from being swept.

use oci::{ChainId, DiffId, Digest};

use crate::{Store, StoreError, Swept, Timestamp};

/// A step of a build and what it made.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRecord {
    /// The cache key.
    pub key: Digest,
    /// The instruction, expanded.
    pub instruction: String,
    /// The layer it made; `None` when it changed no file.
    pub layer: Option<DiffId>,
    /// The content it ran on.
    pub parent_chain: Option<ChainId>,
    /// What the key was made of.
    pub ingredients: serde_json::Value,
    /// How long it took.
    pub seconds: f64,
    /// When it ran.
    pub created: Timestamp,
    /// When it last served a build.
    pub last_used: Timestamp,
    /// The size of its layer's files.
    pub content_size: u64,
}

/// Which steps [`Store::prune_steps`] removes. All conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct StepFilter {
    /// All steps or those whose layer no image has.
    pub scope: StepScope,
    /// Only steps last used before.
    pub until: Option<Timestamp>,
}

/// All steps or unused ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StepScope {
    /// Steps whose layer no image has.
    #[default]
    Unused,
    /// All steps.
    All,
}

/// What pruning of steps removed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PrunedSteps {
    /// The steps.
    pub steps: Vec<StepRecord>,
    /// What the sweep then freed.
    pub swept: Swept,
}

impl Store {
    /// Returns the step with a key, if what it made is still in the store.
    pub fn step(&self, key: &Digest) -> Result<Option<StepRecord>, StoreError> {
        let _ = key;
        unimplemented!()
    }

    /// Records a step; one with the same key is replaced. Its layer must be in the store.
    pub fn put_step(&self, step: &StepRecord) -> Result<(), StoreError> {
        let _ = step;
        unimplemented!()
    }

    /// Notes that a step served a build now.
    pub fn touch_step(&self, key: &Digest) -> Result<(), StoreError> {
        let _ = key;
        unimplemented!()
    }

    /// Returns all steps, last used first.
    pub fn steps(&self) -> Result<Vec<StepRecord>, StoreError> {
        unimplemented!()
    }

    /// Removes steps, then sweeps. The caller must not hold a lock.
    pub fn prune_steps(&self, filter: &StepFilter) -> Result<PrunedSteps, StoreError> {
        let _ = filter;
        unimplemented!()
    }
}
