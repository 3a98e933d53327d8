//! An entry as ustar, with a PAX header before it for what ustar cannot say.

use std::collections::BTreeMap;

use crate::size;
use crate::tar::header::{BLOCK_SIZE, HeaderBuilder};
use crate::tar::pax;
use crate::tar::stream::padding;
use crate::{Entry, EntryKind};

/// Zeros to fill the last block of a content.
pub(crate) const BLOCK_PADDING: [u8; BLOCK_SIZE] = [0; BLOCK_SIZE];
/// The end of a tar.
pub(crate) const END_MARKER: [u8; 2 * BLOCK_SIZE] = [0; 2 * BLOCK_SIZE];

/// What docker reads of one extended header.
const MAX_RECORDS: usize = 1 << 20;
const PAX_NAME_PREFIX: &[u8] = b"PaxHeaders.0/";

/// What an entry has that no tar header can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EncodeError {
    /// An extended attribute's name has an `=` or a NUL.
    XattrName,
    /// The extended header is longer than readers accept.
    TooLong,
}

/// Returns the header blocks of `entry`, whose fields were checked. Equal entries give equal
/// bytes.
pub(crate) fn encode(entry: &Entry) -> Result<Vec<u8>, EncodeError> {
    let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut record = |key: &[u8], value: Vec<u8>| drop(records.insert(key.to_vec(), value));
    let mut header = HeaderBuilder::new(type_flag(&entry.kind));
    let name = name(entry);
    if !header.name(&name) {
        record(b"path", name.clone());
    }
    header.mode(entry.mode);
    if !header.uid(entry.uid) {
        record(b"uid", entry.uid.to_string().into_bytes());
    }
    if !header.gid(entry.gid) {
        record(b"gid", entry.gid.to_string().into_bytes());
    }
    if !header.mtime(entry.mtime.seconds) || entry.mtime.nanoseconds != 0 {
        record(b"mtime", pax::timestamp_text(entry.mtime));
    }
    let mut content_size = 0;
    match &entry.kind {
        EntryKind::File { size } => content_size = *size,
        EntryKind::Symlink { target } | EntryKind::Hardlink { target } => {
            if !header.link_name(target) {
                record(b"linkpath", target.clone());
            }
        }
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            header.device(*major, *minor);
        }
        EntryKind::Directory | EntryKind::Fifo => {}
    }
    if !header.size(content_size) {
        record(b"size", content_size.to_string().into_bytes());
    }
    for (name, value) in &entry.xattrs {
        if name.contains(&b'=') || name.contains(&0) {
            return Err(EncodeError::XattrName);
        }
        record(&[pax::XATTR, name].concat(), value.clone());
    }
    let mut blocks = pax_header(&name, &records)?;
    blocks.extend_from_slice(&header.finish());
    Ok(blocks)
}

fn pax_header(name: &[u8], records: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Vec<u8>, EncodeError> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let mut data = Vec::new();
    for (key, value) in records {
        pax::push(&mut data, key, value);
    }
    if data.len() > MAX_RECORDS {
        return Err(EncodeError::TooLong);
    }
    let mut header = HeaderBuilder::new(b'x');
    let last = name.strip_suffix(b"/").unwrap_or(name);
    let last = last.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    // Readers that know PAX never see this name; it may be cut.
    header.name(&[PAX_NAME_PREFIX, &last[..last.len().min(80)]].concat());
    header.mode(0o644);
    header.uid(0);
    header.gid(0);
    header.mtime(0);
    header.size(size::on_disk(data.len()));
    let mut blocks = header.finish().to_vec();
    blocks.extend_from_slice(&data);
    blocks.extend_from_slice(&BLOCK_PADDING[..padding(size::on_disk(data.len()))]);
    Ok(blocks)
}

/// Directories end in a slash, as docker writes them.
fn name(entry: &Entry) -> Vec<u8> {
    match (&entry.kind, entry.path.is_empty()) {
        (EntryKind::Directory, true) => b"./".to_vec(),
        (EntryKind::Directory, false) => [&entry.path, &b"/"[..]].concat(),
        _ => entry.path.clone(),
    }
}

fn type_flag(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::File { .. } => b'0',
        EntryKind::Hardlink { .. } => b'1',
        EntryKind::Symlink { .. } => b'2',
        EntryKind::CharDevice { .. } => b'3',
        EntryKind::BlockDevice { .. } => b'4',
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
    }
}
