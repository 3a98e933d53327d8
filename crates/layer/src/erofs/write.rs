//! Writing an index.
//!
//! The file is written once from front to back, but for the superblock. Contents that the tar
//! does not hold in one piece come first, as they stream past; then the inodes, whose positions
//! are fixed before any is written; then directory blocks and long link targets.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::format::{
    BLOCK_BITS, BLOCK_SIZE, CHUNK_INDEX_SIZE, CHUNK_INDEXES, COMPACT_INODE_SIZE, DIRENT_SIZE,
    EXTENDED, EXTENDED_INODE_SIZE, LAYOUT_CHUNKED, LAYOUT_INLINE, LAYOUT_PLAIN, LAYOUT_SHIFT,
    S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, SLOT_SIZE, SUPERBLOCK_OFFSET, Superblock,
    XATTR_ENTRY_SIZE, XATTR_HEADER_SIZE, encode_device,
};
use crate::contents::{Contents, Data, Directory, Inode, InodeId, InodeKind};
use crate::{IMPLIED_XATTR, OPAQUE_XATTR, Timestamp, WHITEOUTS_XATTR, size, xattr};

/// Contents begin after the superblock, at a page of their own.
const CONTENTS_OFFSET: u64 = 4096;
/// Node 0 means nothing to readers of directories.
const FIRST_SLOT: u64 = 2;
const FILE_TYPES: [u16; 7] = [S_IFREG, S_IFDIR, S_IFCHR, S_IFBLK, S_IFIFO, 0, S_IFLNK];

/// Why an index was not written.
#[derive(Debug)]
pub(crate) enum IndexWriteError {
    Write(io::Error),
    /// Addresses have 32 bits.
    TooLarge,
}

impl From<io::Error> for IndexWriteError {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

/// An index being written.
#[derive(Debug)]
pub(crate) struct IndexWriter {
    file: File,
    /// Where contents that are kept here end.
    contents_end: u64,
}

impl IndexWriter {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::create(path)?,
            contents_end: CONTENTS_OFFSET,
        })
    }

    /// Makes room for a content of `size` bytes, all holes, and returns its offset; `None` when
    /// the index has no room for it.
    pub(crate) fn reserve(&mut self, size: u64) -> Option<u64> {
        let offset = self.contents_end;
        let end = offset
            .checked_add(size)?
            .checked_next_multiple_of(CONTENTS_OFFSET)?;
        if end / BLOCK_SIZE > u64::from(u32::MAX / 2) {
            return None;
        }
        self.contents_end = end;
        Some(offset)
    }

    /// Writes a part of a content.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Writes the index of `contents`, which are sealed, over a tar of `tar_size` bytes.
    pub(crate) fn finish(
        mut self,
        contents: &Contents,
        tar_size: u64,
    ) -> Result<(), IndexWriteError> {
        let meta_start = if self.contents_end == CONTENTS_OFFSET {
            SUPERBLOCK_OFFSET + BLOCK_SIZE
        } else {
            self.contents_end
        };
        let layout = Layout::of(contents);
        let data_start = meta_start + layout.meta_size.next_multiple_of(BLOCK_SIZE);
        let end = data_start + layout.data_blocks * BLOCK_SIZE;
        let superblock = Superblock {
            root_nid: layout.root_nid()?,
            inodes: size::on_disk(layout.order.len()),
            build_time: layout.build_time.seconds,
            build_nanoseconds: layout.build_time.nanoseconds,
            blocks: block_number(end)?,
            meta_block: block_number(meta_start)?,
            tar_blocks: block_number(tar_size.next_multiple_of(BLOCK_SIZE))?,
            has_implied: layout.has_implied,
        };
        self.file
            .write_all_at(&superblock.encode(), SUPERBLOCK_OFFSET)?;
        self.file.seek(SeekFrom::Start(meta_start))?;
        let data_block = block_number(data_start)?;
        let mut out = BufWriter::with_capacity(1 << 18, self.file);
        layout.write(contents, data_block, &mut out)?;
        out.flush()?;
        Ok(())
    }
}

fn block_number(offset: u64) -> Result<u32, IndexWriteError> {
    u32::try_from(offset / BLOCK_SIZE).map_err(|_| IndexWriteError::TooLarge)
}

