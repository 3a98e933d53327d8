//! The merged contents of a stack of layers.

use std::io::Read;

use crate::{Entry, IndexError, LayerDir};

/// The merged contents of a stack of layers, read without mounting and without privileges.
#[derive(Debug)]
pub struct View {}

/// Which file this is: equal for all names of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// The layer that gives the file, 0 at the bottom.
    pub layer: usize,
    /// Its node number there.
    pub nid: u64,
}

/// A file of a [`View`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The file, under its resolved path. It is never a hard link, and carries no overlay
    /// attributes.
    pub entry: Entry,
    /// The number of names that the file has in its layer.
    pub nlink: u32,
    /// Which file this is.
    pub id: NodeId,
}

/// Why a stack of layers cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// One layer's index is at fault.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl View {
    /// Opens `layers`, bottom first.
    pub fn open(layers: &[LayerDir]) -> Result<Self, ViewError> {
        unimplemented!("{layers:?}")
    }

    /// Returns the root directory. An empty stack has one too.
    pub fn root(&self) -> Result<Node, ViewError> {
        unimplemented!()
    }

    /// Finds `path`, following symbolic links as if the root of the view were the root of the
    /// system: `..` and absolute targets cannot leave it.
    pub fn lookup(&self, path: &[u8]) -> Result<Option<Node>, ViewError> {
        unimplemented!("{path:?}")
    }

    /// Finds `path` like [`View::lookup`], without following its last component.
    pub fn lookup_no_follow(&self, path: &[u8]) -> Result<Option<Node>, ViewError> {
        unimplemented!("{path:?}")
    }

    /// Returns what is in `dir`, sorted by name, merged, with whiteouts applied.
    pub fn read_dir(&self, dir: &Node) -> Result<Vec<(Vec<u8>, Node)>, ViewError> {
        unimplemented!("{dir:?}")
    }

    /// Reads the content of a regular file.
    pub fn open_file(&self, file: &Node) -> Result<Box<dyn Read + Send>, ViewError> {
        unimplemented!("{file:?}")
    }

    /// Reads a small file whole, following links; `None` when there is no such file. A file
    /// longer than `limit` is an error.
    pub fn read_file(&self, path: &[u8], limit: u64) -> Result<Option<Vec<u8>>, ViewError> {
        unimplemented!("{path:?} {limit}")
    }

    /// Returns the directories that no layer's tar carries in their topmost layer but a lower one
    /// does: a mount of the stack shows them right only with their metadata laid on top.
    pub fn implied_directories(&self) -> Result<Vec<Node>, ViewError> {
        unimplemented!()
    }
}
