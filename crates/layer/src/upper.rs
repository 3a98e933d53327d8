//! Reading an overlay's upper directory as changes over what lies below.
//!
//! The rules are those of docker's builder. A file counts as changed when anything of it differs;
//! a directory when its owner, mode or attributes do, not when only its time does: a file that
//! came and went leaves that behind. A directory above a change is reported too, with the
//! metadata that it has now, because a layer carries the parents of what it changes.
//!
//! A container may still run and rename things while its changes are read, so each directory is
//! opened by the kernel beneath the upper directory without following links.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::vec;

use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat, major, minor, readlinkat, statat};
use rustix::io::Errno;
use sys::Root;

use crate::diff::{ChangeKind, DiffError};
use crate::metadata::{FileError, is_portable};
use crate::{Entry, EntryKind, Node, OPAQUE_XATTR, Timestamp, View};

/// Which file of the upper directory an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

/// A file of the upper directory.
#[derive(Debug)]
pub(crate) struct UpperFile {
    pub(crate) entry: Entry,
    /// Set when the file has several names.
    pub(crate) shared: Option<FileId>,
    /// Attributes of overlayfs itself.
    marks: BTreeMap<Vec<u8>, Vec<u8>>,
    is_socket: bool,
}

/// One difference.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A file is new or different, or a directory above such a file.
    File(ChangeKind, &'a UpperFile),
    /// The directory, just reported, hides everything that it had below.
    Opaque(&'a [u8]),
    /// A name is gone.
    Deleted(&'a [u8]),
}

/// An upper directory and what it lies on.
#[derive(Debug)]
pub(crate) struct Upper<'a> {
    root: Root,
    below: &'a View,
    excluded: HashSet<&'a [u8]>,
}

/// A directory that is being read.
struct Frame {
    file: UpperFile,
    kind: ChangeKind,
    is_reported: bool,
    /// The same directory below, when its content shows through.
    has_below: bool,
    children: vec::IntoIter<UpperFile>,
}

type Sink<'s> = dyn FnMut(&Event<'_>) -> Result<(), DiffError> + 's;

/// Attributes of upper directories that this engine never makes: their content is elsewhere.
const UNREADABLE_MARKS: [&[u8]; 4] = [
    b"user.overlay.metacopy",
    b"user.overlay.redirect",
    b"trusted.overlay.metacopy",
    b"trusted.overlay.redirect",
];

impl<'a> Upper<'a> {
    pub(crate) fn open(
        directory: &Path,
        below: &'a View,
        exclude: &'a [Vec<u8>],
    ) -> Result<Self, DiffError> {
        let root = Root::open(directory)
            .map_err(|error| FileError::new("open", directory, error.source))?;
        Ok(Self {
            root,
            below,
            excluded: exclude.iter().map(Vec::as_slice).collect(),
        })
    }

    /// Reports every difference, parents first and names sorted within a directory.
    pub(crate) fn walk(&self, sink: &mut Sink<'_>) -> Result<(), DiffError> {
        let root = self.open_directory(b"")?;
        let status = statat(&root, ".", AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| FileError::within("look at", b"/", errno))?;
        let file = self.file(root.as_fd(), b".", Vec::new(), &status)?;
        let below = self.below.root()?;
        let mut frame = Frame {
            // Layers of docker have no entry for the root; only one that differs is worth it.
            is_reported: true,
            has_below: true,
            kind: ChangeKind::Modified,
            children: self.read_directory(&root, b"")?.into_iter(),
            file,
        };
        if !same_metadata(&frame.file.entry, &below.entry) {
            sink(&Event::File(frame.kind, &frame.file))?;
        }
        let mut stack = Vec::new();
        loop {
            let Some(child) = frame.children.next() else {
                match stack.pop() {
                    Some(parent) => frame = parent,
                    None => return Ok(()),
                }
                continue;
            };
            stack.push(frame);
            if let Some(next) = self.visit(child, &mut stack, sink)? {
                frame = next;
            } else if let Some(parent) = stack.pop() {
                frame = parent;
            } else {
                return Ok(());
            }
        }
    }

