//! Records of builds: what ran, and how long it took.

use crate::{Store, StoreError, Timestamp};

/// A build.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildRecord {
    /// What was built: the first tag, or the context.
    pub name: String,
    /// The path of the Dockerfile.
    pub dockerfile: String,
    /// When it started.
    pub started: Timestamp,
    /// How long it took.
    pub seconds: f64,
    /// Its steps; the store does not look inside.
    pub steps: serde_json::Value,
}

impl Store {
    /// Records a build. Only the last thousand are kept.
    pub fn put_build(&self, build: &BuildRecord) -> Result<(), StoreError> {
        let _ = build;
        unimplemented!()
    }

    /// Returns the recorded builds, newest first.
    pub fn builds(&self) -> Result<Vec<BuildRecord>, StoreError> {
        unimplemented!()
    }
}