/// Where everything goes.
struct Layout {
    /// Directory by directory, so that what is listed together is read together.
    order: Vec<InodeId>,
    /// By inode; slot 0 for those not in the tree.
    places: Vec<Place>,
    meta_size: u64,
    data_blocks: u64,
    build_time: Timestamp,
    has_implied: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    slot: u64,
    /// Where the data begins, in blocks after the metadata.
    data_block: u32,
    form: Form,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Form {
    /// No data.
    #[default]
    Empty,
    /// Data in blocks of its own.
    Plain,
    /// The end of the data behind the inode, the rest in blocks of its own.
    Inline,
    /// Data in the tar or among the contents.
    Chunk,
}

impl Layout {
    fn of(contents: &Contents) -> Self {
        let (order, has_implied) = order(contents);
        let mut layout = Self {
            build_time: most_common_time(contents, &order),
            places: vec![Place::default(); contents.len()],
            meta_size: FIRST_SLOT * SLOT_SIZE,
            data_blocks: 0,
            order: Vec::new(),
            has_implied,
        };
        let mut names = Vec::new();
        for &id in &order {
            let inode = contents.inode(id);
            let data_size = match &inode.kind {
                InodeKind::Directory(directory) => {
                    names.clear();
                    encode_directory(contents, id, directory, &|_| 0, &mut names);
                    names.len()
                }
                InodeKind::Symlink(target) => target.len(),
                _ => 0,
            };
            layout.place(id, inode, size::on_disk(data_size));
        }
        layout.order = order;
        layout
    }

    /// The root comes first; only its own length can move it from the first slot.
    fn root_nid(&self) -> Result<u16, IndexWriteError> {
        let slot = self.places[InodeId::ROOT.index()].slot;
        u16::try_from(slot).map_err(|_| IndexWriteError::TooLarge)
    }

    fn place(&mut self, id: InodeId, inode: &Inode, data_size: u64) {
        let head = self.inode_size(inode) + xattrs_size(inode);
        let mut record = size::on_disk(head);
        let tail = data_size % BLOCK_SIZE;
        let form = match &inode.kind {
            InodeKind::File { size: 0, .. } => Form::Empty,
            InodeKind::File { .. } => Form::Chunk,
            // The kernel wants a tail in the block of its inode.
            _ if tail > 0 && record + tail <= BLOCK_SIZE => Form::Inline,
            _ if data_size > 0 => Form::Plain,
            _ => Form::Empty,
        };
        match form {
            Form::Inline => record += tail,
            Form::Chunk => {
                let index = size::on_disk(CHUNK_INDEX_SIZE);
                record = record.next_multiple_of(index) + index;
            }
            Form::Plain | Form::Empty => {}
        }
        let mut start = self.meta_size.next_multiple_of(SLOT_SIZE);
        if start % BLOCK_SIZE + record > BLOCK_SIZE {
            start = start.next_multiple_of(BLOCK_SIZE);
        }
        let blocks = match form {
            Form::Plain => data_size.div_ceil(BLOCK_SIZE),
            Form::Inline => data_size / BLOCK_SIZE,
            Form::Chunk | Form::Empty => 0,
        };
        self.places[id.index()] = Place {
            slot: start / SLOT_SIZE,
            // Larger layouts are refused before anything is written.
            data_block: u32::try_from(self.data_blocks).unwrap_or(u32::MAX),
            form,
        };
        self.meta_size = start + record;
        self.data_blocks += blocks;
    }

    fn inode_size(&self, inode: &Inode) -> usize {
        if self.is_compact(inode) {
            COMPACT_INODE_SIZE
        } else {
            EXTENDED_INODE_SIZE
        }
    }

    /// Compact inodes have 16 bits for owners and links, 32 for the size, and all one time.
    fn is_compact(&self, inode: &Inode) -> bool {
        let small = |number: u32| u16::try_from(number).is_ok();
        let small_size = match &inode.kind {
            InodeKind::File { size, .. } => u32::try_from(*size).is_ok(),
            InodeKind::Directory(directory) => directory.children.len() < usize::from(u16::MAX) - 2,
            _ => true,
        };
        let dated = inode.mtime == self.build_time && self.build_time.seconds >= 0;
        dated && small_size && small(inode.uid) && small(inode.gid) && small(inode.links)
    }

