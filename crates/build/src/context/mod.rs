//! The build context: a directory, less what `.dockerignore` hides.

mod digests;
mod directory;
mod error;
mod ignore_file;
mod stat_cache;

pub(crate) use digests::Digests;
pub(crate) use directory::{Context, ContextFile, check_unchanged, components, join};
pub use error::ContextError;
pub(crate) use ignore_file::read_patterns;