    /// Reports one file, and returns a frame when it is a directory to go into. The last frame of
    /// `parents` is the directory that the file is in.
    fn visit(
        &self,
        file: UpperFile,
        parents: &mut [Frame],
        sink: &mut Sink<'_>,
    ) -> Result<Option<Frame>, DiffError> {
        let path = &file.entry.path;
        let is_excluded = self.excluded.contains(path.as_slice());
        let has_below = parents.last().is_some_and(|parent| parent.has_below);
        let below = if has_below {
            self.below.lookup_no_follow(path)?
        } else {
            None
        };
        if is_whiteout(&file.entry.kind) || file.is_socket {
            if below.is_some() && !is_excluded {
                report_parents(parents, sink)?;
                sink(&Event::Deleted(path))?;
            }
            return Ok(None);
        }
        if file.entry.kind == EntryKind::Directory {
            return self.enter(file, below.as_ref(), parents, sink).map(Some);
        }
        if is_excluded {
            return Ok(None);
        }
        let kind = match &below {
            Some(node) if self.is_same(&file, node)? => return Ok(None),
            Some(_) => ChangeKind::Modified,
            None => ChangeKind::Added,
        };
        report_parents(parents, sink)?;
        sink(&Event::File(kind, &file))?;
        Ok(None)
    }

    fn enter(
        &self,
        file: UpperFile,
        below: Option<&Node>,
        parents: &mut [Frame],
        sink: &mut Sink<'_>,
    ) -> Result<Frame, DiffError> {
        let path = &file.entry.path;
        let directory_below = below.filter(|node| node.entry.kind == EntryKind::Directory);
        let is_opaque = file
            .marks
            .get(OPAQUE_XATTR)
            .is_some_and(|value| value == b"y");
        let is_changed = is_opaque
            || directory_below.is_none_or(|node| !same_metadata(&file.entry, &node.entry));
        let directory = self.open_directory(path)?;
        let mut frame = Frame {
            is_reported: false,
            has_below: directory_below.is_some() && !is_opaque,
            kind: match below {
                Some(_) => ChangeKind::Modified,
                None => ChangeKind::Added,
            },
            children: self.read_directory(&directory, path)?.into_iter(),
            file,
        };
        let path = &frame.file.entry.path;
        if is_changed && !self.excluded.contains(path.as_slice()) {
            report_parents(parents, sink)?;
            sink(&Event::File(frame.kind, &frame.file))?;
            if is_opaque && directory_below.is_some() {
                sink(&Event::Opaque(path))?;
            }
            frame.is_reported = true;
        }
        Ok(frame)
    }

    fn is_same(&self, file: &UpperFile, below: &Node) -> Result<bool, DiffError> {
        // The other names of a file with several are links to this one in the layer.
        if file.shared.is_some()
            || file.entry.kind != below.entry.kind
            || file.entry.mtime != below.entry.mtime
            || !same_metadata(&file.entry, &below.entry)
        {
            return Ok(false);
        }
        if !matches!(file.entry.kind, EntryKind::File { .. }) {
            return Ok(true);
        }
        // Times can be set back, so only the content tells.
        let failed = |source| {
            let path = Path::new(OsStr::from_bytes(&file.entry.path));
            DiffError::from(FileError::new("read", path, source))
        };
        let mut old = self.below.open_file(below)?;
        let mut new = self.open_file(&file.entry.path)?;
        same_content(&mut old, &mut new).map_err(failed)
    }

