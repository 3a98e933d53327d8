//! A new layer, made from entries.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::contents::{Contents, Data};
use crate::erofs::{IndexWriteError, IndexWriter};
use crate::path::{self, Meaning};
use crate::sink::TarSink;
use crate::tar::{BLOCK_PADDING, END_MARKER, EncodeError, encode, padding};
use crate::{Entry, EntryError, EntryKind, Ingested, LayerDir, Limits, Timestamp, size, xattr};

/// Writes a new layer: tar, index and digest in one pass.
///
/// The same calls give the same bytes: ustar headers, with a PAX header before those that need
/// one, and no names of owners. Entries come parents first; a directory that is not appended
/// shows the one of the layer below. After an error, the files in the directory are of no use.
///
/// ```no_run
/// # use layer::{Entry, EntryKind, LayerWriter, Timestamp};
/// # fn write(dir: &std::path::Path) -> Result<(), layer::WriteError> {
/// let mut writer = LayerWriter::create(dir)?;
/// let hello = Entry {
///     path: b"etc/hello".to_vec(),
///     kind: EntryKind::File { size: 5 },
///     mode: 0o644,
///     uid: 0,
///     gid: 0,
///     mtime: Timestamp::default(),
///     xattrs: Default::default(),
/// };
/// writer.append(&hello, &mut &b"hello"[..])?;
/// writer.whiteout(b"etc/motd")?;
/// let layer = writer.finish()?;
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LayerWriter {
    layer: LayerDir,
    sink: TarSink,
    index: IndexWriter,
    contents: Contents,
    /// Where the next header begins in the tar.
    offset: u64,
    entries: u64,
    content_size: u64,
}

/// Why a layer was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file of the layer cannot be written.
    #[error("failed to write `{}`", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// The content of an entry cannot be read, or ends before the size that the entry names.
    #[error("failed to read the content of `{}`", .path.escape_ascii())]
    Content {
        /// The entry.
        path: Vec<u8>,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// An entry cannot be part of a layer.
    #[error("invalid entry `{}`", .path.escape_ascii())]
    Entry {
        /// The entry.
        path: Vec<u8>,
        /// What is wrong.
        #[source]
        source: EntryError,
    },
    /// The name of a file is one that tars use for whiteouts.
    #[error("file name `{}` is reserved for whiteouts", .path.escape_ascii())]
    ReservedName {
        /// The entry.
        path: Vec<u8>,
    },
    /// The extended attributes of an entry do not fit a tar header.
    #[error("extended attributes of `{}` do not fit a tar header", .path.escape_ascii())]
    Xattrs {
        /// The entry.
        path: Vec<u8>,
    },
    /// The index cannot address all contents.
    #[error("layer is too large for an index")]
    IndexTooLarge,
}

impl LayerWriter {
    /// Begins a layer in `dir`, which exists.
    pub fn create(dir: &Path) -> Result<Self, WriteError> {
        let layer = LayerDir::new(dir);
        let failed = |path: PathBuf| move |source| WriteError::Write { path, source };
        let sink = TarSink::create(&layer.tar()).map_err(failed(layer.tar()))?;
        let index = IndexWriter::create(&layer.index()).map_err(failed(layer.index()))?;
        let contents = Contents::new(Limits::default().max_index_memory);
        Ok(Self {
            layer,
            sink,
            index,
            contents,
            offset: 0,
            entries: 0,
            content_size: 0,
        })
    }

