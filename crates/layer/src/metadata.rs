//! Owner, mode, times and attributes of files that this crate makes.

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, chmodat, chownat, utimensat};
use rustix::io::Errno;

use crate::{Entry, EntryKind, Timestamp};

/// Why a file of the engine's own could not be made as wanted.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} `{}`", path.display())]
pub struct FileError {
    /// What was tried.
    pub operation: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl FileError {
    pub(crate) fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            operation,
            path: path.to_owned(),
            source,
        }
    }

    /// Returns an error about a path inside an image.
    pub(crate) fn within(operation: &'static str, path: &[u8], errno: Errno) -> Self {
        Self::new(operation, Path::new(OsStr::from_bytes(path)), errno.into())
    }
}

/// Attributes that say something about the machine and not about the image.
const HOST_XATTRS: [&[u8]; 3] = [b"security.selinux", b"security.ima", b"security.evm"];

/// Tells whether an attribute belongs into an image.
pub(crate) fn is_portable(xattr: &[u8]) -> bool {
    !xattr.starts_with(b"user.overlay.")
        && !xattr.starts_with(b"trusted.overlay.")
        && !HOST_XATTRS.contains(&xattr)
}

/// Gives `name` in `directory` everything that `entry` says but content; `.` is the directory.
///
/// The order matters: a new owner takes away set-id bits and capabilities.
pub(crate) fn apply(
    directory: BorrowedFd<'_>,
    name: &[u8],
    entry: &Entry,
) -> Result<(), FileError> {
    let failed = |operation| move |errno| FileError::within(operation, &entry.path, errno);
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    chownat(
        directory,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .map_err(failed("change the owner of"))?;
    set_xattrs(directory, name, entry)?;
    if !matches!(entry.kind, EntryKind::Symlink { .. }) {
        chmodat(
            directory,
            name,
            Mode::from_raw_mode(entry.mode),
            AtFlags::empty(),
        )
        .map_err(failed("change the mode of"))?;
    }
    utimensat(
        directory,
        name,
        &times(entry.mtime),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .map_err(failed("set the time of"))
}

fn set_xattrs(directory: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), FileError> {
    for (key, value) in settable(entry) {
        let path = sys::xattr::path_at(directory, name);
        sys::xattr::set(&path, key, value).map_err(|source| {
            let path = Path::new(OsStr::from_bytes(&entry.path));
            FileError::new("set an attribute of", path, source)
        })?;
    }
    Ok(())
}

/// Returns the attributes that a file can have: Linux has no `user.` attributes on links and
/// devices, and the host's labels stay.
pub(crate) fn settable(entry: &Entry) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
    let can_have_user_xattrs = matches!(entry.kind, EntryKind::File { .. } | EntryKind::Directory);
    entry.xattrs.iter().filter(move |(key, _)| {
        let is_impossible = key.starts_with(b"user.") && !can_have_user_xattrs;
        !is_impossible && !is_of_host(key)
    })
}

/// Tells whether an attribute says something about the machine.
pub(crate) fn is_of_host(xattr: &[u8]) -> bool {
    HOST_XATTRS.contains(&xattr)
}

fn times(mtime: Timestamp) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.seconds,
        tv_nsec: mtime.nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
