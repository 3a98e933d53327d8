//! A tar from outside, kept byte for byte and indexed while it streams past.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci::DiffId;

use crate::contents::{Contents, Data};
use crate::erofs::{IndexWriteError, IndexWriter};
use crate::path::{self, Meaning};
use crate::sink::TarSink;
use crate::tar::{Content, Member, MemberKind, StreamError, TarError, TarReader, Tee};
use crate::{Entry, EntryError, EntryKind, LayerDir, xattr};

/// How much of a name is shown.
const MAX_SHOWN: usize = 300;

/// What became of a tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ingested {
    /// The digest of the tar.
    pub diff_id: DiffId,
    /// The length of the tar.
    pub tar_size: u64,
    /// The number of entries.
    pub entries: u64,
    /// The sum of the sizes of regular files: docker's SIZE.
    pub content_size: u64,
}

/// How much one layer may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest tar, and the longest sparse file with its holes, in bytes.
    pub max_tar_size: u64,
    /// The most entries.
    pub max_entries: u64,
    /// The most memory for the index, in bytes.
    pub max_index_memory: u64,
}

impl Default for Limits {
    /// Far above every real layer, and what an index can address.
    fn default() -> Self {
        Self {
            max_tar_size: 1 << 40,
            max_entries: 20_000_000,
            max_index_memory: 2 << 30,
        }
    }
}

/// Why a tar did not become a layer.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Reading the source failed.
    #[error("failed to read the layer")]
    Read(#[source] io::Error),
    /// A file of the layer cannot be written.
    #[error("failed to write `{}`", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// The source is not a tar, or a damaged one.
    #[error("malformed layer at byte {offset}")]
    Tar {
        /// Where reading stopped.
        offset: u64,
        /// What is wrong.
        #[source]
        source: TarError,
    },
    /// An entry cannot be part of a layer.
    #[error("invalid entry `{name}` in the layer")]
    Entry {
        /// The entry, as the tar names it, with escapes; cut when it is longer than any path part.
        name: String,
        /// What is wrong.
        #[source]
        source: EntryError,
    },
    /// The tar is longer than the limit.
    #[error("layer exceeds the limit of {0} bytes")]
    TooLarge(u64),
    /// There are more entries than the limit.
    #[error("layer exceeds the limit of {0} entries")]
    TooManyEntries(u64),
    /// The index cannot address all contents.
    #[error("layer is too large for an index")]
    IndexTooLarge,
}

/// Reads one layer's uncompressed tar to its end and leaves it, byte for byte, and its index in
/// `dir`, which exists. After an error `dir` may hold parts of both.
///
/// What the layer holds is what unpacking the entries in order would leave: later entries replace
/// earlier ones, a directory keeps its contents, and symbolic links of the layer itself are
/// followed inside of it. Bytes after the end marker belong to the tar.
pub fn ingest(tar: &mut dyn Read, dir: &Path, limits: &Limits) -> Result<Ingested, IngestError> {
    let layer = LayerDir::new(dir);
    let sink = TarSink::create(&layer.tar()).map_err(|source| IngestError::Write {
        path: layer.tar(),
        source,
    })?;
    read(tar, sink, &layer, limits)
}

/// Reads one layer's uncompressed tar to its end and leaves its index in `dir`, which exists.
pub(crate) fn index(tar: &mut dyn Read, dir: &Path) -> Result<Ingested, IngestError> {
    let layer = LayerDir::new(dir);
    read(tar, TarSink::nowhere(), &layer, &Limits::default())
}

fn read(
    tar: &mut dyn Read,
    sink: TarSink,
    layer: &LayerDir,
    limits: &Limits,
) -> Result<Ingested, IngestError> {
    let index = IndexWriter::create(&layer.index()).map_err(|source| IngestError::Write {
        path: layer.index(),
        source,
    })?;
    let mut ingest = Ingest {
        tee: Tee::new(tar, sink, limits.max_tar_size),
        reader: TarReader::default(),
        contents: Contents::new(limits.max_index_memory),
        index,
        layer: layer.clone(),
        limits: *limits,
        entries: 0,
        content_size: 0,
    };
    while ingest.entry()? {}
    ingest.finish()
}

struct Ingest<'a> {
    tee: Tee<'a>,
    reader: TarReader,
    contents: Contents,
    index: IndexWriter,
    layer: LayerDir,
    limits: Limits,
    entries: u64,
    content_size: u64,
}