    /// Adds an entry. `content` is read to exactly the size that the entry names, and not at all
    /// unless it is a file. Extended attributes that overlayfs gives a meaning are left out.
    pub fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), WriteError> {
        match path::meaning(&entry.path) {
            Ok(Meaning::File(path)) if path == entry.path => {}
            Ok(_) | Err(EntryError::InvalidWhiteout) => {
                return Err(WriteError::ReservedName {
                    path: entry.path.clone(),
                });
            }
            Err(source) => return Err(invalid(&entry.path, source)),
        }
        if entry.xattrs.keys().all(|name| xattr::is_kept(name)) {
            return self.add(entry, content);
        }
        let mut entry = entry.clone();
        entry.xattrs.retain(|name, _| xattr::is_kept(name));
        self.add(&entry, content)
    }

    /// Hides `path` of the layers below.
    pub fn whiteout(&mut self, path: &[u8]) -> Result<(), WriteError> {
        self.contents
            .whiteout(path)
            .map_err(|source| invalid(path, source))?;
        self.mark(path::whiteout(path))
    }

    /// Hides everything in the directory `dir` of the layers below. Its own entry, if any, comes
    /// before.
    pub fn opaque(&mut self, dir: &[u8]) -> Result<(), WriteError> {
        self.contents
            .opaque(dir)
            .map_err(|source| invalid(dir, source))?;
        self.mark(path::opaque(dir))
    }

    /// Ends the layer.
    pub fn finish(mut self) -> Result<Ingested, WriteError> {
        self.write(&END_MARKER)?;
        let Self {
            layer,
            sink,
            index,
            mut contents,
            entries,
            content_size,
            ..
        } = self;
        contents.seal().map_err(|source| WriteError::Entry {
            path: Vec::new(),
            source,
        })?;
        let finished = sink.finish();
        let (diff_id, tar_size) = finished.map_err(|source| WriteError::Write {
            path: layer.tar(),
            source,
        })?;
        index
            .finish(&contents, tar_size)
            .map_err(|error| match error {
                IndexWriteError::Write(source) => WriteError::Write {
                    path: layer.index(),
                    source,
                },
                IndexWriteError::TooLarge => WriteError::IndexTooLarge,
            })?;
        Ok(Ingested {
            diff_id,
            tar_size,
            entries,
            content_size,
        })
    }

    fn add(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), WriteError> {
        let header = self.header(entry)?;
        let data = Data::Tar(self.offset + size::on_disk(header.len()));
        let inserted = self.contents.insert(entry, data);
        inserted.map_err(|source| invalid(&entry.path, source))?;
        self.write(&header)?;
        self.entries += 1;
        if let EntryKind::File { size } = entry.kind {
            self.content(&entry.path, size, content)?;
        }
        Ok(())
    }

    /// Writes an empty file that stands for something. Its metadata means nothing.
    fn mark(&mut self, path: Vec<u8>) -> Result<(), WriteError> {
        let entry = Entry {
            path,
            kind: EntryKind::File { size: 0 },
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: BTreeMap::new(),
        };
        let header = self.header(&entry)?;
        self.write(&header)?;
        self.entries += 1;
        Ok(())
    }

    fn header(&self, entry: &Entry) -> Result<Vec<u8>, WriteError> {
        encode(entry).map_err(|error| match error {
            EncodeError::XattrName | EncodeError::TooLong => WriteError::Xattrs {
                path: entry.path.clone(),
            },
        })
    }

    fn content(
        &mut self,
        path: &[u8],
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), WriteError> {
        let failed = |source| WriteError::Content {
            path: path.to_vec(),
            source,
        };
        let mut left = size;
        while left > 0 {
            let space = self.sink.space();
            let space = space.map_err(|source| failed_tar(&self.layer, source))?;
            let limit = usize::try_from(left).map_or(space.len(), |left| left.min(space.len()));
            let length = match content.read(&mut space[..limit]) {
                Ok(0) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            self.sink.advance(length);
            left -= size::on_disk(length);
        }
        self.offset += size;
        self.content_size += size;
        self.write(&BLOCK_PADDING[..padding(size)])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let written = self.sink.write(bytes);
        written.map_err(|source| failed_tar(&self.layer, source))?;
        self.offset += size::on_disk(bytes.len());
        Ok(())
    }
}

fn invalid(path: &[u8], source: EntryError) -> WriteError {
    WriteError::Entry {
        path: path.to_vec(),
        source,
    }
}

fn failed_tar(layer: &LayerDir, source: io::Error) -> WriteError {
    WriteError::Write {
        path: layer.tar(),
        source,
    }
}
