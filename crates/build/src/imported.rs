//! What other builds remembered, as this build sees it.

use oci::DiffId;

use crate::base::BaseImageError;
use crate::step_cache::StepCache;

/// A cache that other builds exported: steps whose layers are somewhere else.
///
/// Nothing is fetched before it is needed. What a cache says is believed: that a step with this
/// key gives this layer can be checked by nobody who does not run it.
pub trait ImportedCache: Sync {
    /// Returns what it is called in progress: a reference, or `local`.
    fn name(&self) -> String;

    /// Reads the steps.
    fn load(&self) -> Result<StepCache, BaseImageError>;

    /// Brings layers of the steps into the store. After a failure some may be there.
    fn fetch(&self, layers: &[DiffId]) -> Result<(), BaseImageError>;
}
