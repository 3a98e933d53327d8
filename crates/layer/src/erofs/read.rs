//! Reading an index and its tar in user space.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::format::{
    BLOCK_BITS, BLOCK_SIZE, CHUNK_BITS_MASK, CHUNK_INDEX_SIZE, CHUNK_INDEXES, COMPACT_INODE_SIZE,
    DIRENT_SIZE, EXTENDED, EXTENDED_INODE_SIZE, LAYOUT_CHUNKED, LAYOUT_INLINE, LAYOUT_PLAIN,
    LAYOUT_SHIFT, NULL_ADDRESS, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG,
    SLOT_SIZE, SUPERBLOCK_OFFSET, Superblock, SuperblockBytes, XATTR_ENTRY_SIZE, XATTR_HEADER_SIZE,
    decode_device, u16_at, u32_at, u64_at,
};
use crate::path::MAX_PATH;
use crate::{Entry, EntryKind, IMPLIED_XATTR, LayerDir, OPAQUE_XATTR, Timestamp, size, xattr};

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
    Hole,
    /// In the tar.
    Tar {
        offset: u64,
    },
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
        let mut bytes = [0; EXTENDED_INODE_SIZE];
        let available = self.size.saturating_sub(start);
        let available = usize::try_from(available)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        if available < COMPACT_INODE_SIZE {
            return Err(self.damaged("inode beyond the end"));
        }
        self.read(&mut bytes[..available], start)?;
        let raw = RawInode::decode(&bytes[..available], &self.superblock);
        let raw = raw.ok_or_else(|| self.damaged("inode"))?;
        let xattrs_start = start + raw.length;
        let xattrs_size = match u64::from(raw.xattr_units) {
            0 => 0,
            units => size::on_disk(XATTR_HEADER_SIZE) + (units - 1) * 4,
        };
        let xattrs = self.xattrs(xattrs_start, xattrs_size)?;
        let data = self.locate(&raw, xattrs_start + xattrs_size)?;
        let kind = self.kind(&raw, data)?;
        let entry = Entry {
            path: Vec::new(),
            kind,
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
        let data = self.directory_data(dir)?;
        let mut names = Vec::new();
        self.each_name(&data, &mut |name, nid| {
            if name != b"." && name != b".." {
                names.push((name.to_vec(), nid));
            }
        })?;
        Ok(names)
    }

    /// Returns the node number of `name` in `dir`.
    pub fn lookup(&self, dir: &Inode, name: &[u8]) -> Result<Option<u64>, IndexError> {
        let data = self.directory_data(dir)?;
        let mut found = None;
        self.each_name(&data, &mut |candidate, nid| {
            if candidate == name {
                found = Some(nid);
            }
        })?;
        Ok(found.filter(|_| name != b"." && name != b".."))
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
            Data::Hole => Ok(Box::new(io::repeat(0).take(size))),
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
        let format = u16::try_from(raw.union).ok();
        let format = format.filter(|format| format & !CHUNK_BITS_MASK == CHUNK_INDEXES);
        let format = format.ok_or_else(|| self.damaged("chunk format"))?;
        let bits = u32::from(format & CHUNK_BITS_MASK) + u32::from(BLOCK_BITS);
        if raw.size > 1 << bits {
            return Err(self.damaged("more than one chunk"));
        }
        let mut index = [0; CHUNK_INDEX_SIZE];
        self.read(
            &mut index,
            end.next_multiple_of(size::on_disk(CHUNK_INDEX_SIZE)),
        )?;
        let address = u32_at(&index, 4);
        let offset = u64::from(address) * BLOCK_SIZE;
        match (address, u16_at(&index, 2)) {
            (NULL_ADDRESS, _) => Ok(Data::Hole),
            (_, 0) => Ok(Data::Index {
                offset,
                size: raw.size,
                tail: None,
            }),
            (_, 1) => Ok(Data::Tar { offset }),
            _ => Err(self.damaged("device of a chunk")),
        }
    }

    fn xattrs(&self, start: u64, size: u64) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, IndexError> {
        let mut xattrs = BTreeMap::new();
        if size == 0 {
            return Ok(xattrs);
        }
        let bytes = self.read_vec(start, size)?;
        if bytes[4] != 0 {
            return Err(self.damaged("shared extended attributes"));
        }
        let mut rest = &bytes[XATTR_HEADER_SIZE..];
        while let Some((header, body)) = rest.split_at_checked(XATTR_ENTRY_SIZE) {
            let (name_length, prefix) = (usize::from(header[0]), header[1]);
            let value_size = usize::from(u16_at(header, 2));
            let length = (name_length + value_size).next_multiple_of(XATTR_ENTRY_SIZE);
            let name = body
                .get(..name_length)
                .and_then(|rest| xattr::join(prefix, rest));
            let value = body.get(name_length..name_length + value_size);
            let (Some(name), Some(value)) = (name, value) else {
                return Err(self.damaged("extended attribute"));
            };
            xattrs.insert(name, value.to_vec());
            rest = body.get(length..).unwrap_or_default();
        }
        Ok(xattrs)
    }

    fn directory_data(&self, dir: &Inode) -> Result<Vec<u8>, IndexError> {
        if !dir.is_directory() {
            return Err(IndexError::NotADirectory);
        }
        self.read_data(dir.data)
    }

    fn each_name(&self, data: &[u8], visit: &mut dyn FnMut(&[u8], u64)) -> Result<(), IndexError> {
        for block in data.chunks(size::in_memory(BLOCK_SIZE)) {
            if block.len() < DIRENT_SIZE {
                return Err(self.damaged("directory block"));
            }
            let names_start = usize::from(u16_at(block, 8));
            let count = names_start / DIRENT_SIZE;
            if count == 0 || names_start % DIRENT_SIZE != 0 || names_start > block.len() {
                return Err(self.damaged("directory block"));
            }
            for position in 0..count {
                let start = usize::from(u16_at(block, position * DIRENT_SIZE + 8));
                let end = match position + 1 == count {
                    true => block.len(),
                    false => usize::from(u16_at(block, (position + 1) * DIRENT_SIZE + 8)),
                };
                let name = block
                    .get(start..end)
                    .ok_or_else(|| self.damaged("directory entry"))?;
                let name = crate::tar::text(name);
                if name.is_empty() || name.contains(&b'/') {
                    return Err(self.damaged("name in a directory"));
                }
                visit(name, u64_at(block, position * DIRENT_SIZE));
            }
        }
        Ok(())
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

/// The fields of an inode.
struct RawInode {
    length: u64,
    layout: u16,
    xattr_units: u16,
    mode: u16,
    size: u64,
    union: u32,
    uid: u32,
    gid: u32,
    mtime: Timestamp,
    links: u32,
}

impl RawInode {
    fn decode(bytes: &[u8], superblock: &Superblock) -> Option<Self> {
        let format = u16_at(bytes, 0);
        let common = Self {
            length: size::on_disk(bytes.len()),
            layout: format >> LAYOUT_SHIFT,
            xattr_units: u16_at(bytes, 2),
            mode: u16_at(bytes, 4),
            size: u64::from(u32_at(bytes, 8)),
            union: u32_at(bytes, 16),
            uid: u32::from(u16_at(bytes, 24)),
            gid: u32::from(u16_at(bytes, 26)),
            mtime: Timestamp {
                seconds: superblock.build_time,
                nanoseconds: superblock.build_nanoseconds,
            },
            links: u32::from(u16_at(bytes, 6)),
        };
        if format & EXTENDED == 0 {
            return Some(Self {
                length: size::on_disk(COMPACT_INODE_SIZE),
                ..common
            });
        }
        if bytes.len() < EXTENDED_INODE_SIZE {
            return None;
        }
        Some(Self {
            size: u64_at(bytes, 8),
            uid: u32_at(bytes, 24),
            gid: u32_at(bytes, 28),
            mtime: Timestamp {
                seconds: u64_at(bytes, 32).cast_signed(),
                nanoseconds: u32_at(bytes, 40),
            },
            links: u32_at(bytes, 44),
            ..common
        })
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
