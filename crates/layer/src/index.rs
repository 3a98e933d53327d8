//! The EROFS index of one layer, read in user space.

use std::io::Read;

use crate::{Entry, LayerDir};

/// The index of one layer, open for reading.
#[derive(Debug)]
pub struct Index {}

/// One file of one layer, as the index has it.
///
/// A whiteout is a character device 0/0. An opaque directory and an implied one carry an extended
/// attribute that says so; the accessors here tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// The node number: equal for all names of one file, and the same on every read.
    pub nid: u64,
    /// The number of names.
    pub nlink: u32,
    /// The file. Its path is empty: an inode has no name. Overlay attributes are among its
    /// extended attributes.
    pub entry: Entry,
}

impl Inode {
    /// Tells whether this hides the name below.
    pub fn is_whiteout(&self) -> bool {
        unimplemented!()
    }

    /// Tells whether this directory hides the same directory below.
    pub fn is_opaque(&self) -> bool {
        unimplemented!()
    }

    /// Tells whether this directory is only there because something in it is.
    pub fn is_implied(&self) -> bool {
        unimplemented!()
    }
}

/// Why an index cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {}

impl Index {
    /// Opens the index and the tar of `layer`.
    pub fn open(layer: &LayerDir) -> Result<Self, IndexError> {
        unimplemented!("{layer:?}")
    }

    /// Returns the root directory.
    pub fn root(&self) -> Result<Inode, IndexError> {
        unimplemented!()
    }

    /// Returns the inode with number `nid`.
    pub fn inode(&self, nid: u64) -> Result<Inode, IndexError> {
        unimplemented!("{nid}")
    }

    /// Returns the names in `dir`, sorted, with their node numbers; without `.` and `..`.
    pub fn read_dir(&self, dir: &Inode) -> Result<Vec<(Vec<u8>, u64)>, IndexError> {
        unimplemented!("{dir:?}")
    }

    /// Returns the node number of `name` in `dir`.
    pub fn lookup(&self, dir: &Inode, name: &[u8]) -> Result<Option<u64>, IndexError> {
        unimplemented!("{dir:?} {name:?}")
    }

    /// Reads the content of a regular file.
    pub fn open_file(&self, file: &Inode) -> Result<Box<dyn Read + Send>, IndexError> {
        unimplemented!("{file:?}")
    }
}
