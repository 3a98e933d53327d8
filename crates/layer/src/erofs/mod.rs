//! The EROFS index over a tar: docs/layer-format.md says what it holds.

mod format;
mod read;
mod write;

pub use read::{Index, IndexError, Inode};
pub(crate) use write::{IndexWriteError, IndexWriter};
