//! What the name of a tar entry means in a layer.

use crate::EntryError;

/// The longest name of one file, on Linux and in EROFS.
pub(crate) const MAX_NAME: usize = 255;
/// The longest path that Linux takes, without its NUL.
pub(crate) const MAX_PATH: usize = 4095;

const WHITEOUT: &[u8] = b".wh.";
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What an entry stands for. Paths are relative, without `.`, `..` and needless slashes; empty
/// is the root.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A file.
    File(Vec<u8>),
    /// The path is hidden in the layers below.
    Whiteout(Vec<u8>),
    /// Everything in the directory is hidden in the layers below.
    Opaque(Vec<u8>),
    /// Bookkeeping of aufs.
    Nothing,
}

/// Judges the name of an entry.
pub(crate) fn meaning(name: &[u8]) -> Result<Meaning, EntryError> {
    let path = normalize(name)?;
    let (parent, last) = split(&path);
    if components(parent).any(|part| part.starts_with(AUFS)) {
        return Ok(Meaning::Nothing);
    }
    if components(parent).any(|part| part.starts_with(WHITEOUT)) {
        return Err(EntryError::InvalidWhiteout);
    }
    if last == OPAQUE {
        return Ok(Meaning::Opaque(parent.to_vec()));
    }
    if last.starts_with(AUFS) {
        return Ok(Meaning::Nothing);
    }
    match last.strip_prefix(WHITEOUT) {
        None => Ok(Meaning::File(path)),
        Some(b"" | b"." | b"..") => Err(EntryError::InvalidWhiteout),
        Some(hidden) => Ok(Meaning::Whiteout(join(parent, hidden))),
    }
}

/// Returns `name` relative to the root, without `.` and needless slashes.
pub(crate) fn normalize(name: &[u8]) -> Result<Vec<u8>, EntryError> {
    if name.contains(&0) {
        return Err(EntryError::NulInPath);
    }
    let mut path = Vec::with_capacity(name.len());
    for part in components(name) {
        match part {
            b"." => continue,
            b".." => return Err(EntryError::ParentInPath),
            _ if part.len() > MAX_NAME => return Err(EntryError::NameTooLong),
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    if path.len() > MAX_PATH {
        return Err(EntryError::PathTooLong);
    }
    Ok(path)
}

/// Yields the parts between slashes.
pub(crate) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/')
        .filter(|part| !part.is_empty())
}

/// Splits a normal path into its parent and its last part.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Returns the path of `name` in `parent`.
pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() {
        return name.to_vec();
    }
    [parent, b"/", name].concat()
}

/// Returns the path of the whiteout for `path`, as tars have it.
pub(crate) fn whiteout(path: &[u8]) -> Vec<u8> {
    let (parent, name) = split(path);
    join(parent, &[WHITEOUT, name].concat())
}

/// Returns the path of the entry that makes `dir` opaque, as tars have it.
pub(crate) fn opaque(dir: &[u8]) -> Vec<u8> {
    join(dir, OPAQUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: &str) {
        let found = match meaning(name.as_bytes()) {
            Ok(Meaning::File(path)) => format!("file {}", path.escape_ascii()),
            Ok(Meaning::Whiteout(path)) => format!("whiteout {}", path.escape_ascii()),
            Ok(Meaning::Opaque(path)) => format!("opaque {}", path.escape_ascii()),
            Ok(Meaning::Nothing) => "nothing".to_owned(),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(found, expected, "{name}");
    }

    #[test]
    fn names_are_relative_to_the_root() {
        for name in ["a/b", "./a/b", "/a/b", "//a//b/", ".//./a/./b/."] {
            check(name, "file a/b");
        }
        for name in ["", ".", "./", "/", "//./"] {
            check(name, "file ");
        }
        check("a/...", "file a/...");
    }

    #[test]
    fn names_that_leave_the_root_are_refused() {
        for name in ["..", "../x", "/../x", "a/../b", "a/..", "./.."] {
            check(name, "ParentInPath");
        }
        check("a\0b", "NulInPath");
        check(&"a".repeat(256), "NameTooLong");
        check(&"a/".repeat(2049), "PathTooLong");
    }

    #[test]
    fn whiteouts_hide_one_name_or_a_whole_directory() {
        check("a/.wh.b", "whiteout a/b");
        check(".wh.b", "whiteout b");
        check(".wh..b", "whiteout .b");
        check("a/.wh..wh..opq", "opaque a");
        check(".wh..wh..opq", "opaque ");
        for name in [".wh..wh.plnk/1.2", ".wh..wh.aufs", "a/.wh..wh.orph/x"] {
            check(name, "nothing");
        }
        for name in [".wh.", ".wh..", ".wh...", "a/.wh...", ".wh.a/b"] {
            check(name, "InvalidWhiteout");
        }
    }
}
