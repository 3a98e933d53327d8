//! Images in a tar or a directory: docker's archives and OCI layouts.
//!
//! Three forms are read: docker's since 1.10 (`manifest.json` names a configuration and layers,
//! wherever they lie in the archive), the OCI layout (`index.json` and `blobs/`), and docker 28's,
//! which is both. The last one is written.

mod contents;
pub(crate) mod documents;
pub(crate) mod entry;
mod error;
mod open;
mod read;
mod save;
mod source;

pub use error::ArchiveError;
pub use open::Decompress;
pub use read::{Archive, ArchiveImage, Pick};
pub use save::{SavedImage, save};
pub use source::ArchiveSource;
