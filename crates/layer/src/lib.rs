//! A layer: its exact tar, and what can be mounted and read of it.
//!
//! A tar arrives from outside through [`ingest`](ingest()), or is made by a [`LayerWriter`]. Both
//! leave the tar and an EROFS index over it in a [`LayerDir`]. A [`View`] reads a stack of layers
//! in user space; [`Index`] reads one layer as it is, with its whiteouts.

mod archive;
mod base;
mod compress;
mod contents;
mod decompress;
mod diff;
mod entry;
mod erofs;
mod flatten;
mod form;
mod ingest;
mod layer_dir;
mod metadata;
mod path;
pub mod rootfs;
mod sink;
mod size;
mod tar;
pub mod tree;
mod tree_check;
mod upper;
mod verify;
mod view;
mod writer;
mod xattr;

pub use archive::{ArchiveEntry, ArchiveExtent, ArchiveReadError, ArchiveReader};
pub use base::BaseError;
pub use compress::{Compression, compress};
pub use decompress::{Format, decompress};
pub use diff::{CaptureOptions, Captured, Change, ChangeKind, DiffError, capture, changes};
pub use entry::{
    Entry, EntryError, EntryKind, IMPLIED_XATTR, OPAQUE_XATTR, Timestamp, WHITEOUTS_XATTR,
};
pub use erofs::{Index, IndexError, Inode};
pub use flatten::{FlattenError, flatten, flatten_into};
pub use form::{ErofsError, Form, FormError, try_erofs};
pub use ingest::{IngestError, Ingested, Limits, ingest};
pub use layer_dir::LayerDir;
pub use metadata::FileError;
pub use rootfs::{RootfsError, RootfsOptions};
pub use tar::TarError;
pub use tree_check::{TreeFault, check as check_tree};
pub use verify::{Verified, VerifyError, verify};
pub use view::{Node, NodeId, View, ViewError};
pub use writer::{LayerWriter, WriteError};
