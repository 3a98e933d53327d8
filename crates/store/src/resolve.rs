//! What people write for an image: a name, a digest, an id, or the start of one.

use oci::ReferenceError;

use crate::{ImageRecord, Store, StoreError};

/// Why a text does not lead to one image. `Display` is docker's text.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// There is no such image. The text is as docker completes it: `x:latest`.
    #[error("No such image: {name}")]
    NotFound {
        /// The completed name.
        name: String,
    },
    /// The text starts the ids of several images.
    #[error("image id prefix `{prefix}` is ambiguous: {count} images begin with it")]
    Ambiguous {
        /// The text.
        prefix: String,
        /// How many images.
        count: usize,
    },
    /// The text is neither a name nor an id.
    #[error(transparent)]
    Invalid(#[from] ReferenceError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Finds the image that `text` means: `name[:tag]`, `name@digest`, an id with or without
    /// `sha256:`, or a unique start of one. Names come before ids.
    pub fn resolve(&self, text: &str) -> Result<ImageRecord, ResolveError> {
        let _ = text;
        unimplemented!()
    }
}
