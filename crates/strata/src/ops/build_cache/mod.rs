//! Build caches outside the store: at a registry, in a directory, in an image.

mod export;
mod import;
mod location;

pub use export::{CacheExtent, CacheForm, CachePlace, CacheTarget, EngineExport, ExportError};
pub use import::{EngineCache, ImportError};
pub use location::CacheLocation;
