//! Reading an index and its tar in user space.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::format::{
    BLOCK_SIZE, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, SLOT_SIZE,
    SUPERBLOCK_OFFSET, Superblock, SuperblockBytes, decode_device,
};
use super::inode::{EXTENDED_SIZE, LAYOUT_CHUNKED, LAYOUT_INLINE, LAYOUT_PLAIN, RawInode};
use super::{chunk, directory, xattrs};
use crate::path::MAX_PATH;
use crate::{Entry, EntryKind, IMPLIED_XATTR, LayerDir, OPAQUE_XATTR, contents, size};

/// The index of one layer, open for reading together with the tar.
///
/// An index that is damaged gives errors, never a panic or more memory than it is long.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    file: Arc<File>,
    size: u64,
    tar: Arc<File>,
    superblock: Superblock,
}

/// One file of one layer, as the index has it.
///
/// A whiteout is a character device 0/0. An opaque directory and an implied one carry an extended
/// attribute that says so; the methods here tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// The node number: equal for all names of one file, and the same on every read.
    pub nid: u64,
    /// The number of names.
    pub nlink: u32,
    /// The file. Its path is empty: an inode has no name. Overlay attributes are among its
    /// extended attributes.
    pub entry: Entry,
    data: Data,
}

/// Where the data of an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Data {
    /// In the tar.
    Tar { offset: u64 },
    /// In the index: up to the last block at `offset`, the rest at `tail`.
    Index {
        offset: u64,
        size: u64,
        tail: Option<u64>,
    },
}

impl Inode {
    /// Tells whether this hides the name below.
    pub fn is_whiteout(&self) -> bool {
        self.entry.kind == EntryKind::CharDevice { major: 0, minor: 0 }
    }

    /// Tells whether this directory hides the same directory below.
    pub fn is_opaque(&self) -> bool {
        self.entry.xattrs.contains_key(OPAQUE_XATTR)
    }

    /// Tells whether this directory is only there because something in it is.
    pub fn is_implied(&self) -> bool {
        self.entry.xattrs.contains_key(IMPLIED_XATTR)
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.entry.kind == EntryKind::Directory
    }
}

/// Why a layer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The index or the tar cannot be opened or read.
    #[error("failed to read `{}`", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// The index is not one that strata writes, or is damaged.
    #[error("damaged index `{}`: {what}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The inode has no content.
    #[error("not a regular file")]
    NotAFile,
    /// The inode has no entries.
    #[error("not a directory")]
    NotADirectory,
}

