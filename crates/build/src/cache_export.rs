//! Where a build leaves what it remembers, for other stores.

use crate::Built;
use crate::base::BaseImageError;

/// A place for the cache of a build (`--cache-to`).
pub trait CacheExport: Sync {
    /// Returns what the step of the export is called: `exporting cache to registry`.
    fn name(&self) -> String;

    /// Writes the steps of a build and their layers, and tells what it does.
    fn export(&self, built: &Built, status: &dyn Fn(String)) -> Result<(), BaseImageError>;

    /// Tells whether the build goes on when that fails.
    fn may_fail(&self) -> bool;
}
