//! Everything that can be seen of a directory, as text to compare.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Whether the modification times of directories are part of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DirectoryTimes {
    Compared,
    Ignored,
}

/// Describes every file below `root`, and `root` itself as an empty name.
pub(crate) fn snapshot(root: &Path, times: DirectoryTimes) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut names: BTreeMap<(u64, u64), String> = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let status = fs::symlink_metadata(&path).unwrap();
        let kind = status.file_type();
        let name = path
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let mut text = format!("{:o} {}:{}", status.mode(), status.uid(), status.gid());
        if !kind.is_dir() || times == DirectoryTimes::Compared {
            text += &format!(" {}.{:09}", status.mtime(), status.mtime_nsec());
        }
        if kind.is_file() {
            let content = fs::read(&path).unwrap();
            text += &format!(" {} {}", content.len(), oci::Digest::of(&content).short());
        } else if kind.is_symlink() {
            text += &format!(" -> {}", fs::read_link(&path).unwrap().display());
        } else if kind.is_dir() {
            let mut children: Vec<_> = fs::read_dir(&path)
                .unwrap()
                .map(|child| child.unwrap().path())
                .collect();
            children.sort_by(|one, other| other.as_os_str().cmp(one.as_os_str()));
            pending.extend(children);
        } else {
            text += &format!(" device {:x}", status.rdev());
        }
        for (key, value) in sys::xattr::all(&path).unwrap() {
            if key != b"security.selinux" {
                let key = String::from_utf8_lossy(&key).into_owned();
                text += &format!(" {key}={}", String::from_utf8_lossy(&value).escape_debug());
            }
        }
        if !kind.is_dir() && status.nlink() > 1 {
            let first = names
                .entry((status.dev(), status.ino()))
                .or_insert(name.clone());
            text += &format!(" same as {first}");
        }
        assert!(path.as_os_str().as_bytes().len() < 4096);
        files.insert(name, text);
    }
    files
}

/// Fails with the differing lines only.
pub(crate) fn assert_same(
    expected: &BTreeMap<String, String>,
    found: &BTreeMap<String, String>,
    what: &str,
) {
    let mut lines = Vec::new();
    for name in expected.keys().chain(found.keys()) {
        let (one, other) = (expected.get(name), found.get(name));
        if one != other {
            lines.push(format!("{name}: expected {one:?}, found {other:?}"));
        }
    }
    lines.dedup();
    assert!(lines.is_empty(), "{what}:\n{}", lines.join("\n"));
}
