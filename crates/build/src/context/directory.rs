//! The directory of a build context, listed on demand, each directory once.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use dockerfile::ignore::{Descend, Patterns, Verdict};
use layer::{EntryKind, Timestamp};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};

use super::ContextError;

/// How many symbolic links one path may lead through, as in BuildKit.
const MAX_LINKS: usize = 255;

/// How much of a directory is read at a time.
const NAMES_SIZE: usize = 32 << 10;

/// As many threads as keep two cores busy.
const THREADS: usize = 2;

/// With fewer directories to read a thread takes longer to start than it saves.
const MANY_DIRECTORIES: usize = 16;

/// The build context. Paths are bytes relative to its root, which is the empty path; no path
/// leads out of it.
#[derive(Debug)]
pub(crate) struct Context {
    /// `None` is an empty context.
    root: Option<OwnedFd>,
    patterns: Patterns,
    listings: Mutex<HashMap<Vec<u8>, Listing>>,
}

type Listing = Arc<Vec<Arc<ContextFile>>>;

/// A file of the context, as it was when its directory was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContextFile {
    /// The path in the context.
    pub(crate) path: Vec<u8>,
    /// The type; never a hard link.
    pub(crate) kind: EntryKind,
    /// Permission bits, at most `0o7777`.
    pub(crate) mode: u32,
    /// When the content changed.
    pub(crate) mtime: Timestamp,
    /// When content or metadata changed.
    pub(crate) ctime: Timestamp,
    /// The device and inode.
    pub(crate) inode: (u64, u64),
    /// The number of names.
    pub(crate) nlink: u64,
}

