//! Images in a tar or a directory: docker's archives and OCI layouts.

mod read;
mod save;

pub use read::{Archive, ArchiveError, ArchiveImage, ArchiveSource, Decompress};
pub use save::{SavedImage, save};
