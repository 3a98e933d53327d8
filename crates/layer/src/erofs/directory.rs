//! Directories: blocks of entries in the order of their names, each followed by those names.

use super::format::{
    BLOCK_SIZE, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, u16_at, u64_at,
};
use super::inode::type_bits;
use crate::contents::{Contents, Directory, Inode, InodeId};
use crate::{size, tar};

const ENTRY_SIZE: usize = 12;
const NAME_OFFSET: usize = 8;
/// File types as directories number them, from 1 on; sockets, which tars lack, have the sixth.
const FILE_TYPES: [u16; 7] = [S_IFREG, S_IFDIR, S_IFCHR, S_IFBLK, S_IFIFO, 0, S_IFLNK];

/// Appends the blocks of a directory, the last one without padding. `slot_of` gives the node
/// numbers; the length does not depend on them.
pub(crate) fn encode(
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
    let block_size = size::in_memory(BLOCK_SIZE);
    let mut used = 0;
    loop {
        let own_first = match (own.peek(), children.peek()) {
            (Some(own), Some(child)) => own.0 < child.0,
            (own, _) => own.is_some(),
        };
        let next = if own_first {
            own.next()
        } else {
            children.next()
        };
        let Some(entry) = next else { break };
        let length = ENTRY_SIZE + entry.0.len();
        if used + length > block_size {
            encode_block(contents, &block, slot_of, out);
            out.resize(out.len().next_multiple_of(block_size), 0);
            block.clear();
            used = 0;
        }
        block.push(entry);
        used += length;
    }
    encode_block(contents, &block, slot_of, out);
}

fn encode_block(
    contents: &Contents,
    block: &[(&[u8], InodeId)],
    slot_of: &dyn Fn(InodeId) -> u64,
    out: &mut Vec<u8>,
) {
    let mut name_offset = block.len() * ENTRY_SIZE;
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

fn file_type(inode: &Inode) -> u8 {
    let position = FILE_TYPES.iter().position(|bits| *bits == type_bits(inode));
    let number = position.and_then(|position| u8::try_from(position + 1).ok());
    number.expect("invariant: every type is in the table")
}

/// Hands every name in a directory and its node number to `visit`, but for `.` and `..`; `None`
/// when `data` are no directory.
pub(crate) fn decode(data: &[u8], visit: &mut dyn FnMut(&[u8], u64)) -> Option<()> {
    for block in data.chunks(size::in_memory(BLOCK_SIZE)) {
        if block.len() < ENTRY_SIZE {
            return None;
        }
        let names_start = usize::from(u16_at(block, NAME_OFFSET));
        let (entries, _) = block.split_at_checked(names_start)?;
        if entries.is_empty() || entries.len() % ENTRY_SIZE != 0 {
            return None;
        }
        let mut entries = entries.chunks(ENTRY_SIZE).peekable();
        while let Some(entry) = entries.next() {
            let start = usize::from(u16_at(entry, NAME_OFFSET));
            let next = entries
                .peek()
                .map(|next| usize::from(u16_at(next, NAME_OFFSET)));
            let name = tar::text(block.get(start..next.unwrap_or(block.len()))?);
            if name.is_empty() || name.contains(&b'/') {
                return None;
            }
            if name != b"." && name != b".." {
                visit(name, u64_at(entry, 0));
            }
        }
    }
    Some(())
}
