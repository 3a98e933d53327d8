//! What a copy tells while it runs.

use oci::{DiffId, Digest};

use super::BlobOutcome;

/// A layer in the events of one copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerId {
    /// Its place in the image, bottom = 0. A blob that stands in several places counts once, at
    /// the lowest.
    pub index: usize,
    /// The digest of the blob; of the uncompressed content as long as the blob is not made.
    pub digest: Digest,
    /// The digest of its uncompressed content.
    pub diff_id: DiffId,
}

/// Something that happened during a copy. The image comes first; then for each layer either
/// that it exists, or queued, started, progress and done. All that exist or are queued are told
/// before the first is started, but for layers that are compressed on the way: those are queued
/// when they are.
#[derive(Debug, Clone)]
pub enum Event {
    /// What the image consists of is known.
    Image {
        /// The layers, bottom first, each once; none when the target has the whole image.
        layers: Vec<LayerId>,
    },
    /// A layer will be transferred.
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
    /// An interrupted copy had brought a part of the layer, which is not fetched again.
    LayerResumed {
        /// Which.
        layer: LayerId,
        /// How many bytes.
        kept: u64,
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