impl Context {
    /// Opens a context; nothing is listed yet.
    pub(crate) fn open(root: Option<&Path>, patterns: Patterns) -> Result<Self, ContextError> {
        let open = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|error| {
                ContextError::Open {
                    path: path.to_owned(),
                    source: error.into(),
                }
            })
        };
        Ok(Self {
            root: root.map(open).transpose()?,
            patterns,
            listings: Mutex::default(),
        })
    }

    /// Returns the root directory.
    pub(crate) fn root(&self) -> Result<Arc<ContextFile>, ContextError> {
        let Some(root) = &self.root else {
            return Ok(Arc::new(ContextFile {
                path: Vec::new(),
                kind: EntryKind::Directory,
                mode: 0o755,
                mtime: Timestamp::default(),
                ctime: Timestamp::default(),
                inode: (0, 0),
                nlink: 1,
            }));
        };
        let stat = rustix::fs::fstat(root).map_err(|error| ContextError::read(b".", error))?;
        Ok(Arc::new(describe(Vec::new(), &stat, EntryKind::Directory)))
    }

    /// Returns what is in the directory `path`, sorted by name, without what is hidden.
    pub(crate) fn list(&self, path: &[u8]) -> Result<Listing, ContextError> {
        let known = self.listings().get(path).cloned();
        if let Some(listing) = known {
            return Ok(listing);
        }
        let listing = Arc::new(self.read(path)?);
        let mut listings = self.listings();
        Ok(listings.entry(path.to_vec()).or_insert(listing).clone())
    }

    /// Lists what is below the directory `path` on several threads, so that [`Context::list`] knows it. What
    /// cannot be read is left to that to tell.
    pub(crate) fn list_below(&self, path: &[u8]) {
        let pending = Pending {
            directories: Mutex::new((vec![path.to_vec()], 0)),
            changed: Condvar::new(),
        };
        thread::scope(|scope| {
            let mut helpers = 1;
            while let Some(directory) = pending.take() {
                pending.put(self.directories_in(&directory));
                if helpers < THREADS && pending.len() >= MANY_DIRECTORIES {
                    helpers += 1;
                    scope.spawn(|| {
                        while let Some(directory) = pending.take() {
                            pending.put(self.directories_in(&directory));
                        }
                    });
                }
            }
        });
    }

    fn directories_in(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let Ok(listing) = self.list(path) else {
            return Vec::new();
        };
        let directories = listing
            .iter()
            .filter(|file| file.kind == EntryKind::Directory);
        directories.map(|file| file.path.clone()).collect()
    }

    /// Finds `path`, following symbolic links inside the context, the last one too.
    pub(crate) fn lookup(&self, path: &[u8]) -> Result<Option<Arc<ContextFile>>, ContextError> {
        let mut todo: Vec<Vec<u8>> = components(path).rev().map(<[u8]>::to_vec).collect();
        let root = self.root()?;
        let mut stack: Vec<Arc<ContextFile>> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                stack.pop();
                continue;
            }
            let current = stack.last().unwrap_or(&root);
            if current.kind != EntryKind::Directory {
                return Ok(None);
            }
            let Some(found) = self.child(&current.path, &name)? else {
                return Ok(None);
            };
            let EntryKind::Symlink { target } = &found.kind else {
                stack.push(found);
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                let path = String::from_utf8_lossy(path).into_owned();
                return Err(ContextError::TooManyLinks(path));
            }
            if target.first() == Some(&b'/') {
                stack.clear();
            }
            todo.extend(components(target).rev().map(<[u8]>::to_vec));
        }
        Ok(Some(stack.pop().unwrap_or(root)))
    }

    fn child(&self, dir: &[u8], name: &[u8]) -> Result<Option<Arc<ContextFile>>, ContextError> {
        let listing = self.list(dir)?;
        let path = join(dir, name);
        let found = listing.binary_search_by(|file| file.path.as_slice().cmp(&path));
        Ok(found.ok().map(|at| listing[at].clone()))
    }

    /// Opens a regular file and checks that it is the one that was listed.
    pub(crate) fn open_file(&self, file: &ContextFile) -> Result<File, ContextError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = File::from(self.open_beneath(&file.path, flags)?);
        check_unchanged(&opened, file)?;
        Ok(opened)
    }

    /// Lists everything and returns the newest modification time of a file.
    pub(crate) fn newest(&self) -> Result<Option<Timestamp>, ContextError> {
        let mut newest = None;
        let mut open = vec![Vec::new()];
        while let Some(dir) = open.pop() {
            for file in self.list(&dir)?.iter() {
                match file.kind {
                    EntryKind::Directory => open.push(file.path.clone()),
                    _ => newest = newest.max(Some(file.mtime)),
                }
            }
        }
        Ok(newest)
    }

    /// Tells whether `path` is there, when its directory has been listed.
    pub(crate) fn listed(&self, path: &[u8]) -> Option<bool> {
        let cut = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let listings = self.listings();
        let listing = listings.get(&path[..cut])?;
        let found = listing.binary_search_by(|file| file.path.as_slice().cmp(path));
        Some(found.is_ok())
    }

    fn listings(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Listing>> {
        self.listings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, path: &[u8]) -> Result<Vec<Arc<ContextFile>>, ContextError> {
        if self.root.is_none() {
            return Ok(Vec::new());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.open_beneath(path, flags)?;
        let above = self.verdict(path);
        let mut files = Vec::new();
        let mut buffer = Vec::with_capacity(NAMES_SIZE);
        let mut entries = RawDir::new(&fd, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|error| ContextError::read(path, error))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let child = join(path, name.to_bytes());
            let verdict = self.patterns.judge(&child, &above);
            let excluded = verdict.is_excluded();
            if excluded && self.patterns.descend(&child, &verdict) == Descend::Skip {
                continue;
            }
            let stat = match rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // It is gone since the directory was read.
                Err(rustix::io::Errno::NOENT) => continue,
                Err(error) => return Err(ContextError::read(&child, error)),
            };
            let kind = kind_of(&fd, name, &stat);
            let Some(kind) = kind.map_err(|error| ContextError::read(&child, error))? else {
                continue;
            };
            let file = describe(child, &stat, kind);
            if excluded && !self.shows_through(&file)? {
                continue;
            }
            files.push(Arc::new(file));
        }
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// Returns what `.dockerignore` says about a directory.
    fn verdict(&self, path: &[u8]) -> Verdict {
        let mut verdict = self.patterns.root();
        let mut current = Vec::new();
        for name in components(path) {
            current = join(&current, name);
            verdict = self.patterns.judge(&current, &verdict);
        }
        verdict
    }

    /// Tells whether an excluded directory has something in it that is not.
    fn shows_through(&self, file: &ContextFile) -> Result<bool, ContextError> {
        Ok(file.kind == EntryKind::Directory && !self.list(&file.path)?.is_empty())
    }

    fn open_beneath(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, ContextError> {
        let fault = |error: rustix::io::Errno| ContextError::read(path, error);
        let root = self.root.as_ref().ok_or(rustix::io::Errno::NOENT);
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let relative: &[u8] = if path.is_empty() { b"." } else { path };
        let root = root.map_err(fault)?;
        rustix::fs::openat2(root, relative, flags, Mode::empty(), resolve).map_err(fault)
    }
}

/// Directories that are still to be read.
struct Pending {
    /// Them, and how many are being read.
    directories: Mutex<(Vec<Vec<u8>>, usize)>,
    changed: Condvar,
}

impl Pending {
    /// Takes one to read; `None` when none is left and none can come.
    fn take(&self) -> Option<Vec<u8>> {
        let mut directories = self.lock();
        loop {
            if let Some(directory) = directories.0.pop() {
                directories.1 += 1;
                return Some(directory);
            }
            if directories.1 == 0 {
                return None;
            }
            let waited = self.changed.wait(directories);
            directories = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Adds what is in the one that was taken.
    fn put(&self, found: Vec<Vec<u8>>) {
        let mut directories = self.lock();
        directories.0.extend(found);
        directories.1 -= 1;
        self.changed.notify_all();
    }

    fn len(&self) -> usize {
        self.lock().0.len()
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<Vec<u8>>, usize)> {
        self.directories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks that an open file is still as it was listed.
pub(crate) fn check_unchanged(opened: &File, file: &ContextFile) -> Result<(), ContextError> {
    let stat = rustix::fs::fstat(opened).map_err(|error| ContextError::read(&file.path, error))?;
    let now = describe(Vec::new(), &stat, regular(&stat));
    if now.kind == file.kind && now.inode == file.inode && now.ctime == file.ctime {
        return Ok(());
    }
    let path = String::from_utf8_lossy(&file.path).into_owned();
    Err(ContextError::Changed(path))
}

/// Returns the type of a file; `None` for sockets, which no layer can hold.
fn kind_of(dir: &OwnedFd, name: &CStr, stat: &Stat) -> rustix::io::Result<Option<EntryKind>> {
    let device = stat.st_rdev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => regular(stat),
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink {
            target: rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes(),
        },
        FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
        FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket | FileType::Unknown => return Ok(None),
    }))
}

fn regular(stat: &Stat) -> EntryKind {
    EntryKind::File {
        size: u64::try_from(stat.st_size).unwrap_or_default(),
    }
}

fn describe(path: Vec<u8>, stat: &Stat, kind: EntryKind) -> ContextFile {
    let time = |seconds: i64, nanoseconds: u64| Timestamp {
        seconds,
        nanoseconds: u32::try_from(nanoseconds).unwrap_or_default(),
    };
    ContextFile {
        path,
        kind,
        mode: stat.st_mode & 0o7777,
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        inode: (stat.st_dev, stat.st_ino),
        nlink: stat.st_nlink,
    }
}

/// Returns the components of a path, without empty ones and `.`.
pub(crate) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
}

/// Joins a relative path and a name.
pub(crate) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() {
        return name.to_vec();
    }
    [dir, b"/", name].concat()
}
