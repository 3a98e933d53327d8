//! Paths that cannot leave a directory, whatever symbolic links lie on the way.
//!
//! Resolution is the kernel's (`openat2(2)`), so there is no window between check and use.
//! Paths are bytes and relative to the root; a leading slash means the root itself.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::Errno;

/// A directory that lookups cannot leave.
#[derive(Debug)]
pub struct Root(OwnedFd);

/// Why a confined lookup failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} `{}`", path.display())]
pub struct ConfinedError {
    /// What was tried: `open` or `create`.
    pub operation: &'static str,
    /// The path, relative to the root.
    pub path: PathBuf,
    /// What the kernel said. A path that would have led out is `EXDEV` or `ELOOP`.
    #[source]
    pub source: io::Error,
}

/// How often a lookup is repeated that lost a race with a rename.
const MAX_RETRIES: usize = 128;

impl Root {
    /// Opens the directory at `path`, following symbolic links.
    pub fn open(path: &Path) -> Result<Self, ConfinedError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, path, flags, Mode::empty())
            .map_err(|errno| error("open", path.as_os_str().as_bytes(), errno))?;
        Ok(Self(directory))
    }

    /// Opens `path` as a process confined to the root by chroot(2) would: symbolic links are
    /// followed, absolute ones and `..` stay inside.
    pub fn open_in_root(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, ConfinedError> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        self.resolve(path, flags, Mode::empty(), resolve)
    }

    /// Creates the file `path` and opens it, with symbolic links on the way resolved as
    /// [`Root::open_in_root`] does. Add `EXCL` to refuse a file that is there already.
    pub fn create_in_root(
        &self,
        path: &[u8],
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, ConfinedError> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        self.resolve(path, flags | OFlags::CREATE, mode, resolve)
    }

    /// Opens `path`, which must not contain symbolic links, `..` out of the root, or a leading
    /// slash.
    pub fn open_beneath(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, ConfinedError> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        self.resolve(path, flags, Mode::empty(), resolve)
    }

    /// Makes the directory `path` and what lacks above it, and opens it (`O_PATH`). Symbolic
    /// links are followed inside the root. Directories that exist keep their mode.
    pub fn mkdir_all(&self, path: &[u8], mode: Mode) -> Result<OwnedFd, ConfinedError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut done = Vec::with_capacity(path.len());
        let mut directory = self.open_in_root(b".", flags)?;
        for name in path
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty() && *name != b".")
        {
            let parent = directory;
            if !done.is_empty() {
                done.push(b'/');
            }
            done.extend_from_slice(name);
            directory = match self.open_in_root(&done, flags) {
                Ok(directory) => directory,
                Err(missing)
                    if missing.source.raw_os_error() == Some(Errno::NOENT.raw_os_error()) =>
                {
                    match mkdirat(&parent, name, mode) {
                        // Someone else may have made it since; a dangling link is an error.
                        Ok(()) | Err(Errno::EXIST) => self.open_in_root(&done, flags)?,
                        Err(errno) => return Err(error("create", &done, errno)),
                    }
                }
                Err(other) => return Err(other),
            };
        }
        Ok(directory)
    }

    fn resolve(
        &self,
        path: &[u8],
        flags: OFlags,
        mode: Mode,
        resolve: ResolveFlags,
    ) -> Result<OwnedFd, ConfinedError> {
        let name: &[u8] = if path.is_empty() { b"." } else { path };
        let mut result = Err(Errno::AGAIN);
        for _ in 0..MAX_RETRIES {
            result = openat2(&self.0, name, flags | OFlags::CLOEXEC, mode, resolve);
            if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        result.map_err(|errno| {
            let operation = if flags.contains(OFlags::CREATE) {
                "create"
            } else {
                "open"
            };
            error(operation, path, errno)
        })
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Root {
    /// Confines lookups to an open directory, for example the root of a [`crate::Mount`].
    fn from(directory: OwnedFd) -> Self {
        Self(directory)
    }
}

fn error(operation: &'static str, path: &[u8], errno: Errno) -> ConfinedError {
    ConfinedError {
        operation,
        path: PathBuf::from(std::ffi::OsStr::from_bytes(path)),
        source: errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("root");
        fs::create_dir(&inside).unwrap();
        fs::write(directory.path().join("secret"), "outside").unwrap();
        fs::write(inside.join("file"), "inside").unwrap();
        symlink("../secret", inside.join("up")).unwrap();
        symlink("/file", inside.join("absolute")).unwrap();
        symlink("..", inside.join("parent")).unwrap();
        let root = Root::open(&inside).unwrap();
        (directory, root)
    }

    fn read(fd: OwnedFd) -> String {
        io::read_to_string(fs::File::from(fd)).unwrap()
    }

    #[test]
    fn no_path_leads_out_of_the_root() {
        let (_directory, root) = root();
        for path in [
            "up",
            "../secret",
            "parent/secret",
            "parent/../secret",
            "/../secret",
        ] {
            let result = root.open_in_root(path.as_bytes(), OFlags::RDONLY);
            assert!(result.is_err(), "{path}");
            let result = root.open_beneath(path.as_bytes(), OFlags::RDONLY);
            assert!(result.is_err(), "{path}");
        }
    }

    #[test]
    fn absolute_links_start_at_the_root() {
        let (_directory, root) = root();
        for path in ["file", "/file", "absolute", "parent/file", "../file"] {
            let file = root.open_in_root(path.as_bytes(), OFlags::RDONLY).unwrap();
            assert_eq!(read(file), "inside", "{path}");
        }
    }

    #[test]
    fn beneath_refuses_every_symbolic_link() {
        let (_directory, root) = root();
        assert!(root.open_beneath(b"absolute", OFlags::RDONLY).is_err());
        let file = root.open_beneath(b"file", OFlags::RDONLY).unwrap();
        assert_eq!(read(file), "inside");
    }

    #[test]
    fn mkdir_all_makes_what_lacks_inside_the_root() {
        let (directory, root) = root();
        root.mkdir_all(b"/a//b/./c", Mode::from_raw_mode(0o755))
            .unwrap();
        assert!(directory.path().join("root/a/b/c").is_dir());
        root.mkdir_all(b"parent/../../x", Mode::from_raw_mode(0o755))
            .unwrap();
        assert!(directory.path().join("root/x").is_dir());
        assert!(!directory.path().join("x").exists());
        assert!(
            root.mkdir_all(b"file/x", Mode::from_raw_mode(0o755))
                .is_err()
        );
    }
}
