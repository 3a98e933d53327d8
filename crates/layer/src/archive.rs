//! A tar that is no layer: its entries one by one, as it has them.

use std::io::{self, Read};

use crate::sink::TarSink;
use crate::tar::{Content, Member, MemberKind, StreamError, TarReader, Tee};
use crate::{Entry, EntryKind, TarError, size, xattr};

/// Reads the entries of a tar in order, in all formats that layers may have. Names mean nothing
/// here: a whiteout is a file, and `..` is a name.
pub struct ArchiveReader<'a> {
    tee: Tee<'a>,
    reader: TarReader,
    /// How much of the last entry is still to come.
    left: u64,
}

/// An entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveEntry {
    /// The entry. Its path and the targets of its links are as written; attributes that no layer
    /// keeps are left out.
    pub entry: Entry,
    /// Where the content of a file is; between and after the extents are zeros.
    pub extents: Vec<ArchiveExtent>,
}

/// A part of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveExtent {
    /// Where it is in the tar.
    pub tar_offset: u64,
    /// Where it belongs in the file.
    pub offset: u64,
    /// Its length.
    pub length: u64,
}

/// Why an archive cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveReadError {
    /// Reading the source failed.
    #[error("failed to read the archive")]
    Read(#[source] io::Error),
    /// The source is not a tar, or a damaged one.
    #[error("malformed archive at byte {offset}")]
    Tar {
        /// Where reading stopped.
        offset: u64,
        /// What is wrong.
        #[source]
        source: TarError,
    },
}

impl<'a> ArchiveReader<'a> {
    /// Reads `source` from its beginning.
    pub fn new(source: &'a mut dyn Read) -> Self {
        Self {
            tee: Tee::new(source, TarSink::discarding(), u64::MAX),
            reader: TarReader::default(),
            left: 0,
        }
    }

    /// Returns the next entry; `None` at the end of the tar.
    pub fn next_entry(&mut self) -> Result<Option<ArchiveEntry>, ArchiveReadError> {
        let passed = self.tee.skip(std::mem::take(&mut self.left));
        passed.map_err(|error| self.error(error))?;
        let next = self.reader.next(&mut self.tee);
        let Some(member) = next.map_err(|error| self.error(error))? else {
            return Ok(None);
        };
        let start = self.tee.offset();
        let (extents, stored) = match &member.content {
            Content::None => (Vec::new(), 0),
            &Content::Plain { size } => {
                let whole = ArchiveExtent {
                    tar_offset: start,
                    offset: 0,
                    length: size,
                };
                (vec![whole], size)
            }
            Content::Sparse {
                segments, padded, ..
            } => {
                let mut tar_offset = start;
                let extents = segments.iter().map(|segment| {
                    let extent = ArchiveExtent {
                        tar_offset,
                        offset: segment.offset,
                        length: segment.length,
                    };
                    tar_offset += segment.length;
                    extent
                });
                (extents.collect(), *padded)
            }
        };
        let padding = size::on_disk(crate::tar::padding(stored));
        self.left = stored.saturating_add(padding);
        Ok(Some(ArchiveEntry {
            entry: entry(member),
            extents,
        }))
    }

    fn error(&self, error: StreamError) -> ArchiveReadError {
        match error {
            StreamError::Read(source) | StreamError::Write(source) => {
                ArchiveReadError::Read(source)
            }
            StreamError::TooLarge => ArchiveReadError::Read(io::ErrorKind::FileTooLarge.into()),
            StreamError::Tar(source) => ArchiveReadError::Tar {
                offset: self.tee.offset(),
                source,
            },
        }
    }
}

impl std::fmt::Debug for ArchiveReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArchiveReader")
            .field("offset", &self.tee.offset())
            .finish_non_exhaustive()
    }
}

fn entry(member: Member) -> Entry {
    let (major, minor) = member.device;
    let kind = match (member.kind, &member.content) {
        (MemberKind::File, Content::None) => EntryKind::File { size: 0 },
        (MemberKind::File, &(Content::Plain { size } | Content::Sparse { size, .. })) => {
            EntryKind::File { size }
        }
        (MemberKind::Hardlink, _) => EntryKind::Hardlink {
            target: member.link_name,
        },
        (MemberKind::Symlink, _) => EntryKind::Symlink {
            target: member.link_name,
        },
        (MemberKind::CharDevice, _) => EntryKind::CharDevice { major, minor },
        (MemberKind::BlockDevice, _) => EntryKind::BlockDevice { major, minor },
        (MemberKind::Directory, _) => EntryKind::Directory,
        (MemberKind::Fifo, _) => EntryKind::Fifo,
    };
    let mut xattrs = member.xattrs;
    xattrs.retain(|name, _| xattr::is_kept(name));
    Entry {
        path: member.name,
        kind,
        mode: member.mode,
        uid: member.uid,
        gid: member.gid,
        mtime: member.mtime,
        xattrs,
    }
}
