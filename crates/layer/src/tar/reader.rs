//! The entries of a tar, with what their extended headers say of them.

use std::collections::BTreeMap;

use crate::Timestamp;
use crate::size;
use crate::tar::TarError;
use crate::tar::header::{BLOCK_SIZE, Header, owner, text};
use crate::tar::pax::{self, Records, XATTR};
use crate::tar::sparse::{self, PaxForm, Segment};
use crate::tar::stream::{StreamError, Tee};

/// The most bytes of headers that describe one entry: what docker accepts of one such header.
const MAX_EXTENSION: u64 = 1 << 20;
/// The most bytes of global headers, which are looked through for every entry.
const MAX_GLOBAL: u64 = 1 << 16;

/// One entry, before its path is judged.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    pub(crate) link_name: Vec<u8>,
    pub(crate) kind: MemberKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Major and minor number.
    pub(crate) device: (u32, u32),
    pub(crate) content: Content,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberKind {
    File,
    Hardlink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// What follows the header, at the reader's offset.
#[derive(Debug)]
pub(crate) enum Content {
    /// Nothing.
    None,
    /// The content, then padding.
    Plain { size: u64 },
    /// The segments of the content one after the other, then padding for `padded` bytes.
    Sparse {
        segments: Vec<Segment>,
        size: u64,
        padded: u64,
    },
}

/// Reads headers. The caller passes over the content of an entry before it asks for the next.
#[derive(Debug, Default)]
pub(crate) struct TarReader {
    global: Records,
    global_size: u64,
}

/// What the headers before an entry say of it.
#[derive(Debug, Default)]
struct Extensions {
    pax: Records,
    long_name: Option<Vec<u8>>,
    long_link_name: Option<Vec<u8>>,
    /// The length of all these headers.
    size: u64,
}

impl TarReader {
    /// Returns the next entry; `None` at the end marker or, where that is missing, at the end of
    /// the stream.
    pub(crate) fn next(&mut self, tee: &mut Tee<'_>) -> Result<Option<Member>, StreamError> {
        let mut found = Extensions::default();
        loop {
            let Some(block) = next_block(tee)? else {
                return if found.size == 0 {
                    Ok(None)
                } else {
                    Err(TarError::DanglingExtension.into())
                };
            };
            let header = Header::parse(&block)?;
            match header.type_flag() {
                b'x' | b'X' => {
                    let data = found.read(&header, tee)?;
                    found.pax.extend(Records::parse(&data)?);
                }
                b'g' => {
                    let data = Extensions::default().read(&header, tee)?;
                    self.add_global(&data)?;
                }
                b'L' => found.long_name = Some(text(&found.read(&header, tee)?).to_vec()),
                b'K' => found.long_link_name = Some(text(&found.read(&header, tee)?).to_vec()),
                _ => return self.member(&header, found, tee).map(Some),
            }
        }
    }

    fn add_global(&mut self, data: &[u8]) -> Result<(), TarError> {
        self.global_size += size::on_disk(data.len());
        if self.global_size > MAX_GLOBAL {
            return Err(TarError::ExtensionTooLarge {
                size: self.global_size,
            });
        }
        self.global.extend(Records::parse(data)?);
        Ok(())
    }

    fn member(
        &self,
        header: &Header<'_>,
        extensions: Extensions,
        tee: &mut Tee<'_>,
    ) -> Result<Member, StreamError> {
        let records = if self.global.is_empty() {
            extensions.pax
        } else {
            let mut records = self.global.clone();
            records.extend(extensions.pax);
            records
        };
        let text = |key: &[u8]| records.get(key).map(<[u8]>::to_vec);
        let name = text(b"GNU.sparse.name")
            .or(extensions.long_name)
            .or_else(|| text(b"path"))
            .unwrap_or_else(|| header.name());
        let link_name = extensions
            .long_link_name
            .or_else(|| text(b"linkpath"))
            .unwrap_or_else(|| header.link_name());
        let kind = kind(header.type_flag(), &name)?;
        let mtime = match records.get(b"mtime") {
            Some(value) => pax::timestamp(value).ok_or(TarError::Number { field: "mtime" })?,
            None => Timestamp {
                seconds: header.mtime()?,
                nanoseconds: 0,
            },
        };
        let device = match kind {
            MemberKind::CharDevice | MemberKind::BlockDevice => header.device()?,
            _ => (0, 0),
        };
        Ok(Member {
            name,
            link_name,
            kind,
            mode: header.mode()?,
            uid: pax_owner(&records, "uid")?.map_or_else(|| header.uid(), Ok)?,
            gid: pax_owner(&records, "gid")?.map_or_else(|| header.gid(), Ok)?,
            mtime,
            xattrs: xattrs(&records),
            device,
            content: content(kind, header, &records, tee)?,
        })
    }
}

impl Extensions {
    /// Reads the content of one more header. Its length is that of its own header block: no
    /// record applies to it.
    fn read(&mut self, header: &Header<'_>, tee: &mut Tee<'_>) -> Result<Vec<u8>, StreamError> {
        let size = header.size()?;
        // An empty one is one, too, and its block has to come from somewhere.
        let block = size::on_disk(BLOCK_SIZE);
        self.size = self.size.saturating_add(size).saturating_add(block);
        if self.size > MAX_EXTENSION + block {
            let size = self.size - block;
            return Err(TarError::ExtensionTooLarge { size }.into());
        }
        let mut data = Vec::new();
        tee.read(size, &mut |piece| {
            data.extend_from_slice(piece);
            Ok(())
        })?;
        tee.skip_padding(size)?;
        Ok(data)
    }
}

/// Returns the next header block, or `None` when there is none: two blocks of zeros, or one at
/// the end of the stream, or nothing.
fn next_block(tee: &mut Tee<'_>) -> Result<Option<[u8; BLOCK_SIZE]>, StreamError> {
    let is_zero = |block: &[u8; BLOCK_SIZE]| block.iter().all(|&byte| byte == 0);
    let Some(block) = tee.block()? else {
        return Ok(None);
    };
    if !is_zero(&block) {
        return Ok(Some(block));
    }
    match tee.block()? {
        Some(block) if !is_zero(&block) => Err(TarError::LoneZeroBlock.into()),
        _ => Ok(None),
    }
}

/// Directories of old tars are files whose name ends in a slash.
fn kind(type_flag: u8, name: &[u8]) -> Result<MemberKind, TarError> {
    Ok(match type_flag {
        0 if name.ends_with(b"/") => MemberKind::Directory,
        0 | b'0' | b'7' | b'S' => MemberKind::File,
        b'1' => MemberKind::Hardlink,
        b'2' => MemberKind::Symlink,
        b'3' => MemberKind::CharDevice,
        b'4' => MemberKind::BlockDevice,
        b'5' => MemberKind::Directory,
        b'6' => MemberKind::Fifo,
        unknown => return Err(TarError::UnknownType(unknown)),
    })
}

/// Only files have content: whatever size other types claim, nothing of it is stored.
fn content(
    kind: MemberKind,
    header: &Header<'_>,
    records: &Records,
    tee: &mut Tee<'_>,
) -> Result<Content, StreamError> {
    if kind != MemberKind::File {
        return Ok(Content::None);
    }
    let stored = match records.number("size")? {
        Some(size) => size,
        None => header.size()?,
    };
    if header.type_flag() == b'S' {
        let (first, continues) = (header.sparse_map(), header.sparse_map_continues());
        let size = header.sparse_size()?;
        let segments = sparse::read_old_map(first, continues, tee)?;
        let segments = sparse::check(segments, size, stored)?;
        return Ok(Content::Sparse {
            segments,
            size,
            padded: stored,
        });
    }
    match sparse::pax_form(records)? {
        None => Ok(Content::Plain { size: stored }),
        Some(PaxForm::Records { segments, size }) => {
            let segments = sparse::check(segments, size, stored)?;
            Ok(Content::Sparse {
                segments,
                size,
                padded: stored,
            })
        }
        Some(PaxForm::InData { size }) => {
            let (segments, taken) = sparse::read_map(tee)?;
            let stored = stored.checked_sub(taken).ok_or(TarError::SparseMap)?;
            let segments = sparse::check(segments, size, stored)?;
            Ok(Content::Sparse {
                segments,
                size,
                padded: stored,
            })
        }
    }
}

fn pax_owner(records: &Records, key: &'static str) -> Result<Option<u32>, TarError> {
    let Some(value) = records.get(key.as_bytes()) else {
        return Ok(None);
    };
    let number = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok());
    number
        .and_then(owner)
        .map(Some)
        .ok_or(TarError::Number { field: key })
}

fn xattrs(records: &Records) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let attribute = |(key, value): (&[u8], &[u8])| {
        let name = key.strip_prefix(XATTR)?;
        Some((name.to_vec(), value.to_vec()))
    };
    records.iter().filter_map(attribute).collect()
}
