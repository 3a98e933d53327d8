//! Writing an index.
//!
//! The file is written once from front to back, but for the superblock. Contents that the tar
//! does not hold in one piece come first, as they stream past; then the inodes, whose places are
//! fixed before any is written; then directory blocks and long link targets.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::format::{BLOCK_SIZE, SLOT_SIZE, SUPERBLOCK_OFFSET, Superblock, encode_device};
use super::inode::{LAYOUT_CHUNKED, LAYOUT_INLINE, LAYOUT_PLAIN, RawInode, type_bits};
use super::layout::{Form, Layout};
use super::{chunk, directory, xattrs};
use crate::contents::{Contents, Inode, InodeId, InodeKind};
use crate::size;

/// Contents begin after the superblock, each at a page of its own.
const CONTENTS_OFFSET: u64 = 4096;
/// Contents may take half of what 32-bit addresses reach: 1 TiB.
const MAX_CONTENTS: u64 = (u32::MAX as u64).div_ceil(2) * BLOCK_SIZE;
const BUFFER_SIZE: usize = 1 << 18;

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
        if end > CONTENTS_OFFSET + MAX_CONTENTS {
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
        let root_nid = u16::try_from(layout.place_of(InodeId::ROOT).slot);
        let superblock = Superblock {
            root_nid: root_nid.map_err(|_| IndexWriteError::TooLarge)?,
            inodes: size::on_disk(layout.order.len()),
            build_time: layout.build_time,
            blocks: block_number(data_start + layout.data_blocks * BLOCK_SIZE)?,
            meta_block: block_number(meta_start)?,
            tar_blocks: block_number(tar_size.next_multiple_of(BLOCK_SIZE))?,
            has_implied: layout.has_implied,
        };
        self.file
            .write_all_at(&superblock.encode(), SUPERBLOCK_OFFSET)?;
        self.file.seek(SeekFrom::Start(meta_start))?;
        let mut out = BufWriter::with_capacity(BUFFER_SIZE, self.file);
        write_inodes(contents, &layout, data_start, &mut out)?;
        out.flush()?;
        Ok(())
    }
}

/// Writes the inodes, then the data that is not behind them, which begins at `data_start`.
fn write_inodes(
    contents: &Contents,
    layout: &Layout,
    data_start: u64,
    out: &mut dyn Write,
) -> Result<(), IndexWriteError> {
    let block_size = size::in_memory(BLOCK_SIZE);
    let slot_of = |id: InodeId| layout.place_of(id).slot;
    let (mut data, mut record, mut names) = (Vec::new(), Vec::new(), Vec::new());
    let mut position = 0;
    for (&id, number) in layout.order.iter().zip(1_u32..) {
        let inode = contents.inode(id);
        let place = layout.place_of(id);
        let body: &[u8] = match &inode.kind {
            InodeKind::Directory(found) => {
                names.clear();
                directory::encode(contents, id, found, &slot_of, &mut names);
                &names
            }
            InodeKind::Symlink(target) => target,
            _ => &[],
        };
        record.clear();
        let block = block_number(data_start + place.data_block * BLOCK_SIZE)?;
        let xattrs = xattrs::encode(inode);
        let raw = RawInode {
            layout: data_layout(place.form),
            xattr_units: xattrs::units(&xattrs).ok_or(IndexWriteError::TooLarge)?,
            links: links(contents, inode),
            ..raw(inode, size::on_disk(body.len()), block)
        };
        let encoded = raw.encode(place.extent, number, &mut record);
        encoded.ok_or(IndexWriteError::TooLarge)?;
        record.extend_from_slice(&xattrs);
        let whole = match place.form {
            Form::Plain => body.len(),
            Form::Inline => body.len() - body.len() % block_size,
            Form::Empty | Form::Chunk => 0,
        };
        data.extend_from_slice(&body[..whole]);
        data.resize(data.len().next_multiple_of(block_size), 0);
        if place.form == Form::Inline {
            record.extend_from_slice(&body[whole..]);
        }
        if let (Form::Chunk, InodeKind::File { data, .. }) = (place.form, &inode.kind) {
            let start = chunk::offset_after(size::on_disk(record.len()));
            record.resize(size::in_memory(start), 0);
            let index = chunk::encode(*data).ok_or(IndexWriteError::TooLarge)?;
            record.extend_from_slice(&index);
        }
        pad(out, place.slot * SLOT_SIZE - position)?;
        out.write_all(&record)?;
        position = place.slot * SLOT_SIZE + size::on_disk(record.len());
    }
    pad(out, position.next_multiple_of(BLOCK_SIZE) - position)?;
    out.write_all(&data)?;
    Ok(())
}

/// Returns the fields that do not depend on the place. `length` is that of the data of a
/// directory or link, which begins at `block`.
fn raw(inode: &Inode, length: u64, block: u32) -> RawInode {
    let (size, union) = match &inode.kind {
        InodeKind::File { size: 0, .. } | InodeKind::Fifo => (0, 0),
        InodeKind::File { size, .. } => (*size, u32::from(chunk::format(*size))),
        InodeKind::Directory(_) | InodeKind::Symlink(_) => (length, block),
        InodeKind::CharDevice { major, minor } | InodeKind::BlockDevice { major, minor } => {
            (0, encode_device(*major, *minor))
        }
    };
    let permissions = u16::try_from(inode.mode).expect("invariant: a mode has 12 bits");
    RawInode {
        layout: LAYOUT_PLAIN,
        xattr_units: 0,
        mode: type_bits(inode) | permissions,
        size,
        union,
        uid: inode.uid,
        gid: inode.gid,
        mtime: inode.mtime,
        links: inode.links,
    }
}

fn data_layout(form: Form) -> u16 {
    match form {
        Form::Empty | Form::Plain => LAYOUT_PLAIN,
        Form::Inline => LAYOUT_INLINE,
        Form::Chunk => LAYOUT_CHUNKED,
    }
}

/// A directory has a link in each directory in it, in itself and in its parent.
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

fn block_number(offset: u64) -> Result<u32, IndexWriteError> {
    u32::try_from(offset / BLOCK_SIZE).map_err(|_| IndexWriteError::TooLarge)
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