    fn write(
        &self,
        contents: &Contents,
        data_start: u32,
        out: &mut dyn Write,
    ) -> Result<(), IndexWriteError> {
        let slot_of = |id: InodeId| self.places[id.index()].slot;
        let mut data = Vec::new();
        let (mut record, mut names) = (Vec::new(), Vec::new());
        let mut position = 0;
        for (number, &id) in self.order.iter().enumerate() {
            let inode = contents.inode(id);
            let place = self.places[id.index()];
            let body: &[u8] = match &inode.kind {
                InodeKind::Directory(directory) => {
                    names.clear();
                    encode_directory(contents, id, directory, &slot_of, &mut names);
                    &names
                }
                InodeKind::Symlink(target) => target,
                _ => &[],
            };
            let block = data_start.checked_add(place.data_block);
            let block = block.ok_or(IndexWriteError::TooLarge)?;
            record.clear();
            let number = u32::try_from(number + 1).map_err(|_| IndexWriteError::TooLarge)?;
            self.encode(
                contents,
                &Numbered {
                    inode,
                    number,
                    place,
                    block,
                    body,
                },
                &mut record,
            )?;
            let whole = match place.form {
                Form::Plain => body.len(),
                _ => body.len() - body.len() % size::in_memory(BLOCK_SIZE),
            };
            data.extend_from_slice(&body[..whole]);
            data.resize(data.len().next_multiple_of(size::in_memory(BLOCK_SIZE)), 0);
            if place.form == Form::Inline {
                record.extend_from_slice(&body[whole..]);
            }
            pad(out, place.slot * SLOT_SIZE - position)?;
            out.write_all(&record)?;
            position = place.slot * SLOT_SIZE + size::on_disk(record.len());
        }
        pad(out, position.next_multiple_of(BLOCK_SIZE) - position)?;
        out.write_all(&data)?;
        Ok(())
    }

    fn encode(
        &self,
        contents: &Contents,
        numbered: &Numbered<'_>,
        record: &mut Vec<u8>,
    ) -> Result<(), IndexWriteError> {
        let Numbered {
            inode,
            number,
            place,
            block,
            body,
        } = *numbered;
        let layout = match place.form {
            Form::Empty | Form::Plain => LAYOUT_PLAIN,
            Form::Inline => LAYOUT_INLINE,
            Form::Chunk => LAYOUT_CHUNKED,
        };
        let (file_type, length, union) = match &inode.kind {
            InodeKind::File { size, .. } => (S_IFREG, *size, u32::from(chunk_format(*size))),
            InodeKind::Directory(_) => (S_IFDIR, size::on_disk(body.len()), block),
            InodeKind::Symlink(_) => (S_IFLNK, size::on_disk(body.len()), block),
            InodeKind::CharDevice { major, minor } => (S_IFCHR, 0, encode_device(*major, *minor)),
            InodeKind::BlockDevice { major, minor } => (S_IFBLK, 0, encode_device(*major, *minor)),
            InodeKind::Fifo => (S_IFIFO, 0, 0),
        };
        let union = if place.form == Form::Empty && file_type == S_IFREG {
            0
        } else {
            union
        };
        let permissions = u16::try_from(inode.mode).expect("invariant: a mode has 12 bits");
        let mode = file_type | permissions;
        let xattrs = encode_xattrs(inode);
        let units = xattrs.len().saturating_sub(XATTR_HEADER_SIZE) / XATTR_ENTRY_SIZE
            + usize::from(!xattrs.is_empty());
        let units = u16::try_from(units).map_err(|_| IndexWriteError::TooLarge)?;
        let links = links(contents, inode);
        let mut put = |field: &[u8]| record.extend_from_slice(field);
        if self.is_compact(inode) {
            let short = |number: u32| u16::try_from(number).map_err(|_| IndexWriteError::TooLarge);
            put(&(layout << LAYOUT_SHIFT).to_le_bytes());
            put(&units.to_le_bytes());
            put(&mode.to_le_bytes());
            put(&short(links)?.to_le_bytes());
            let length = u32::try_from(length).map_err(|_| IndexWriteError::TooLarge)?;
            put(&length.to_le_bytes());
            put(&[0; 4]);
            put(&union.to_le_bytes());
            put(&number.to_le_bytes());
            put(&short(inode.uid)?.to_le_bytes());
            put(&short(inode.gid)?.to_le_bytes());
            put(&[0; 4]);
        } else {
            put(&(EXTENDED | layout << LAYOUT_SHIFT).to_le_bytes());
            put(&units.to_le_bytes());
            put(&mode.to_le_bytes());
            put(&[0; 2]);
            put(&length.to_le_bytes());
            put(&union.to_le_bytes());
            put(&number.to_le_bytes());
            put(&inode.uid.to_le_bytes());
            put(&inode.gid.to_le_bytes());
            put(&inode.mtime.seconds.to_le_bytes());
            put(&inode.mtime.nanoseconds.to_le_bytes());
            put(&links.to_le_bytes());
            put(&[0; 16]);
        }
        put(&xattrs);
        if let (Form::Chunk, InodeKind::File { data, .. }) = (place.form, &inode.kind) {
            record.resize(record.len().next_multiple_of(CHUNK_INDEX_SIZE), 0);
            record.extend_from_slice(&chunk_index(*data)?);
        }
        Ok(())
    }
}

/// An inode with what its place says.
#[derive(Clone, Copy)]
struct Numbered<'a> {
    inode: &'a Inode,
    number: u32,
    place: Place,
    block: u32,
    body: &'a [u8],
}

