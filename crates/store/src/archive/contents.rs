//! The files of an archive by name.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use tar::EntryType;

use super::ArchiveError;

const MAX_ENTRIES: usize = 200_000;

/// Docker's archives have one link from a layer to its twin, never chains.
const MAX_LINKS: usize = 8;

/// The most that is read between two entries of a tar: the headers that describe one of them. They
/// are kept in memory, and could claim any size.
const MAX_HEADERS: u64 = 4 << 20;

/// The most bytes of documents that are read, all together and each as often as it is read. A
/// thousand images take a hundredth of it; lists that name the largest documents again and again
/// would take hours.
const MAX_DOCUMENTS: u64 = 1 << 30;

/// The files of an archive by name. Nothing is unpacked: a name that means harm finds nothing.
#[derive(Debug)]
pub(super) struct Contents {
    files: Files,
    /// How many bytes of documents were read.
    read: AtomicU64,
}

#[derive(Debug)]
enum Files {
    Tar {
        file: Arc<File>,
        entries: HashMap<String, Place>,
    },
    Directory(OwnedFd),
}

/// Where the content of a tar's entry is.
#[derive(Debug)]
enum Place {
    File { offset: u64, size: u64 },
    Link { target: String },
}

/// A part of a file, read without moving the file's position, so that threads can share it.
#[derive(Debug, Clone)]
pub(super) struct Section {
    file: Arc<File>,
    offset: u64,
    end: u64,
}

impl Section {
    pub(super) fn size(&self) -> u64 {
        self.end - self.offset
    }

    /// Returns the rest from `start` on.
    pub(super) fn skip(mut self, start: u64) -> Self {
        self.offset = self.offset.saturating_add(start).min(self.end);
        self
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.size()).unwrap_or(usize::MAX);
        let room = room.min(buffer.len());
        let count = self.file.read_at(&mut buffer[..room], self.offset)?;
        self.offset += u64::try_from(count).unwrap_or(0);
        Ok(count)
    }
}

