//! Where everything goes in an index, before any of it is written.

use std::collections::VecDeque;

use super::format::{BLOCK_SIZE, SLOT_SIZE};
use super::inode::Extent;
use super::{chunk, directory, xattrs};
use crate::contents::{Contents, Inode, InodeId, InodeKind};
use crate::{Timestamp, size};

/// Node 0 means nothing to readers of directories.
const FIRST_SLOT: u64 = 2;

/// The place of every inode and of its data.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Directory by directory, so that what is listed together is read together.
    pub(crate) order: Vec<InodeId>,
    /// By inode; slot 0 for those not in the tree.
    places: Vec<Place>,
    /// The length of all inodes.
    pub(crate) meta_size: u64,
    /// The number of blocks for data that is not behind its inode.
    pub(crate) data_blocks: u64,
    /// The time of compact inodes.
    pub(crate) build_time: Timestamp,
    /// A directory other than the root is implied.
    pub(crate) has_implied: bool,
}

/// The place of one inode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The node number.
    pub(crate) slot: u64,
    /// Where the data begins, in blocks after the inodes.
    pub(crate) data_block: u64,
    pub(crate) extent: Extent,
    pub(crate) form: Form,
}

/// Where the data of an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// There is none.
    Empty,
    /// In blocks of its own.
    Plain,
    /// The end behind the inode, the rest in blocks of its own.
    Inline,
    /// In the tar, or among the contents kept in the index.
    Chunk,
}

impl Layout {
    pub(crate) fn of(contents: &Contents) -> Self {
        let (order, has_implied) = order(contents);
        let nowhere = Place {
            slot: 0,
            data_block: 0,
            extent: Extent::Extended,
            form: Form::Empty,
        };
        let mut layout = Self {
            build_time: most_common_time(contents, &order),
            places: vec![nowhere; contents.len()],
            meta_size: FIRST_SLOT * SLOT_SIZE,
            data_blocks: 0,
            order: Vec::new(),
            has_implied,
        };
        let mut names = Vec::new();
        for &id in &order {
            let inode = contents.inode(id);
            let data_size = match &inode.kind {
                InodeKind::Directory(found) => {
                    names.clear();
                    directory::encode(contents, id, found, &|_| 0, &mut names);
                    names.len()
                }
                InodeKind::Symlink(target) => target.len(),
                _ => 0,
            };
            layout.places[id.index()] = layout.place(inode, size::on_disk(data_size));
        }
        layout.order = order;
        layout
    }

    pub(crate) fn place_of(&self, id: InodeId) -> &Place {
        &self.places[id.index()]
    }

    fn place(&mut self, inode: &Inode, data_size: u64) -> Place {
        let extent = self.extent(inode);
        let head = size::on_disk(extent.size() + xattrs::encoded_size(inode));
        let tail = data_size % BLOCK_SIZE;
        let form = match &inode.kind {
            InodeKind::File { size: 0, .. } => Form::Empty,
            InodeKind::File { .. } => Form::Chunk,
            // The kernel wants a tail in the block of its inode.
            _ if tail > 0 && head + tail <= BLOCK_SIZE => Form::Inline,
            _ if data_size > 0 => Form::Plain,
            _ => Form::Empty,
        };
        let (length, blocks) = match form {
            Form::Empty => (head, 0),
            Form::Plain => (head, data_size.div_ceil(BLOCK_SIZE)),
            Form::Inline => (head + tail, data_size / BLOCK_SIZE),
            Form::Chunk => (chunk::offset_after(head) + chunk::INDEX_SIZE, 0),
        };
        let mut start = self.meta_size.next_multiple_of(SLOT_SIZE);
        if start % BLOCK_SIZE + length > BLOCK_SIZE {
            start = start.next_multiple_of(BLOCK_SIZE);
        }
        let data_block = self.data_blocks;
        self.meta_size = start + length;
        self.data_blocks += blocks;
        Place {
            slot: start / SLOT_SIZE,
            data_block,
            extent,
            form,
        }
    }

    fn extent(&self, inode: &Inode) -> Extent {
        let small = |number: u32| u16::try_from(number).is_ok();
        let small_size = match &inode.kind {
            InodeKind::File { size, .. } => u32::try_from(*size).is_ok(),
            // Each child may be a link to the directory, which has two more.
            InodeKind::Directory(found) => found.children.len() < usize::from(u16::MAX) - 2,
            _ => true,
        };
        let dated = inode.mtime == self.build_time && self.build_time.seconds >= 0;
        if dated && small_size && small(inode.uid) && small(inode.gid) && small(inode.links) {
            Extent::Compact
        } else {
            Extent::Extended
        }
    }
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
