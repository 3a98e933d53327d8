//! Whether the unpacked form of a layer still is what its index and tar say.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat, openat, statat};
use sys::Root;

use crate::metadata::{FileError, is_of_host, settable};
use crate::tree::TreeError;
use crate::upper::{kind, same_content};
use crate::{EntryKind, Index, Inode, LayerDir, Timestamp};

/// A difference between a tree and its layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeFault {
    /// Which file, below the tree.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Compares the tree of `layer`, which is there, with its index and tar, which are right: names,
/// types, contents, owners, modes, times, attributes and links. Returns the first difference.
pub fn check(layer: &LayerDir) -> Result<Option<TreeFault>, TreeError> {
    let tree = layer.tree();
    let root = Root::open(&tree).map_err(|error| FileError::new("open", &tree, error.source))?;
    let index = Index::open(layer)?;
    let mut check = Check {
        index: &index,
        root,
        pending: vec![(Vec::new(), index.root()?)],
        numbers: HashMap::new(),
    };
    while let Some((path, directory)) = check.pending.pop() {
        if let Some(fault) = check.directory(&path, &directory)? {
            return Ok(Some(fault));
        }
    }
    Ok(None)
}

struct Check<'a> {
    index: &'a Index,
    root: Root,
    pending: Vec<(Vec<u8>, Inode)>,
    /// The inode number in the tree of every file with several names.
    numbers: HashMap<u64, u64>,
}

impl Check<'_> {
    fn directory(
        &mut self,
        path: &[u8],
        directory: &Inode,
    ) -> Result<Option<TreeFault>, TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = self.root.open_beneath(path, flags);
        let opened = opened.map_err(|error| FileError::new("open", &error.path, error.source))?;
        let status = statat(&opened, ".", AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| FileError::within("look at", path, errno))?;
        if let Some(what) = self.difference(&opened, b".", directory, &status)? {
            return Ok(Some(fault(path, what)));
        }
        let expected = self.index.read_dir(directory)?;
        let mut found = names(&opened, path)?;
        found.sort_unstable();
        if !found.iter().eq(expected.iter().map(|(name, _)| name)) {
            return Ok(Some(fault(path, "has other names in it")));
        }
        for (name, nid) in expected {
            let inode = self.index.inode(nid)?;
            let mut child = path.to_vec();
            if !child.is_empty() {
                child.push(b'/');
            }
            child.extend_from_slice(&name);
            if let Some(what) = self.entry(&opened, &name, &inode)? {
                return Ok(Some(fault(&child, what)));
            }
            if inode.entry.kind == EntryKind::Directory {
                self.pending.push((child, inode));
            }
        }
        Ok(None)
    }

    fn entry(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        inode: &Inode,
    ) -> Result<Option<&'static str>, TreeError> {
        let status = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| FileError::within("look at", name, errno))?;
        let found = kind(parent.as_fd(), name, &status)
            .map_err(|errno| FileError::within("read", name, errno))?;
        if found != inode.entry.kind {
            return Ok(Some("is of another type, size or target"));
        }
        if found == EntryKind::Directory {
            // Looked at when it is opened: its own directories may still be to come.
            return Ok(None);
        }
        if inode.nlink > 1 {
            let first = *self.numbers.entry(inode.nid).or_insert(status.st_ino);
            if first != status.st_ino {
                return Ok(Some("is no hard link of what it was"));
            }
        }
        if let Some(what) = self.difference(parent, name, inode, &status)? {
            return Ok(Some(what));
        }
        match found {
            EntryKind::File { .. } => self.content(parent, name, inode),
            _ => Ok(None),
        }
    }

    fn content(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        inode: &Inode,
    ) -> Result<Option<&'static str>, TreeError> {
        let failed = |source| FileError::new("read", Path::new(OsStr::from_bytes(name)), source);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat(parent, name, flags, Mode::empty())
            .map_err(|errno| FileError::within("open", name, errno))?;
        let mut expected = self.index.open_file(inode)?;
        let is_same = same_content(&mut File::from(file), &mut *expected).map_err(failed)?;
        Ok((!is_same).then_some("has another content"))
    }

    /// Compares owner, mode, time and attributes.
    fn difference(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        inode: &Inode,
        status: &Stat,
    ) -> Result<Option<&'static str>, TreeError> {
        let entry = &inode.entry;
        let mtime = Timestamp {
            seconds: status.st_mtime,
            nanoseconds: u32::try_from(status.st_mtime_nsec).unwrap_or_default(),
        };
        if (status.st_uid, status.st_gid) != (entry.uid, entry.gid) {
            return Ok(Some("has another owner"));
        }
        let is_link = matches!(entry.kind, EntryKind::Symlink { .. });
        if !is_link && status.st_mode & 0o7777 != entry.mode {
            return Ok(Some("has another mode"));
        }
        if mtime != entry.mtime {
            return Ok(Some("has another time"));
        }
        let at = sys::xattr::path_at(parent.as_fd(), name);
        let mut found = sys::xattr::all(&at).map_err(|source| {
            let path = Path::new(OsStr::from_bytes(name));
            FileError::new("read the attributes of", path, source)
        })?;
        found.retain(|name, _| !is_of_host(name));
        let is_same = found.iter().eq(settable(entry));
        Ok((!is_same).then_some("has other attributes"))
    }
}

fn fault(path: &[u8], what: &'static str) -> TreeFault {
    TreeFault {
        path: PathBuf::from(OsStr::from_bytes(path)),
        what,
    }
}

fn names(directory: &OwnedFd, path: &[u8]) -> Result<Vec<Vec<u8>>, FileError> {
    let failed = |errno| FileError::within("read", path, errno);
    let mut names = Vec::new();
    for item in Dir::read_from(directory).map_err(failed)? {
        let item = item.map_err(failed)?;
        let name = item.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
