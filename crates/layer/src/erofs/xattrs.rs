//! Extended attributes behind an inode: a header, then entries of four-byte units.

use std::collections::BTreeMap;

use super::format::u16_at;
use crate::contents::{Inode, InodeKind};
use crate::{IMPLIED_XATTR, OPAQUE_XATTR, WHITEOUTS_XATTR, size, xattr};

const HEADER_SIZE: usize = 12;
const ENTRY_SIZE: usize = 4;
/// Where the header counts attributes that are stored elsewhere, which we never do.
const SHARED_COUNT: usize = 4;

/// Returns how many bytes [`encode`] gives.
pub(crate) fn encoded_size(inode: &Inode) -> usize {
    let entry_size = |(name, value): (&[u8], &[u8])| {
        let (_, rest) = xattr::split(name).unwrap_or_default();
        (ENTRY_SIZE + rest.len() + value.len()).next_multiple_of(ENTRY_SIZE)
    };
    match all(inode).map(entry_size).sum() {
        0 => 0,
        size => HEADER_SIZE + size,
    }
}

/// Returns the attributes as they follow the inode; nothing when there are none.
pub(crate) fn encode(inode: &Inode) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in all(inode) {
        if bytes.is_empty() {
            bytes.resize(HEADER_SIZE, 0);
        }
        let (prefix, rest) = xattr::split(name).unwrap_or_default();
        let length = u8::try_from(rest.len()).expect("invariant: names were checked");
        let size = u16::try_from(value.len()).expect("invariant: values were checked");
        bytes.extend_from_slice(&[length, prefix]);
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(rest);
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(ENTRY_SIZE), 0);
    }
    bytes
}

/// Returns the length of encoded attributes as an inode states it: the header is one unit.
pub(crate) fn units(encoded: &[u8]) -> Option<u16> {
    match encoded.len() {
        0 => Some(0),
        length => u16::try_from(1 + (length - HEADER_SIZE) / ENTRY_SIZE).ok(),
    }
}

/// Returns the length that an inode states.
pub(crate) fn stated_size(units: u16) -> u64 {
    match u64::from(units) {
        0 => 0,
        units => size::on_disk(HEADER_SIZE) + (units - 1) * size::on_disk(ENTRY_SIZE),
    }
}

/// Reads what [`encode`] gave; `None` when it is something else.
pub(crate) fn decode(bytes: &[u8]) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut xattrs = BTreeMap::new();
    if bytes.is_empty() {
        return Some(xattrs);
    }
    let (header, mut rest) = bytes.split_at_checked(HEADER_SIZE)?;
    if header[SHARED_COUNT] != 0 {
        return None;
    }
    while let Some((entry, body)) = rest.split_at_checked(ENTRY_SIZE) {
        let (name_length, prefix) = (usize::from(entry[0]), entry[1]);
        let value_end = name_length + usize::from(u16_at(entry, 2));
        let name = xattr::join(prefix, body.get(..name_length)?)?;
        xattrs.insert(name, body.get(name_length..value_end)?.to_vec());
        rest = body
            .get(value_end.next_multiple_of(ENTRY_SIZE)..)
            .unwrap_or_default();
    }
    Some(xattrs)
}

/// Yields the attributes of the inode and those that tell overlayfs and us of directories.
fn all(inode: &Inode) -> impl Iterator<Item = (&[u8], &[u8])> {
    let (opaque, implied, has_whiteouts) = match &inode.kind {
        InodeKind::Directory(found) => (found.opaque, found.implied, found.has_whiteouts),
        _ => (false, false, false),
    };
    let set = |name: &'static [u8], is_set: bool| is_set.then_some((name, &b"y"[..]));
    let own = inode.xattrs.iter();
    own.map(|(name, value)| (name.as_slice(), value.as_slice()))
        .chain(set(OPAQUE_XATTR, opaque))
        .chain(set(IMPLIED_XATTR, implied))
        .chain(set(WHITEOUTS_XATTR, has_whiteouts))
}
