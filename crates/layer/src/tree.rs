//! The unpacked form of a layer.
//!
//! A tree is made from the layer's index, not from its tar: names are already clean there,
//! duplicates and hard links resolved, whiteouts and opaque directories in the kernel's form. A
//! file system cannot hold a link where a directory is, so no path of the index can lead through
//! one that the same layer planted; every lookup is confined by the kernel all the same.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, chmodat, linkat, makedev, mkdirat, mknodat, openat, symlinkat,
};
use sys::Root;

use crate::metadata::{self, FileError};
use crate::upper::read_full;
use crate::{Entry, EntryKind, Index, IndexError, Inode, LayerDir};

/// Why a layer was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The layer's index cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A file could not be made.
    #[error(transparent)]
    File(#[from] FileError),
    /// The index holds a name that no directory can hold, or one directory twice.
    #[error("the layer's index is damaged at `{}`", String::from_utf8_lossy(path))]
    Damaged {
        /// Where.
        path: Vec<u8>,
    },
    /// The tar does not hold as many bytes as the index says.
    #[error(
        "`{}` has {found} bytes instead of {expected}",
        String::from_utf8_lossy(path)
    )]
    WrongSize {
        /// The file.
        path: Vec<u8>,
        /// How many bytes the index says.
        expected: u64,
        /// How many the tar has.
        found: u64,
    },
}

/// Makes the layer's `tree/`; when it is there already, nothing happens.
///
/// The work is done in `tree.partial` and renamed when complete. Another process that unpacks the
/// same layer is waited for.
pub fn unpack(layer: &LayerDir) -> Result<(), TreeError> {
    let tree = layer.tree();
    let failed = |operation| {
        let tree = &tree;
        move |source| FileError::new(operation, tree, source)
    };
    if tree.try_exists().map_err(failed("look at"))? {
        return Ok(());
    }
    let lock = File::open(layer.path()).map_err(failed("lock"))?;
    lock.lock().map_err(failed("lock"))?;
    if tree.try_exists().map_err(failed("look at"))? {
        return Ok(());
    }
    let partial = layer.path().join("tree.partial");
    match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(FileError::new("remove", &partial, error).into());
        }
        Ok(()) | Err(_) => {}
    }
    fs::create_dir(&partial).map_err(|source| FileError::new("create", &partial, source))?;
    let root =
        Root::open(&partial).map_err(|error| FileError::new("open", &partial, error.source))?;
    let index = Index::open(layer)?;
    Unpacker::new(&index, root).run()?;
    fs::rename(&partial, &tree).map_err(failed("create"))?;
    drop(lock);
    Ok(())
}

struct Unpacker<'a> {
    index: &'a Index,
    root: Root,
    /// Directories that exist but are still empty.
    pending: Vec<Inode>,
    directories: HashSet<u64>,
    /// The first path of every file with several names.
    first_names: HashMap<u64, Vec<u8>>,
    /// Directories whose mode would keep their owner out, parents first.
    closed: Vec<Entry>,
    buffer: Vec<u8>,
}

const BUFFER_SIZE: usize = 128 << 10;

impl<'a> Unpacker<'a> {
    fn new(index: &'a Index, root: Root) -> Self {
        Self {
            index,
            root,
            pending: Vec::new(),
            directories: HashSet::new(),
            first_names: HashMap::new(),
            closed: Vec::new(),
            buffer: vec![0; BUFFER_SIZE],
        }
    }

    fn run(mut self) -> Result<(), TreeError> {
        self.pending.push(self.index.root()?);
        while let Some(directory) = self.pending.pop() {
            self.fill(directory)?;
        }
        for entry in self.closed.iter().rev() {
            let directory = self.open_directory(&entry.path)?;
            chmodat(
                &directory,
                ".",
                Mode::from_raw_mode(entry.mode),
                AtFlags::empty(),
            )
            .map_err(|errno| FileError::within("change the mode of", &entry.path, errno))?;
        }
        Ok(())
    }

