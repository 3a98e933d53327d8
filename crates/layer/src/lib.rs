//! A layer: its exact tar, and what can be mounted and read of it.
//!
//! A tar arrives from outside through [`ingest`](ingest()), or is made by a [`LayerWriter`]. Both
//! leave the tar and an EROFS index over it in a [`LayerDir`]. A [`View`] reads a stack of layers
//! in user space; [`Index`] reads one layer as it is, with its whiteouts.

mod base;
mod compress;
mod decompress;
mod diff;
mod entry;
mod form;
mod index;
mod ingest;
mod layer_dir;
mod metadata;
pub mod rootfs;
pub mod tree;
mod upper;
mod view;
mod writer;

pub use base::BaseError;
pub use compress::{Compression, compress};
pub use decompress::{Format, decompress};
pub use diff::{CaptureOptions, Captured, Change, ChangeKind, DiffError, capture, changes};
pub use entry::{Entry, EntryKind, IMPLIED_XATTR, OPAQUE_XATTR, Timestamp};
pub use form::{ErofsError, Form, FormError, try_erofs};
pub use index::{Index, IndexError, Inode};
pub use ingest::{IngestError, Ingested, Limits, ingest};
pub use layer_dir::LayerDir;
pub use metadata::FileError;
pub use rootfs::{RootfsError, RootfsOptions};
pub use view::{Node, NodeId, View, ViewError};
pub use writer::{LayerWriter, WriteError};