    /// Opens the content of a regular file. A container that runs may have put a pipe in its
    /// place, which must not block.
    pub(crate) fn open_file(&self, path: &[u8]) -> Result<File, DiffError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
        let file = self
            .root
            .open_beneath(path, flags)
            .map_err(|error| FileError::new("open", &error.path, error.source))?;
        Ok(File::from(file))
    }

    fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, DiffError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = self
            .root
            .open_beneath(path, flags)
            .map_err(|error| FileError::new("open", &error.path, error.source))?;
        Ok(directory)
    }

    /// Returns what is in a directory, sorted by name. The directory is closed afterwards: a tree
    /// may be deeper than there are descriptors.
    fn read_directory(
        &self,
        directory: &OwnedFd,
        path: &[u8],
    ) -> Result<Vec<UpperFile>, DiffError> {
        let failed = |errno| FileError::within("read", path, errno);
        let mut children = Vec::new();
        for item in Dir::read_from(directory).map_err(failed)? {
            let item = item.map_err(failed)?;
            let name = item.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let child = if path.is_empty() {
                name.to_vec()
            } else {
                [path, b"/", name].concat()
            };
            match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(status) => {
                    children.push(self.file(directory.as_fd(), name, child, &status)?);
                }
                // It went away since.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(FileError::within("look at", &child, errno).into()),
            }
        }
        children.sort_unstable_by(|one, other| one.entry.path.cmp(&other.entry.path));
        Ok(children)
    }

    fn file(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: Vec<u8>,
        status: &Stat,
    ) -> Result<UpperFile, DiffError> {
        let file_type = FileType::from_raw_mode(status.st_mode);
        let kind = kind(directory, name, status)
            .map_err(|errno| FileError::within("read", &path, errno))?;
        let mut xattrs = BTreeMap::new();
        if !is_whiteout(&kind) {
            let at = sys::xattr::path_at(directory, name);
            xattrs = sys::xattr::all(&at).map_err(|source| {
                let path = Path::new(OsStr::from_bytes(&path));
                FileError::new("read the attributes of", path, source)
            })?;
        }
        if let Some(mark) = UNREADABLE_MARKS
            .iter()
            .find(|mark| xattrs.contains_key(**mark))
        {
            return Err(DiffError::Elsewhere {
                path,
                mark: String::from_utf8_lossy(mark).into_owned(),
            });
        }
        let (xattrs, marks) = xattrs.into_iter().partition(|(name, _)| is_portable(name));
        let shared = (status.st_nlink > 1 && file_type != FileType::Directory).then_some(FileId {
            device: status.st_dev,
            inode: status.st_ino,
        });
        Ok(UpperFile {
            entry: Entry {
                path,
                kind,
                mode: status.st_mode & 0o7777,
                uid: status.st_uid,
                gid: status.st_gid,
                mtime: Timestamp {
                    seconds: status.st_mtime,
                    nanoseconds: u32::try_from(status.st_mtime_nsec).unwrap_or_default(),
                },
                xattrs,
            },
            shared,
            marks,
            is_socket: file_type == FileType::Socket,
        })
    }
}

/// Reads what kind of file `name` in `directory` is.
pub(crate) fn kind(
    directory: BorrowedFd<'_>,
    name: &[u8],
    status: &Stat,
) -> rustix::io::Result<EntryKind> {
    let (major, minor) = (major(status.st_rdev), minor(status.st_rdev));
    Ok(match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink {
            target: readlinkat(directory, name, Vec::new())?.into_bytes(),
        },
        FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
        FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
        // A socket means nothing without its process; it is never reported.
        FileType::Fifo | FileType::Socket => EntryKind::Fifo,
        FileType::RegularFile | FileType::Unknown => EntryKind::File {
            size: u64::try_from(status.st_size).unwrap_or_default(),
        },
    })
}

fn is_whiteout(kind: &EntryKind) -> bool {
    *kind == EntryKind::CharDevice { major: 0, minor: 0 }
}

/// Reports the directories on the way that were not yet, outermost first.
fn report_parents(parents: &mut [Frame], sink: &mut Sink<'_>) -> Result<(), DiffError> {
    for frame in parents.iter_mut().filter(|frame| !frame.is_reported) {
        sink(&Event::File(frame.kind, &frame.file))?;
        frame.is_reported = true;
    }
    Ok(())
}

fn same_metadata(one: &Entry, other: &Entry) -> bool {
    let portable = |entry: &'_ Entry| -> Vec<(Vec<u8>, Vec<u8>)> {
        let xattrs = entry.xattrs.iter().filter(|(name, _)| is_portable(name));
        xattrs
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    (one.mode, one.uid, one.gid) == (other.mode, other.uid, other.gid)
        && portable(one) == portable(other)
}

const COMPARE_SIZE: usize = 64 << 10;

/// Tells whether two streams have the same bytes.
pub(crate) fn same_content(one: &mut dyn Read, other: &mut dyn Read) -> io::Result<bool> {
    let mut buffers = (vec![0; COMPARE_SIZE], vec![0; COMPARE_SIZE]);
    loop {
        let first = read_full(one, &mut buffers.0)?;
        let second = read_full(other, &mut buffers.1)?;
        if buffers.0[..first] != buffers.1[..second] {
            return Ok(false);
        }
        if first < COMPARE_SIZE {
            return Ok(true);
        }
    }
}

/// Fills the buffer unless the input ends first.
pub(crate) fn read_full(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
