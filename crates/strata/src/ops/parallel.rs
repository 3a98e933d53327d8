//! How much is done at once.

use std::thread;

/// As many layers as docker fetches at once.
const MIN_LAYERS: usize = 3;

/// Returns how many layers are copied at once.
pub(super) fn parallel_layers() -> usize {
    thread::available_parallelism().map_or(MIN_LAYERS, |count| count.get().max(MIN_LAYERS))
}