impl Index {
    /// Opens the index and the tar of `layer`.
    pub fn open(layer: &LayerDir) -> Result<Self, IndexError> {
        let (path, tar_path) = (layer.index(), layer.tar());
        let open = |path: &PathBuf| {
            File::open(path).map_err(|source| IndexError::Read {
                path: path.clone(),
                source,
            })
        };
        let (file, tar) = (open(&path)?, open(&tar_path)?);
        let fault = |source| IndexError::Read {
            path: path.clone(),
            source,
        };
        let size = file.metadata().map_err(fault)?.len();
        let mut bytes: SuperblockBytes = [0; 512];
        let damaged = || IndexError::Damaged {
            path: path.clone(),
            what: "superblock",
        };
        match file.read_exact_at(&mut bytes, SUPERBLOCK_OFFSET) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged()),
            Err(error) => return Err(fault(error)),
        }
        let superblock = Superblock::decode(&bytes).ok_or_else(damaged)?;
        Ok(Self {
            file: Arc::new(file),
            size,
            tar: Arc::new(tar),
            superblock,
            path,
        })
    }

    /// Fails unless index and tar are as long as the index says. Nothing else of it is read.
    pub fn check_length(&self) -> Result<(), IndexError> {
        let tar = self.tar.metadata().map_err(|source| IndexError::Read {
            path: self.path.with_file_name("tar"),
            source,
        })?;
        let blocks = |count: u32| u64::from(count) * BLOCK_SIZE;
        if self.size != blocks(self.superblock.blocks) {
            return Err(self.damaged("length"));
        }
        if tar.len().next_multiple_of(BLOCK_SIZE) != blocks(self.superblock.tar_blocks) {
            return Err(self.damaged("length of the tar"));
        }
        Ok(())
    }

    /// Returns the root directory.
    pub fn root(&self) -> Result<Inode, IndexError> {
        let root = self.inode(u64::from(self.superblock.root_nid))?;
        if !root.is_directory() {
            return Err(self.damaged("root"));
        }
        Ok(root)
    }

    /// Tells whether a directory other than the root is implied.
    pub fn has_implied_directories(&self) -> bool {
        self.superblock.has_implied
    }

    /// Returns the inode with number `nid`.
    pub fn inode(&self, nid: u64) -> Result<Inode, IndexError> {
        let start = self.inode_offset(nid)?;
        let mut bytes = [0; EXTENDED_SIZE];
        let available = self.size - start;
        let available =
            usize::try_from(available).map_or(bytes.len(), |size| size.min(bytes.len()));
        self.read(&mut bytes[..available], start)?;
        let decoded = RawInode::decode(&bytes[..available], self.superblock.build_time);
        let (raw, extent) = decoded.ok_or_else(|| self.damaged("inode"))?;
        let xattrs_start = start + size::on_disk(extent.size());
        let xattrs_size = xattrs::stated_size(raw.xattr_units);
        let xattrs = match xattrs_size {
            0 => Some(BTreeMap::new()),
            _ => xattrs::decode(&self.read_vec(xattrs_start, xattrs_size)?),
        };
        let xattrs = xattrs.ok_or_else(|| self.damaged("extended attributes"))?;
        let data = self.locate(&raw, xattrs_start + xattrs_size)?;
        let entry = Entry {
            path: Vec::new(),
            kind: self.kind(&raw, data)?,
            mode: u32::from(raw.mode & !S_IFMT),
            uid: raw.uid,
            gid: raw.gid,
            mtime: raw.mtime,
            xattrs,
        };
        Ok(Inode {
            nid,
            nlink: raw.links,
            entry,
            data,
        })
    }

    /// Returns the names in `dir`, sorted, with their node numbers; without `.` and `..`.
    pub fn read_dir(&self, dir: &Inode) -> Result<Vec<(Vec<u8>, u64)>, IndexError> {
        let mut names = Vec::new();
        self.each_name(dir, &mut |name, nid| names.push((name.to_vec(), nid)))?;
        Ok(names)
    }

    /// Returns the node number of `name` in `dir`.
    pub fn lookup(&self, dir: &Inode, name: &[u8]) -> Result<Option<u64>, IndexError> {
        let mut found = None;
        self.each_name(dir, &mut |candidate, nid| {
            if candidate == name {
                found = Some(nid);
            }
        })?;
        Ok(found)
    }

    /// Reads the content of a regular file.
    pub fn open_file(&self, file: &Inode) -> Result<Box<dyn Read + Send>, IndexError> {
        let EntryKind::File { size } = file.entry.kind else {
            return Err(IndexError::NotAFile);
        };
        let section = |file: &Arc<File>, offset| Section {
            file: Arc::clone(file),
            offset,
        };
        match file.data {
            Data::Tar { offset } => Ok(Box::new(Exact::new(section(&self.tar, offset), size))),
            Data::Index { offset, .. } => {
                Ok(Box::new(Exact::new(section(&self.file, offset), size)))
            }
        }
    }

    fn inode_offset(&self, nid: u64) -> Result<u64, IndexError> {
        let start = u64::from(self.superblock.meta_block) * BLOCK_SIZE;
        let offset = nid
            .checked_mul(SLOT_SIZE)
            .and_then(|offset| offset.checked_add(start));
        offset
            .filter(|&offset| offset < self.size)
            .ok_or_else(|| self.damaged("node number"))
    }

    fn kind(&self, raw: &RawInode, data: Data) -> Result<EntryKind, IndexError> {
        let (major, minor) = decode_device(raw.union);
        Ok(match raw.mode & S_IFMT {
            S_IFREG => EntryKind::File { size: raw.size },
            S_IFDIR => EntryKind::Directory,
            S_IFLNK => {
                if raw.size > size::on_disk(MAX_PATH) {
                    return Err(self.damaged("long symbolic link"));
                }
                EntryKind::Symlink {
                    target: self.read_data(data)?,
                }
            }
            S_IFCHR => EntryKind::CharDevice { major, minor },
            S_IFBLK => EntryKind::BlockDevice { major, minor },
            S_IFIFO => EntryKind::Fifo,
            _ => return Err(self.damaged("file type")),
        })
    }

    fn locate(&self, raw: &RawInode, end: u64) -> Result<Data, IndexError> {
        let file_type = raw.mode & S_IFMT;
        if raw.size == 0 || !matches!(file_type, S_IFREG | S_IFDIR | S_IFLNK) {
            return Ok(Data::Index {
                offset: 0,
                size: 0,
                tail: None,
            });
        }
        let block = u64::from(raw.union) * BLOCK_SIZE;
        match raw.layout {
            LAYOUT_PLAIN => Ok(Data::Index {
                offset: block,
                size: raw.size,
                tail: None,
            }),
            LAYOUT_INLINE => Ok(Data::Index {
                offset: block,
                size: raw.size,
                tail: Some(end),
            }),
            LAYOUT_CHUNKED if file_type == S_IFREG => self.locate_chunk(raw, end),
            _ => Err(self.damaged("data layout")),
        }
    }

    fn locate_chunk(&self, raw: &RawInode, end: u64) -> Result<Data, IndexError> {
        if !chunk::is_whole(raw.union, raw.size) {
            return Err(self.damaged("chunk format"));
        }
        let mut index = [0; 8];
        self.read(&mut index, chunk::offset_after(end))?;
        match chunk::decode(index) {
            Some(contents::Data::Index(offset)) => Ok(Data::Index {
                offset,
                size: raw.size,
                tail: None,
            }),
            Some(contents::Data::Tar(offset)) => Ok(Data::Tar { offset }),
            None => Err(self.damaged("chunk")),
        }
    }

    fn each_name(&self, dir: &Inode, visit: &mut dyn FnMut(&[u8], u64)) -> Result<(), IndexError> {
        if !dir.is_directory() {
            return Err(IndexError::NotADirectory);
        }
        let data = self.read_data(dir.data)?;
        directory::decode(&data, visit).ok_or_else(|| self.damaged("directory"))
    }

    /// Reads the data of a directory or link.
    fn read_data(&self, data: Data) -> Result<Vec<u8>, IndexError> {
        let Data::Index { offset, size, tail } = data else {
            return Err(self.damaged("data layout"));
        };
        let Some(tail) = tail else {
            return self.read_vec(offset, size);
        };
        let tail_size = size % BLOCK_SIZE;
        let mut bytes = match size - tail_size {
            0 => Vec::new(),
            whole => self.read_vec(offset, whole)?,
        };
        bytes.extend(self.read_vec(tail, tail_size)?);
        Ok(bytes)
    }

    fn read_vec(&self, offset: u64, length: u64) -> Result<Vec<u8>, IndexError> {
        let end = offset.checked_add(length);
        if end.is_none_or(|end| end > self.size) {
            return Err(self.damaged("data beyond the end"));
        }
        let mut bytes = vec![0; size::in_memory(length)];
        self.read(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> Result<(), IndexError> {
        let result = self.file.read_exact_at(bytes, offset);
        result.map_err(|source| IndexError::Read {
            path: self.path.clone(),
            source,
        })
    }

    fn damaged(&self, what: &'static str) -> IndexError {
        IndexError::Damaged {
            path: self.path.clone(),
            what,
        }
    }
}

/// A file from an offset on.
#[derive(Debug)]
struct Section {
    file: Arc<File>,
    offset: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.offset)?;
        self.offset += size::on_disk(length);
        Ok(length)
    }
}

/// Reads exactly so many bytes: an earlier end is an error.
#[derive(Debug)]
struct Exact {
    section: io::Take<Section>,
}

impl Exact {
    fn new(section: Section, size: u64) -> Self {
        Self {
            section: section.take(size),
        }
    }
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.section.read(buffer)?;
        if length == 0 && !buffer.is_empty() && self.section.limit() > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(length)
    }
}
