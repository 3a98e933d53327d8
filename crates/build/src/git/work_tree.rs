//! Whether the files of a work tree are those that were committed.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, openat};
use sha1::{Digest as _, Sha1};

use super::index::{Entry, Index, Time};
use super::object::ObjectId;
use super::repository::Repository;

const TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const SUBMODULE: u32 = 0o160_000;

/// Tells whether every tracked file below the repository's prefix has the content, type and
/// executable bit of its entry. `None` when that cannot be found out.
pub(super) fn is_unchanged(repository: &Repository, index: &Index) -> Option<bool> {
    let prefix = &repository.prefix;
    let is_below = |path: &[u8]| match path.strip_prefix(prefix.as_slice()) {
        Some(rest) => prefix.is_empty() || rest.starts_with(b"/"),
        None => false,
    };
    let entries = index.entries.iter();
    for entry in entries.filter(|entry| is_below(&entry.path)) {
        // The commit that a submodule stands at says nothing of files here.
        if entry.is_assumed_unchanged || entry.mode & TYPE == SUBMODULE {
            continue;
        }
        if !is_as_committed(&repository.work_tree, entry, index.written)? {
            return Some(false);
        }
    }
    Some(true)
}

fn is_as_committed(work_tree: &Path, entry: &Entry, written: Time) -> Option<bool> {
    let relative = Path::new(OsStr::from_bytes(&entry.path));
    let is_plain = relative
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    if !is_plain {
        return None;
    }
    let path = work_tree.join(relative);
    let Ok(metadata) = fs::symlink_metadata(&path) else {
        return Some(false);
    };
    let same_kind = match entry.mode & TYPE {
        REGULAR => {
            let is_executable = metadata.permissions().mode() & 0o100 != 0;
            metadata.is_file() && is_executable == (entry.mode & 0o100 != 0)
        }
        LINK => metadata.is_symlink(),
        _ => return None,
    };
    if !same_kind {
        return Some(false);
    }
    if looks_the_same(entry, &metadata) && entry.modified < written {
        return Some(true);
    }
    let id = match metadata.is_symlink() {
        true => {
            let target = fs::read_link(&path).ok()?;
            let target = target.as_os_str().as_bytes();
            blob_id(target, u64::try_from(target.len()).ok()?)
        }
        false => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(openat(CWD, &path, flags, Mode::empty()).ok()?);
            blob_id(file.take(metadata.len()), metadata.len())
        }
    };
    Some(id.ok()? == entry.id)
}

/// A time of 0 ns may come from a program that keeps whole seconds.
fn looks_the_same(entry: &Entry, metadata: &Metadata) -> bool {
    let low = |value: u64| u32::try_from(value & u64::from(u32::MAX)).ok();
    let same = |known: Time, now: Time| known.0 == now.0 && (known.1 == 0 || known.1 == now.1);
    low(metadata.len()) == Some(entry.size)
        && low(metadata.ino()) == Some(entry.inode)
        && same(
            entry.modified,
            Time::of(metadata.mtime(), metadata.mtime_nsec()),
        )
        && same(
            entry.changed,
            Time::of(metadata.ctime(), metadata.ctime_nsec()),
        )
}

fn blob_id(mut content: impl io::Read, size: u64) -> io::Result<ObjectId> {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {size}\0"));
    let mut buffer = vec![0; 64 << 10];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(ObjectId(hasher.finalize().into())),
            length => hasher.update(&buffer[..length]),
        }
    }
}
