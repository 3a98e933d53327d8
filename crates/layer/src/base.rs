//! The base of a stack: empty directories that look as the stack's own do.
//!
//! See [`crate::rootfs`] for why there is one.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid, chmodat, chownat, utimensat};

use crate::{Entry, EntryKind, LayerDir, View, ViewError};

/// Why a base was not made.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// The layers' indexes cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A directory could not be made or given its metadata.
    #[error("cannot {operation} `{}`", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Makes the base of `layers` at `path`, which does not exist yet, all or nothing.
pub(crate) fn create(layers: &[LayerDir], path: &Path) -> Result<(), BaseError> {
    let partial = path.with_extension("partial");
    if partial
        .try_exists()
        .map_err(|source| error("look at", &partial, source))?
    {
        fs::remove_dir_all(&partial).map_err(|source| error("remove", &partial, source))?;
    }
    let view = View::open(layers)?;
    let mut entries = vec![view.root()?.entry];
    let mut known = BTreeSet::from([Vec::new()]);
    for node in view.implied_directories()? {
        for path in prefixes(&node.entry.path) {
            if !known.insert(path.to_vec()) {
                continue;
            }
            // What is above an implied directory is shown through the base too.
            if let Some(parent) = view.lookup_no_follow(path)?
                && parent.entry.kind == EntryKind::Directory
            {
                entries.push(parent.entry);
            }
        }
    }
    // Parents sort before their children.
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    let at = |entry: &Entry| partial.join(OsStr::from_bytes(&entry.path));
    for entry in &entries {
        create_private(&at(entry))?;
    }
    // Children first: a parent may end up closed to its owner, and its time is set last.
    for entry in entries.iter().rev() {
        set_metadata(&at(entry), entry)?;
    }
    fs::rename(&partial, path).map_err(|source| error("create", path, source))
}

/// Tells whether a base carries directories beside the root.
pub(crate) fn implies_directories(base: &Path) -> Result<bool, BaseError> {
    let mut content = fs::read_dir(base).map_err(|source| error("read", base, source))?;
    Ok(content.next().is_some())
}

/// Gives `to`, a directory, the owner, mode, time and attributes of the directory `from`.
pub(crate) fn copy_metadata(from: &Path, to: &Path) -> Result<(), BaseError> {
    let status = fs::symlink_metadata(from).map_err(|source| error("look at", from, source))?;
    let xattrs = sys::xattr::all(from).map_err(|source| error("read", from, source))?;
    let entry = Entry {
        path: Vec::new(),
        kind: EntryKind::Directory,
        mode: status.mode() & 0o7777,
        uid: status.uid(),
        gid: status.gid(),
        mtime: crate::Timestamp {
            seconds: status.mtime(),
            nanoseconds: u32::try_from(status.mtime_nsec()).unwrap_or_default(),
        },
        xattrs,
    };
    set_metadata(to, &entry)
}

fn create_private(path: &Path) -> Result<(), BaseError> {
    fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|source| error("create", path, source))
}

fn set_metadata(path: &Path, entry: &Entry) -> Result<(), BaseError> {
    let failed = |operation| move |source: io::Error| error(operation, path, source);
    let status = fs::symlink_metadata(path).map_err(failed("look at"))?;
    if (status.uid(), status.gid()) != (entry.uid, entry.gid) {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| failed("change the owner of")(errno.into()))?;
    }
    for (name, value) in &entry.xattrs {
        // The host's own label is the host's matter.
        if name.as_slice() != b"security.selinux" {
            sys::xattr::set(path, name, value).map_err(failed("set an attribute of"))?;
        }
    }
    chmodat(CWD, path, Mode::from_raw_mode(entry.mode), AtFlags::empty())
        .map_err(|errno| failed("change the mode of")(errno.into()))?;
    let time = Timespec {
        tv_sec: entry.mtime.seconds,
        tv_nsec: entry.mtime.nanoseconds.into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| failed("set the time of")(errno.into()))
}

/// Returns `a`, `a/b` and `a/b/c` of `a/b/c`.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/')
        .map(|(at, _)| &path[..at])
        .chain((!path.is_empty()).then_some(path))
}

fn error(operation: &'static str, path: &Path, source: io::Error) -> BaseError {
    BaseError::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}
