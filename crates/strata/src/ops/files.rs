//! The files of an image or archive as files of a directory.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use layer::{EntryKind, Node, Timestamp, View, ViewError};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

/// Why files were not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteFileError {
    /// They cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// One cannot be made.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl WriteFileError {
    pub(super) fn new(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Write { path, source }
    }
}

/// What becomes of devices and named pipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// They are left out.
    Skip,
    /// They are made.
    Make,
}

/// Writes what `view` shows to `directory`, which exists. The files belong to the caller, with
/// the modes and times of the view; names of one file become files of their own. What is there under
/// another type is replaced, and no symbolic link below `directory` is followed.
pub fn write_files(view: &View, directory: &Path, special: Special) -> Result<(), WriteFileError> {
    Writing { view, special }.directory(&view.root()?, directory)
}

/// Does what [`write_files`] does with several views, each in a directory of its own below
/// `directory`.
pub(super) fn write_each(views: &[(String, View)], directory: &Path) -> Result<(), WriteFileError> {
    for (name, view) in views {
        let path = directory.join(name);
        make_directory(&path).map_err(|error| WriteFileError::new(&path, error))?;
        write_files(view, &path, Special::Make)?;
    }
    Ok(())
}

struct Writing<'a> {
    view: &'a View,
    special: Special,
}

impl Writing<'_> {
    fn directory(&self, directory: &Node, path: &Path) -> Result<(), WriteFileError> {
        for (name, node) in self.view.read_dir(directory)? {
            self.file(&node, &path.join(OsStr::from_bytes(&name)))?;
        }
        Ok(())
    }

    fn file(&self, node: &Node, path: &Path) -> Result<(), WriteFileError> {
        let failed = |error| WriteFileError::new(path, error);
        let time = system_time(node.entry.mtime);
        match &node.entry.kind {
            EntryKind::Directory => {
                make_directory(path).map_err(failed)?;
                self.directory(node, path)?;
                let mode = fs::Permissions::from_mode(node.entry.mode | 0o700);
                fs::set_permissions(path, mode)
                    .and_then(|()| File::open(path)?.set_modified(time))
                    .map_err(failed)
            }
            EntryKind::Symlink { target } => {
                make_room(path).map_err(failed)?;
                symlink(OsStr::from_bytes(target), path).map_err(failed)
            }
            EntryKind::File { .. } => {
                let mut content = self.view.open_file(node)?;
                let mut write = || {
                    make_room(path)?;
                    let mut options = OpenOptions::new();
                    options.write(true).create_new(true).mode(0o600);
                    let mut file = options.open(path)?;
                    io::copy(&mut content, &mut file)?;
                    file.set_permissions(fs::Permissions::from_mode(node.entry.mode))?;
                    file.set_times(FileTimes::new().set_modified(time))
                };
                write().map_err(failed)
            }
            EntryKind::CharDevice { major, minor } => {
                self.special(path, node, (FileType::CharacterDevice, *major, *minor))
            }
            EntryKind::BlockDevice { major, minor } => {
                self.special(path, node, (FileType::BlockDevice, *major, *minor))
            }
            EntryKind::Fifo => self.special(path, node, (FileType::Fifo, 0, 0)),
            // A view has none.
            EntryKind::Hardlink { .. } => Ok(()),
        }
    }

    fn special(
        &self,
        path: &Path,
        node: &Node,
        (kind, major, minor): (FileType, u32, u32),
    ) -> Result<(), WriteFileError> {
        if self.special == Special::Skip {
            return Ok(());
        }
        let make = || {
            make_room(path)?;
            let mode = Mode::from_raw_mode(node.entry.mode);
            mknodat(CWD, path, kind, mode, makedev(major, minor))?;
            fs::set_permissions(path, fs::Permissions::from_mode(node.entry.mode))
        };
        make().map_err(|error| WriteFileError::new(path, error))
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            if fs::symlink_metadata(path)?.is_dir() {
                return Ok(());
            }
            fs::remove_file(path)?;
            fs::create_dir(path)
        }
        result => result,
    }
}

/// Removes what stands in the way of a new file, but no directory that has something in it.
fn make_room(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => fs::remove_dir(path),
        Ok(_) => fs::remove_file(path),
    }
}

fn system_time(time: Timestamp) -> SystemTime {
    let seconds = u64::try_from(time.seconds).unwrap_or_default();
    let since = Duration::new(seconds, time.nanoseconds);
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}
