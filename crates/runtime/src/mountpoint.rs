//! Mount points inside a container's root, made when missing.
//!
//! The image decides what lies on the way to a mount point, so the way is walked one name at a
//! time through descriptors, and symbolic links are interpreted here: they cannot lead out of
//! the root, and nobody who changes the tree meanwhile can redirect a step that was taken.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, mkdirat, openat, readlinkat,
    statat,
};
use rustix::io::Errno;

/// What a mount point is made as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// For a directory, and for a file system.
    Directory,
    /// For anything else: an empty file.
    File,
}

/// As many symbolic links as the kernel follows.
const MAX_LINKS: usize = 40;

/// Opens `path` below `root` (`O_PATH`) and makes what lacks on the way, directories with mode
/// 0755. Symbolic links are followed inside the root, also ones that point to nothing yet.
/// Appends what it made to `made`, as absolute paths.
pub(crate) fn open_or_make(
    root: BorrowedFd<'_>,
    path: &str,
    kind: Kind,
    made: &mut Vec<Vec<u8>>,
) -> Result<OwnedFd, Errno> {
    let mut todo: VecDeque<Vec<u8>> = names(path.as_bytes()).collect();
    let mut way: Vec<(OwnedFd, Vec<u8>)> = Vec::new();
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == b".." {
            way.pop();
            continue;
        }
        let parent = way.last().map_or(root, |(directory, _)| directory.as_fd());
        let status = match statat(parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => Some(status),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno),
        };
        let file_type = status.map(|status| FileType::from_raw_mode(status.st_mode));
        if file_type == Some(FileType::Symlink) {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP);
            }
            let target = readlinkat(parent, &name, Vec::new())?.into_bytes();
            if target.first() == Some(&b'/') {
                way.clear();
            }
            for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                todo.push_front(name);
            }
            continue;
        }
        if file_type.is_none() {
            let directory = kind == Kind::Directory || !todo.is_empty();
            make(parent, &name, directory)?;
            let names = way.iter().map(|(_, name)| name).chain([&name]);
            made.push(
                names
                    .flat_map(|name| [b"/", name.as_slice()].concat())
                    .collect(),
            );
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(parent, &name, flags, Mode::empty())?;
        // A link that was swapped in since the look above is not followed by anyone.
        if FileType::from_raw_mode(fstat(&opened)?.st_mode) == FileType::Symlink {
            return Err(Errno::LOOP);
        }
        way.push((opened, name));
    }
    match way.pop() {
        Some((opened, _)) => Ok(opened),
        None => openat(
            root,
            c".",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        ),
    }
}

/// Opens the directory `name` of `root` (`O_PATH`), makes it when missing, and refuses a link.
pub(crate) fn open_or_make_plain(
    root: BorrowedFd<'_>,
    name: &str,
    made: &mut Vec<Vec<u8>>,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(root, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            make(root, name.as_bytes(), true)?;
            made.push([b"/", name.as_bytes()].concat());
            openat(root, name, flags, Mode::empty())
        }
        result => result,
    }
}

/// Tells whether `file` is in a process information file system.
pub(crate) fn is_in_proc(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(fstatfs(file)?.f_type == PROC_SUPER_MAGIC)
}

fn make(parent: BorrowedFd<'_>, name: &[u8], directory: bool) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(0o755);
    let result = if directory {
        mkdirat(parent, name, mode)
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(parent, name, flags, mode).map(drop)
    };
    match result {
        Err(Errno::EXIST) | Ok(()) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn names(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn mount_points_are_found_and_made_inside_the_root_only() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/hosts"), "").unwrap();
        fs::write(directory.path().join("outside"), "").unwrap();
        symlink("/../../outside", root.join("etc/absolute")).unwrap();
        symlink("../../../made/by/link", root.join("etc/relative")).unwrap();
        symlink("/etc/loop", root.join("etc/loop")).unwrap();
        let handle = fs::File::open(&root).unwrap();
        let open = |path: &str, kind: Kind| {
            let mut made = Vec::new();
            let result = open_or_make(handle.as_fd(), path, kind, &mut made);
            let made: Vec<String> = made
                .into_iter()
                .map(|path| String::from_utf8(path).unwrap())
                .collect();
            (result.map(drop), made)
        };
        let made = |paths: &[&str]| {
            let paths = paths.iter().map(|path| (*path).to_owned());
            (Ok(()), paths.collect::<Vec<_>>())
        };
        assert_eq!(open("/etc/hosts", Kind::File), made(&[]));
        assert_eq!(open("/", Kind::Directory), made(&[]));
        assert_eq!(open("/etc/absolute", Kind::File), made(&["/outside"]));
        assert_eq!(
            open("/etc/relative", Kind::File),
            made(&["/made", "/made/by", "/made/by/link"])
        );
        assert_eq!(
            open("a/../../b//c/.", Kind::Directory),
            made(&["/a", "/b", "/b/c"])
        );
        assert_eq!(open("/etc/loop", Kind::File).0, Err(Errno::LOOP));
        assert_eq!(open("/etc/hosts/x", Kind::File).0, Err(Errno::NOTDIR));
        assert!(root.join("made/by/link").is_file());
        assert!(!directory.path().join("made").exists());
        assert!(!directory.path().join("b").exists());
    }
}
