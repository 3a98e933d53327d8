//! Why a copy failed.

use oci::{ConfigError, Digest, ManifestError, MediaType, Platform};

use super::ExchangeError;
use crate::StoreError;
use crate::error::is_full;

/// A side of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where the image comes from.
    Source,
    /// Where it goes.
    Target,
}

/// Why a copy failed. What was transferred completely stays in the target; the image is not there.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The source failed.
    #[error(transparent)]
    Source(ExchangeError),
    /// The target failed.
    #[error(transparent)]
    Target(ExchangeError),
    /// No image of an index is for the platform.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoMatchingPlatform(Platform),
    /// An index leads to too many manifests.
    #[error("image index {index} leads to more than {limit} manifests")]
    TooManyManifests {
        /// The index.
        index: Digest,
        /// The limit.
        limit: usize,
    },
    /// The manifests that an index leads to are too large together.
    #[error("image index {index} leads to manifests of more than {limit} bytes together")]
    ManifestsTooLarge {
        /// The index.
        index: Digest,
        /// The limit.
        limit: u64,
    },
    /// Indexes name indexes without end.
    #[error("image index {0} is nested too deeply")]
    NestedIndex(Digest),
    /// A document does not have the digest that its name promises.
    #[error("{kind} digest is {found}, expected {expected}")]
    DigestMismatch {
        /// What kind of document.
        kind: &'static str,
        /// The digest that was promised.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// A document is longer than it may be.
    #[error("image configuration {digest} has {size} bytes, limit {limit}")]
    ConfigTooLarge {
        /// The document.
        digest: Digest,
        /// Its length.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The manifest is not one.
    #[error("manifest {digest}")]
    Manifest {
        /// Its digest.
        digest: Digest,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// The configuration is not one.
    #[error("image configuration {digest}")]
    Config {
        /// Its digest.
        digest: Digest,
        /// What is wrong.
        #[source]
        source: ConfigError,
    },
    /// The manifest holds something that is not a layer.
    #[error("unsupported layer media type `{media_type}` in manifest {manifest}")]
    UnsupportedLayer {
        /// The manifest.
        manifest: Digest,
        /// The type.
        media_type: MediaType,
    },
    /// The manifest names too many layers.
    #[error("manifest {manifest} names {found} layers, limit {limit}")]
    TooManyLayers {
        /// The manifest.
        manifest: Digest,
        /// How many.
        found: usize,
        /// The limit.
        limit: usize,
    },
}

impl CopyError {
    /// Returns which side failed; for documents that are wrong that is the source.
    pub fn side(&self) -> Side {
        match self {
            Self::Target(_) => Side::Target,
            _ => Side::Source,
        }
    }

    /// Tells whether it failed because the disk is full, or what was to come would not fit.
    pub fn is_lack_of_room(&self) -> bool {
        let (Self::Source(failed) | Self::Target(failed)) = self else {
            return false;
        };
        let inner: &(dyn std::error::Error + 'static) = failed.inner();
        let would_not_fit = matches!(inner.downcast_ref(), Some(StoreError::NoRoom { .. }));
        would_not_fit || is_full(inner)
    }
}
