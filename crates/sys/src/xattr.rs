//! Extended attributes of open files and of names in open directories.

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, lgetxattr, listxattr, llistxattr, lremovexattr, lsetxattr};
use rustix::io::Errno;

/// The longest value and the longest list that the kernel returns.
const MAX_SIZE: usize = 65536;

/// Returns the path that leads to `name` in `directory` without being resolved again up to there.
///
/// The `*xattr` calls of kernels before 6.13 take no directory descriptors.
pub fn path_at(directory: BorrowedFd<'_>, name: &[u8]) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    if !name.is_empty() {
        path.push(OsStr::from_bytes(name));
    }
    path
}

/// Returns all attributes of `path`, which is not followed if it is a symbolic link. A file
/// system without attributes has none.
pub fn all(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut attributes = BTreeMap::new();
    for name in list(path)? {
        // An attribute may go between the two calls.
        if let Some(value) = get(path, &name)? {
            attributes.insert(name, value);
        }
    }
    Ok(attributes)
}

/// Returns the names of the attributes of `path`, which is not followed.
pub fn list(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut small = [0_u8; 512];
    match llistxattr(path, &mut small[..]) {
        Ok(length) => Ok(names(&small[..length])),
        Err(Errno::RANGE) => {
            let mut large = vec![0_u8; MAX_SIZE];
            let length = llistxattr(path, &mut large[..])?;
            Ok(names(&large[..length]))
        }
        Err(Errno::NOTSUP) => Ok(Vec::new()),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns all attributes of what `file` is open on, also when opened with `O_PATH`.
pub fn all_of(file: BorrowedFd<'_>) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let path = path_at(file, b"");
    let mut large = vec![0_u8; MAX_SIZE];
    let length = match listxattr(&path, &mut large[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(BTreeMap::new()),
        Err(errno) => return Err(errno.into()),
    };
    let mut attributes = BTreeMap::new();
    for name in names(&large[..length]) {
        if let Some(value) = get_of(file, &name)? {
            attributes.insert(name, value);
        }
    }
    Ok(attributes)
}

/// Returns the attribute `name` of `path`, which is not followed.
pub fn get(path: &Path, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    read(|buffer| lgetxattr(path, name, buffer))
}

/// Returns the attribute `name` of what `file` is open on, also when opened with `O_PATH`.
pub fn get_of(file: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let path = path_at(file, b"");
    read(|buffer| rustix::fs::getxattr(&path, name, buffer))
}

/// Sets the attribute `name` of `path`, which is not followed.
pub fn set(path: &Path, name: &[u8], value: &[u8]) -> io::Result<()> {
    Ok(lsetxattr(path, name, value, XattrFlags::empty())?)
}

/// Sets the attribute `name` of what `file` is open on, also when opened with `O_PATH`.
pub fn set_of(file: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> io::Result<()> {
    let path = path_at(file, b"");
    Ok(rustix::fs::setxattr(
        &path,
        name,
        value,
        XattrFlags::empty(),
    )?)
}

/// Removes the attribute `name` of `path`, which is not followed. One that is not there is fine.
pub fn remove(path: &Path, name: &[u8]) -> io::Result<()> {
    match lremovexattr(path, name) {
        Ok(()) | Err(Errno::NODATA) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn read(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> io::Result<Option<Vec<u8>>> {
    let mut small = [0_u8; 256];
    match call(&mut small) {
        Ok(length) => Ok(Some(small[..length].to_vec())),
        Err(Errno::RANGE) => {
            let mut large = vec![0_u8; MAX_SIZE];
            let length = call(&mut large)?;
            large.truncate(length);
            Ok(Some(large))
        }
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn names(list: &[u8]) -> Vec<Vec<u8>> {
    list.split_inclusive(|byte| *byte == 0)
        .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
        .map(|name| name.to_bytes().to_vec())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::fs::{CWD, Mode, OFlags, openat};

    use super::*;

    #[test]
    fn attributes_round_trip_by_path_and_descriptor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "").unwrap();
        let long = vec![7; 3000];
        set(&path, b"user.short", b"1").unwrap();
        set(&path, b"user.long", &long).unwrap();
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let file = openat(CWD, &path, flags, Mode::empty()).unwrap();
        set_of(file.as_fd(), b"user.fd", b"").unwrap();
        let expected = BTreeMap::from([
            (b"user.fd".to_vec(), Vec::new()),
            (b"user.long".to_vec(), long),
            (b"user.short".to_vec(), b"1".to_vec()),
        ]);
        assert_eq!(all(&path).unwrap(), expected);
        assert_eq!(all_of(file.as_fd()).unwrap(), expected);
        remove(&path, b"user.short").unwrap();
        remove(&path, b"user.short").unwrap();
        assert_eq!(get(&path, b"user.short").unwrap(), None);
    }

    #[test]
    fn symbolic_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let link = directory.path().join("link");
        std::fs::write(&file, "").unwrap();
        set(&file, b"user.x", b"1").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        assert_eq!(get(&link, b"user.x").unwrap(), None);
        assert_eq!(all(&link).unwrap(), BTreeMap::new());
    }
}