    /// Makes everything that is in a directory, empty directories for its directories, and then
    /// gives the directory its metadata, which later work in its directories does not change.
    fn fill(&mut self, directory: Inode) -> Result<(), TreeError> {
        let path = &directory.entry.path;
        if !self.directories.insert(directory.nid) {
            return Err(TreeError::Damaged { path: path.clone() });
        }
        let parent = self.open_directory(path)?;
        for (name, nid) in self.index.read_dir(&directory)? {
            let mut child = self.index.inode(nid)?;
            child.entry.path = join(path, &name);
            if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
                return Err(TreeError::Damaged {
                    path: child.entry.path,
                });
            }
            self.create(parent.as_fd(), &name, child)?;
        }
        let mut entry = directory.entry;
        if entry.mode & 0o700 != 0o700 {
            self.closed.push(entry.clone());
            entry.mode |= 0o700;
        }
        Ok(metadata::apply(parent.as_fd(), b".", &entry)?)
    }

    fn create(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        inode: Inode,
    ) -> Result<(), TreeError> {
        let entry = &inode.entry;
        if entry.kind == EntryKind::Directory {
            mkdirat(parent, name, Mode::RWXU)
                .map_err(|errno| FileError::within("create", &entry.path, errno))?;
            self.pending.push(inode);
            return Ok(());
        }
        if inode.nlink > 1 {
            if let Some(first) = self.first_names.get(&inode.nid) {
                return self.link(first, parent, name, entry);
            }
            self.first_names.insert(inode.nid, entry.path.clone());
        }
        match &entry.kind {
            EntryKind::File { size } => self.write(parent, name, &inode, *size)?,
            EntryKind::Symlink { target } => symlinkat(target.as_slice(), parent, name)
                .map_err(|errno| FileError::within("create", &entry.path, errno))?,
            special => make_node(parent, name, special)
                .map_err(|errno| FileError::within("create the device", &entry.path, errno))?,
        }
        Ok(metadata::apply(parent, name, entry)?)
    }

    fn link(
        &self,
        first: &[u8],
        parent: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), TreeError> {
        let (directory, first_name) = match first.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&first[..slash], &first[slash + 1..]),
            None => (&b""[..], first),
        };
        let directory = self.open_directory(directory)?;
        linkat(&directory, first_name, parent, name, AtFlags::empty())
            .map_err(|errno| FileError::within("link", &entry.path, errno))?;
        Ok(())
    }

    /// Writes a file's content; blocks of zeros become holes.
    fn write(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        inode: &Inode,
        size: u64,
    ) -> Result<(), TreeError> {
        let path = &inode.entry.path;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| FileError::within("create", path, errno))?;
        let file = File::from(file);
        if size == 0 {
            return Ok(());
        }
        let failed =
            |source: io::Error| FileError::new("write", Path::new(OsStr::from_bytes(path)), source);
        let mut content = self.index.open_file(inode)?.take(size);
        let mut written = 0;
        let mut ends_in_hole = false;
        loop {
            let length = read_full(&mut content, &mut self.buffer).map_err(failed)?;
            if length == 0 {
                break;
            }
            let block = &self.buffer[..length];
            ends_in_hole = block.iter().all(|byte| *byte == 0);
            if !ends_in_hole {
                file.write_all_at(block, written).map_err(failed)?;
            }
            written += u64::try_from(length).expect("invariant: a buffer's length fits");
        }
        if written != size {
            return Err(TreeError::WrongSize {
                path: path.clone(),
                expected: size,
                found: written,
            });
        }
        if ends_in_hole {
            file.set_len(size).map_err(failed)?;
        }
        Ok(())
    }

    fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, FileError> {
        self.root
            .open_beneath(path, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|error| FileError::new("open", &error.path, error.source))
    }
}

fn make_node(parent: BorrowedFd<'_>, name: &[u8], kind: &EntryKind) -> rustix::io::Result<()> {
    let (file_type, device) = match kind {
        EntryKind::CharDevice { major, minor } => {
            (FileType::CharacterDevice, makedev(*major, *minor))
        }
        EntryKind::BlockDevice { major, minor } => (FileType::BlockDevice, makedev(*major, *minor)),
        EntryKind::Fifo => (FileType::Fifo, 0),
        EntryKind::File { .. }
        | EntryKind::Directory
        | EntryKind::Symlink { .. }
        | EntryKind::Hardlink { .. } => return Err(rustix::io::Errno::INVAL),
    };
    mknodat(parent, name, file_type, Mode::RUSR | Mode::WUSR, device)
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        return name.to_vec();
    }
    [directory, b"/", name].concat()
}