impl Contents {
    /// Reads the headers of a tar.
    pub(super) fn of_tar(file: File) -> Result<Self, ArchiveError> {
        let length = file.metadata().map_err(ArchiveError::Read)?.len();
        let mut entries = HashMap::new();
        let unreadable = |error| unreadable(length, error);
        let left = Cell::new(MAX_HEADERS);
        let mut archive = tar::Archive::new(Headers {
            file: &file,
            left: &left,
        });
        for entry in archive.entries_with_seek().map_err(unreadable)? {
            let entry = match entry {
                Err(_) if left.get() == 0 => {
                    return Err(ArchiveError::LongHeaders(MAX_HEADERS));
                }
                entry => entry.map_err(unreadable)?,
            };
            left.set(MAX_HEADERS);
            if entries.len() >= MAX_ENTRIES {
                return Err(ArchiveError::TooManyEntries(MAX_ENTRIES));
            }
            let name = entry.path_bytes();
            let Some(name) = clean("", &name) else {
                return Err(unsafe_name(&name));
            };
            let link = entry.link_name_bytes().unwrap_or_default();
            let place = match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    let (offset, size) = (entry.raw_file_position(), entry.size());
                    if offset.checked_add(size).is_none_or(|end| end > length) {
                        return Err(ArchiveError::Truncated);
                    }
                    Place::File { offset, size }
                }
                EntryType::Symlink => {
                    let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
                    let target = clean(parent, &link).ok_or_else(|| unsafe_name(&link))?;
                    Place::Link { target }
                }
                EntryType::Link => {
                    let target = clean("", &link).ok_or_else(|| unsafe_name(&link))?;
                    Place::Link { target }
                }
                _ => continue,
            };
            entries.insert(name, place);
        }
        Ok(Self::of(Files::Tar {
            file: Arc::new(file),
            entries,
        }))
    }

    fn of(files: Files) -> Self {
        Self {
            files,
            read: AtomicU64::new(0),
        }
    }

    pub(super) fn of_directory(path: &Path) -> Result<Self, ArchiveError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty());
        let directory = directory.map_err(|error| ArchiveError::Read(error.into()))?;
        Ok(Self::of(Files::Directory(directory)))
    }

    /// Finds a file.
    pub(super) fn find(&self, name: &str) -> Result<Option<Section>, ArchiveError> {
        let Some(mut name) = clean("", name.as_bytes()) else {
            return Err(ArchiveError::UnsafeName(name.to_owned()));
        };
        let (file, entries) = match &self.files {
            Files::Tar { file, entries } => (file, entries),
            Files::Directory(directory) => return find_in_directory(directory, &name),
        };
        for _ in 0..MAX_LINKS {
            match entries.get(&name) {
                None => return Ok(None),
                Some(Place::Link { target }) => name.clone_from(target),
                Some(Place::File { offset, size }) => {
                    return Ok(Some(Section {
                        file: Arc::clone(file),
                        offset: *offset,
                        end: offset + size,
                    }));
                }
            }
        }
        Err(ArchiveError::LinkLoop(name))
    }

    /// Finds a file that must be there.
    pub(super) fn require(&self, name: &str) -> Result<Section, ArchiveError> {
        self.find(name)?
            .ok_or_else(|| ArchiveError::Missing(name.to_owned()))
    }

    /// Reads a document of at most `limit` bytes.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, ArchiveError> {
        let Some(mut section) = self.find(name)? else {
            return Ok(None);
        };
        let size = section.size();
        if size > limit {
            return Err(ArchiveError::TooLarge {
                name: name.to_owned(),
                size,
                limit,
            });
        }
        let before = self.read.fetch_add(size, Ordering::Relaxed);
        if before.saturating_add(size) > MAX_DOCUMENTS {
            return Err(ArchiveError::ManyDocuments(MAX_DOCUMENTS));
        }
        let mut bytes = Vec::new();
        section
            .read_to_end(&mut bytes)
            .map_err(ArchiveError::Read)?;
        Ok(Some(bytes))
    }
}

/// Reads a tar, whose content is passed over by seeking. What is read is headers.
struct Headers<'a> {
    file: &'a File,
    /// How much may be read until the next entry.
    left: &'a Cell<u64>,
}

impl Read for Headers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        let read = u64::try_from(count).unwrap_or(u64::MAX);
        let left = self.left.get().saturating_sub(read);
        self.left.set(left);
        match left {
            0 => Err(ErrorKind::InvalidData.into()),
            _ => Ok(count),
        }
    }
}

impl Seek for Headers<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

fn find_in_directory(directory: &OwnedFd, name: &str) -> Result<Option<Section>, ArchiveError> {
    let unreadable = |source| ArchiveError::ReadFile {
        name: name.to_owned(),
        source,
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(directory.as_fd(), name, flags, Mode::empty(), resolve);
    let file = match opened.map_err(io::Error::from) {
        Ok(file) => File::from(file),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let metadata = file.metadata().map_err(unreadable)?;
    Ok(metadata.is_file().then(|| Section {
        end: metadata.len(),
        offset: 0,
        file: Arc::new(file),
    }))
}

/// Joins a name to a directory of the archive; `None` when it leads out or is not text.
fn clean(directory: &str, name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    if name.starts_with('/') || name.contains('\0') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    // The names of entries have no `..`, only the targets of links may.
    let allow_up = !directory.is_empty();
    for part in directory.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." if allow_up => {
                parts.pop()?;
            }
            ".." => return None,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn unsafe_name(name: &[u8]) -> ArchiveError {
    ArchiveError::UnsafeName(String::from_utf8_lossy(name).into_owned())
}

/// A tar is a whole number of blocks. What is not ends early, and docker says so.
fn unreadable(length: u64, error: io::Error) -> ArchiveError {
    if length.is_multiple_of(512) && error.kind() != ErrorKind::UnexpectedEof {
        return ArchiveError::Read(error);
    }
    ArchiveError::Truncated
}