/// Returns the inodes of the tree, those of one directory together, and whether a directory
/// other than the root is implied.
fn order(contents: &Contents) -> (Vec<InodeId>, bool) {
    let mut seen = vec![false; contents.len()];
    let mut order = vec![InodeId::ROOT];
    let mut queue = VecDeque::from([InodeId::ROOT]);
    let mut has_implied = false;
    while let Some(id) = queue.pop_front() {
        let Some(directory) = contents.directory(id) else {
            continue;
        };
        has_implied |= directory.implied && id != InodeId::ROOT;
        for &child in directory.children.values() {
            if std::mem::replace(&mut seen[child.index()], true) {
                continue;
            }
            order.push(child);
            if contents.directory(child).is_some() {
                queue.push_back(child);
            }
        }
    }
    (order, has_implied)
}

/// Returns the time of more than half of the inodes, if there is one; else some time.
fn most_common_time(contents: &Contents, order: &[InodeId]) -> Timestamp {
    let (mut candidate, mut lead) = (Timestamp::default(), 0_u64);
    for &id in order {
        let time = contents.inode(id).mtime;
        if lead == 0 {
            (candidate, lead) = (time, 1);
        } else if time == candidate {
            lead += 1;
        } else {
            lead -= 1;
        }
    }
    candidate
}

fn links(contents: &Contents, inode: &Inode) -> u32 {
    let InodeKind::Directory(directory) = &inode.kind else {
        return inode.links;
    };
    let children = directory.children.values();
    let directories = children
        .filter(|&&child| contents.directory(child).is_some())
        .count();
    u32::try_from(directories).map_or(u32::MAX, |count| count.saturating_add(2))
}

fn file_type(inode: &Inode) -> u8 {
    let bits = match inode.kind {
        InodeKind::File { .. } => S_IFREG,
        InodeKind::Directory(_) => S_IFDIR,
        InodeKind::Symlink(_) => S_IFLNK,
        InodeKind::CharDevice { .. } => S_IFCHR,
        InodeKind::BlockDevice { .. } => S_IFBLK,
        InodeKind::Fifo => S_IFIFO,
    };
    let position = FILE_TYPES.iter().position(|known| *known == bits);
    let position = position.and_then(|position| u8::try_from(position + 1).ok());
    position.expect("invariant: every type is in the table")
}

/// Appends the blocks of a directory: in each, entries in order of their names, then the names.
fn encode_directory(
    contents: &Contents,
    id: InodeId,
    directory: &Directory,
    slot_of: &dyn Fn(InodeId) -> u64,
    out: &mut Vec<u8>,
) {
    let own: [(&[u8], InodeId); 2] = [(b".", id), (b"..", directory.parent)];
    let mut own = own.into_iter().peekable();
    let children = directory
        .children
        .iter()
        .map(|(name, &child)| (&**name, child));
    let mut children = children.peekable();
    let mut block: Vec<(&[u8], InodeId)> = Vec::new();
    let mut used = 0;
    loop {
        let own_first = match (own.peek(), children.peek()) {
            (Some(own), Some(child)) => own.0 < child.0,
            (own, _) => own.is_some(),
        };
        let Some(entry) = (if own_first {
            own.next()
        } else {
            children.next()
        }) else {
            break;
        };
        let length = DIRENT_SIZE + entry.0.len();
        if used + length > size::in_memory(BLOCK_SIZE) {
            encode_names(contents, &block, slot_of, out);
            out.resize(out.len().next_multiple_of(size::in_memory(BLOCK_SIZE)), 0);
            block.clear();
            used = 0;
        }
        block.push(entry);
        used += length;
    }
    encode_names(contents, &block, slot_of, out);
}