impl Ingest<'_> {
    /// Takes in one entry; false when there is none.
    fn entry(&mut self) -> Result<bool, IngestError> {
        let next = self.reader.next(&mut self.tee);
        let Some(member) = next.map_err(|error| self.stream_error(error))? else {
            return Ok(false);
        };
        self.entries += 1;
        if self.entries > self.limits.max_entries {
            return Err(IngestError::TooManyEntries(self.limits.max_entries));
        }
        let size = match &member.content {
            Content::None => 0,
            Content::Plain { size } | Content::Sparse { size, .. } => *size,
        };
        self.content_size = self.content_size.saturating_add(size);
        let name = member.name.clone();
        let Member { content, .. } = &member;
        let data = self.data(content)?;
        let content = self.pass(content, data);
        let added = self.add(member, size, data);
        // What is wrong with an entry is told before what is wrong with its content.
        added.map_err(|source| IngestError::Entry {
            name: shown(&name),
            source,
        })?;
        content.map_err(|error| self.stream_error(error))?;
        Ok(true)
    }

    /// Finds where the content will be: in the tar, where it is in one piece, else in the index.
    fn data(&mut self, content: &Content) -> Result<Data, IngestError> {
        let Content::Sparse { size, .. } = content else {
            return Ok(Data::Tar(self.tee.offset()));
        };
        if *size > self.limits.max_tar_size {
            return Err(IngestError::TooLarge(self.limits.max_tar_size));
        }
        self.index
            .reserve(*size)
            .map(Data::Index)
            .ok_or(IngestError::IndexTooLarge)
    }

    fn pass(&mut self, content: &Content, data: Data) -> Result<(), StreamError> {
        match (content, data) {
            (Content::None, _) => Ok(()),
            (
                Content::Sparse {
                    segments, padded, ..
                },
                Data::Index(start),
            ) => {
                for segment in segments {
                    let mut offset = start + segment.offset;
                    self.tee.read(segment.length, &mut |piece| {
                        self.index.write_at(piece, offset)?;
                        offset += crate::size::on_disk(piece.len());
                        Ok(())
                    })?;
                }
                self.tee.skip_padding(*padded)
            }
            (Content::Plain { size: stored } | Content::Sparse { padded: stored, .. }, _) => {
                self.tee.skip(*stored)?;
                self.tee.skip_padding(*stored)
            }
        }
    }

    fn add(&mut self, member: Member, size: u64, data: Data) -> Result<(), EntryError> {
        match path::meaning(&member.name)? {
            Meaning::Nothing => Ok(()),
            Meaning::Whiteout(path) => self.contents.whiteout(&path),
            Meaning::Opaque(dir) => self.contents.opaque(&dir),
            Meaning::File(path) => self.contents.insert(&entry(member, path, size)?, data),
        }
    }

    fn finish(mut self) -> Result<Ingested, IngestError> {
        let (tar_path, index_path) = (self.layer.tar(), self.layer.index());
        self.contents.seal().map_err(|source| IngestError::Entry {
            name: "/".to_owned(),
            source,
        })?;
        let limit = self.limits.max_tar_size;
        let offset = self.tee.offset();
        let sink = self.tee.finish().map_err(|error| match error {
            StreamError::Read(source) => IngestError::Read(source),
            StreamError::Write(source) => IngestError::Write {
                path: tar_path.clone(),
                source,
            },
            StreamError::TooLarge => IngestError::TooLarge(limit),
            StreamError::Tar(source) => IngestError::Tar { offset, source },
        })?;
        let finished = sink.finish();
        let (diff_id, tar_size) = finished.map_err(|source| IngestError::Write {
            path: tar_path,
            source,
        })?;
        self.index
            .finish(&self.contents, tar_size)
            .map_err(|error| match error {
                IndexWriteError::Write(source) => IngestError::Write {
                    path: index_path,
                    source,
                },
                IndexWriteError::TooLarge => IngestError::IndexTooLarge,
            })?;
        let (entries, content_size) = (self.entries, self.content_size);
        Ok(Ingested {
            diff_id,
            tar_size,
            entries,
            content_size,
        })
    }

    fn stream_error(&self, error: StreamError) -> IngestError {
        match error {
            StreamError::Read(source) => IngestError::Read(source),
            StreamError::Write(source) => IngestError::Write {
                path: self.layer.tar(),
                source,
            },
            StreamError::TooLarge => IngestError::TooLarge(self.limits.max_tar_size),
            StreamError::Tar(source) => IngestError::Tar {
                offset: self.tee.offset(),
                source,
            },
        }
    }
}

/// Returns a name for a message: a tar may have one of a megabyte.
fn shown(name: &[u8]) -> String {
    match name.get(..MAX_SHOWN) {
        Some(start) if name.len() > MAX_SHOWN => format!("{}…", start.escape_ascii()),
        _ => name.escape_ascii().to_string(),
    }
}

fn entry(member: Member, path: Vec<u8>, size: u64) -> Result<Entry, EntryError> {
    let (major, minor) = member.device;
    let kind = match member.kind {
        MemberKind::File => EntryKind::File { size },
        MemberKind::Directory => EntryKind::Directory,
        MemberKind::Symlink => EntryKind::Symlink {
            target: member.link_name,
        },
        MemberKind::Hardlink => EntryKind::Hardlink {
            target: path::normalize(&member.link_name)?,
        },
        MemberKind::CharDevice => EntryKind::CharDevice { major, minor },
        MemberKind::BlockDevice => EntryKind::BlockDevice { major, minor },
        MemberKind::Fifo => EntryKind::Fifo,
    };
    let mut xattrs = member.xattrs;
    xattrs.retain(|name, _| xattr::is_kept(name));
    let Member {
        mode,
        uid,
        gid,
        mtime,
        ..
    } = member;
    Ok(Entry {
        path,
        kind,
        mode,
        uid,
        gid,
        mtime,
        xattrs,
    })
}
