//! The one copy: any source to any target.

use oci::{ConfigError, Descriptor, DiffId, Digest, ImageId, ManifestError, MediaType, Platform};

use super::{BlobOutcome, ExchangeError, Source, Target};

/// How to copy.
pub struct CopyOptions<'a> {
    /// Which image of an index.
    pub platform: Platform,
    /// How many layers at once.
    pub parallel: usize,
    /// Is told what happens, from several threads.
    pub events: &'a (dyn Fn(Event) + Sync),
}

impl std::fmt::Debug for CopyOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyOptions")
            .field("platform", &self.platform)
            .field("parallel", &self.parallel)
            .finish_non_exhaustive()
    }
}

/// A layer in the events of one copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerId {
    /// Its place in the image, bottom = 0. The same blob may stand in several places.
    pub index: usize,
    /// The digest of the blob.
    pub digest: Digest,
    /// The digest of its uncompressed content.
    pub diff_id: DiffId,
}

/// Something that happened during a copy. For each layer: queued, then exists, or started,
/// progress and done.
#[derive(Debug, Clone)]
pub enum Event {
    /// The manifest to copy is known.
    Manifest {
        /// What the source's name led to: the manifest or an index.
        named: Digest,
        /// The manifest.
        manifest: Digest,
        /// The number of layers.
        layers: usize,
    },
    /// A layer will be looked at.
    LayerQueued {
        /// Which.
        layer: LayerId,
        /// The length of the blob.
        size: u64,
    },
    /// The target has the layer.
    LayerExists {
        /// Which.
        layer: LayerId,
    },
    /// The transfer of a layer begins.
    LayerStarted {
        /// Which.
        layer: LayerId,
    },
    /// Bytes of a layer have arrived.
    LayerProgress {
        /// Which.
        layer: LayerId,
        /// How many so far.
        done: u64,
    },
    /// A transfer broke and is tried again.
    LayerRetry {
        /// Which.
        layer: LayerId,
        /// What happened.
        error: String,
    },
    /// The target has the layer now.
    LayerDone {
        /// Which.
        layer: LayerId,
        /// How it came there.
        outcome: BlobOutcome,
    },
}

/// The result of a copy.
#[derive(Debug, Clone)]
pub struct Copied {
    /// What the source's name led to: the manifest, or the index that names it. Its digest is
    /// docker's `Digest:` line and repository digest.
    pub named: Descriptor,
    /// The manifest.
    pub manifest: Descriptor,
    /// The image.
    pub image: ImageId,
    /// Whether anything was copied.
    pub outcome: CopyOutcome,
}

/// Whether anything was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyOutcome {
    /// The target had the image.
    UpToDate,
    /// The image is new to the target.
    Copied,
}

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
}

/// Copies the image that `source` names to `target`: layers in parallel, then the configuration,
/// the manifest last. Broken transfers resume; a blob with a wrong digest is fetched once more.
pub fn copy(
    source: &dyn Source,
    target: &dyn Target,
    options: &CopyOptions<'_>,
) -> Result<Copied, CopyError> {
    let _ = (source, target, options);
    unimplemented!()
}