fn encode_names(
    contents: &Contents,
    block: &[(&[u8], InodeId)],
    slot_of: &dyn Fn(InodeId) -> u64,
    out: &mut Vec<u8>,
) {
    let mut name_offset = block.len() * DIRENT_SIZE;
    for (name, id) in block {
        let offset = u16::try_from(name_offset).expect("invariant: a block has 512 bytes");
        out.extend_from_slice(&slot_of(*id).to_le_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&[file_type(contents.inode(*id)), 0]);
        name_offset += name.len();
    }
    for (name, _) in block {
        out.extend_from_slice(name);
    }
}

/// Returns the attributes of the inode with those that overlayfs is to see.
fn overlaid_xattrs(inode: &Inode) -> impl Iterator<Item = (&[u8], &[u8])> {
    let directory = match &inode.kind {
        InodeKind::Directory(directory) => Some(directory),
        _ => None,
    };
    let is = |mark: fn(&Directory) -> bool| directory.is_some_and(|directory| mark(directory));
    let set = |name: &'static [u8], is_set: bool| is_set.then_some((name, &b"y"[..]));
    let own = inode.xattrs.iter();
    own.map(|(name, value)| (name.as_slice(), value.as_slice()))
        .chain(set(OPAQUE_XATTR, is(|directory| directory.opaque)))
        .chain(set(IMPLIED_XATTR, is(|directory| directory.implied)))
        .chain(set(
            WHITEOUTS_XATTR,
            is(|directory| directory.has_whiteouts),
        ))
}

fn xattrs_size(inode: &Inode) -> usize {
    let size: usize = overlaid_xattrs(inode)
        .map(|(name, value)| {
            let (_, rest) = xattr::split(name).unwrap_or_default();
            (XATTR_ENTRY_SIZE + rest.len() + value.len()).next_multiple_of(XATTR_ENTRY_SIZE)
        })
        .sum();
    if size == 0 {
        0
    } else {
        XATTR_HEADER_SIZE + size
    }
}

fn encode_xattrs(inode: &Inode) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in overlaid_xattrs(inode) {
        if bytes.is_empty() {
            bytes.resize(XATTR_HEADER_SIZE, 0);
        }
        let (prefix, rest) = xattr::split(name).unwrap_or_default();
        let length = u8::try_from(rest.len()).expect("invariant: names were checked");
        let size = u16::try_from(value.len()).expect("invariant: values were checked");
        bytes.extend_from_slice(&[length, prefix]);
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(rest);
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(XATTR_ENTRY_SIZE), 0);
    }
    bytes
}

/// One chunk holds the whole file.
fn chunk_format(size: u64) -> u16 {
    let bits = size.max(BLOCK_SIZE).next_power_of_two().trailing_zeros();
    let bits = u16::try_from(bits).expect("invariant: at most 64") - u16::from(BLOCK_BITS);
    bits | CHUNK_INDEXES
}

fn chunk_index(data: Data) -> Result<[u8; CHUNK_INDEX_SIZE], IndexWriteError> {
    let (device, offset) = match data {
        Data::Index(offset) => (0_u16, offset),
        Data::Tar(offset) => (1, offset),
    };
    let mut index = [0; CHUNK_INDEX_SIZE];
    index[2..4].copy_from_slice(&device.to_le_bytes());
    index[4..8].copy_from_slice(&block_number(offset)?.to_le_bytes());
    Ok(index)
}

fn pad(out: &mut dyn Write, length: u64) -> io::Result<()> {
    let zeros = [0; 512];
    let mut left = size::in_memory(length);
    while left > 0 {
        let part = left.min(zeros.len());
        out.write_all(&zeros[..part])?;
        left -= part;
    }
    Ok(())
}
