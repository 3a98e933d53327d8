//! The EROFS index over a tar: docs/layer-format.md says what it holds.

mod chunk;
mod directory;
mod format;
mod inode;
mod layout;
mod read;
mod write;
mod xattrs;

pub use read::{Index, IndexError, Inode};
pub(crate) use write::{IndexWriteError, IndexWriter};
