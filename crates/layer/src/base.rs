//! The base of a stack: empty directories that look as the stack's own do.
//!
//! See [`crate::rootfs`] for why there is one.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, mkdirat};
use sys::Root;

use crate::metadata::{self, FileError};
use crate::{Entry, EntryKind, LayerDir, Timestamp, View, ViewError};

/// Why a base was not made.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// The layers' indexes cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A directory could not be made or given its metadata.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Makes the base of `layers` at `path`, which does not exist yet, all or nothing.
pub(crate) fn create(layers: &[LayerDir], path: &Path) -> Result<(), BaseError> {
    let partial = path.with_extension("partial");
    let failed = |operation| {
        let partial = &partial;
        move |source| FileError::new(operation, partial, source)
    };
    if partial.try_exists().map_err(failed("look at"))? {
        fs::remove_dir_all(&partial).map_err(failed("remove"))?;
    }
    fs::create_dir(&partial).map_err(failed("create"))?;
    let root = Root::open(&partial).map_err(|error| failed("open")(error.source))?;
    let directories = directories(layers)?;
    for entry in directories.iter().filter(|entry| !entry.path.is_empty()) {
        mkdirat(&root, entry.path.as_slice(), Mode::RWXU)
            .map_err(|errno| FileError::within("create", &entry.path, errno))?;
    }
    // Children first: a parent may end up closed to its owner, and its time is set last.
    for entry in directories.iter().rev() {
        let name = if entry.path.is_empty() {
            b"."
        } else {
            entry.path.as_slice()
        };
        metadata::apply(root.as_fd(), name, entry)?;
    }
    Ok(fs::rename(&partial, path).map_err(failed("rename"))?)
}

/// Returns the root, the implied directories and what is above them, parents first.
fn directories(layers: &[LayerDir]) -> Result<Vec<Entry>, BaseError> {
    let view = View::open(layers)?;
    let mut directories = vec![view.root()?.entry];
    let mut known = BTreeSet::from([Vec::new()]);
    for node in view.implied_directories()? {
        for path in prefixes(&node.entry.path) {
            if !known.insert(path.to_vec()) {
                continue;
            }
            if let Some(node) = view.lookup_no_follow(path)?
                && node.entry.kind == EntryKind::Directory
            {
                directories.push(node.entry);
            }
        }
    }
    directories.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(directories)
}

/// Tells whether a base carries directories beside the root.
pub(crate) fn implies_directories(base: &Path) -> Result<bool, BaseError> {
    let mut content = fs::read_dir(base).map_err(|source| FileError::new("read", base, source))?;
    Ok(content.next().is_some())
}

/// Gives `to`, a directory, the owner, mode, time and attributes of the directory `from`.
pub(crate) fn copy_metadata(from: &Path, to: &Path) -> Result<(), BaseError> {
    let failed = |source| FileError::new("look at", from, source);
    let status = fs::symlink_metadata(from).map_err(failed)?;
    let entry = Entry {
        path: Vec::new(),
        kind: EntryKind::Directory,
        mode: status.mode() & 0o7777,
        uid: status.uid(),
        gid: status.gid(),
        mtime: Timestamp {
            seconds: status.mtime(),
            nanoseconds: u32::try_from(status.mtime_nsec()).unwrap_or_default(),
        },
        xattrs: sys::xattr::all(from).map_err(failed)?,
    };
    let to = Root::open(to).map_err(|error| FileError::new("open", to, error.source))?;
    Ok(metadata::apply(to.as_fd(), b".", &entry)?)
}

/// Returns `a`, `a/b` and `a/b/c` of `a/b/c`.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/')
        .map(|(at, _)| &path[..at])
        .chain((!path.is_empty()).then_some(path))
}

#[cfg(test)]
mod tests {
    use super::prefixes;

    #[test]
    fn the_prefixes_of_a_path_are_its_parents_and_itself() {
        let check = |path: &[u8], expected: &[&[u8]]| {
            assert_eq!(prefixes(path).collect::<Vec<_>>(), expected);
        };
        check(b"", &[]);
        check(b"a", &[b"a"]);
        check(b"a/bc/d", &[b"a", b"a/bc", b"a/bc/d"]);
    }
}
