//! Where `COPY` reads: the build context, or the layers of a stage or image.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use layer::{EntryKind, Node, Timestamp, View};
use oci::{Digest, Hasher};

use super::CopyError;
use crate::context::{self, Context, ContextFile, Digests};

/// Where files are read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// The build context.
    Context(&'a Digests<'a>),
    /// Layers.
    Layers(&'a View),
}

/// A file that may be copied.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile {
    /// The type; never a hard link.
    pub(crate) kind: EntryKind,
    /// At most `0o7777`.
    pub(crate) mode: u32,
    /// The owner; root for the context.
    pub(crate) uid: u32,
    /// The group; root for the context.
    pub(crate) gid: u32,
    /// When the content changed.
    pub(crate) mtime: Timestamp,
    /// Extended attributes; none for the context.
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Equal for all names of a file that has several.
    pub(crate) group: Option<(u64, u64)>,
    /// The bytes of a regular file.
    pub(crate) content: Content,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Nowhere: it is no regular file.
    None,
    /// In the context.
    Context(Arc<ContextFile>),
    /// In another directory, listed for this copy.
    Listed(Arc<Context>, Arc<ContextFile>),
    /// In a layer.
    Layer(Box<Node>),
    /// In a file of ours, from this offset.
    Spooled(Arc<File>, u64),
    /// Here.
    Inline(Arc<[u8]>),
}

impl Source<'_> {
    /// Returns what messages call it.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Context(_) => "context",
            Self::Layers(_) => "stage",
        }
    }

    /// Finds `path`, following symbolic links, the last one too.
    pub(crate) fn lookup(&self, path: &[u8]) -> Result<Option<Located>, CopyError> {
        Ok(match self {
            Self::Context(digests) => digests.context().lookup(path)?.map(Located::Context),
            Self::Layers(view) => view
                .lookup(path)?
                .map(|node| Located::Layer(Box::new(node))),
        })
    }

    /// Is told that all that is in a directory, and below, will be asked for.
    pub(crate) fn prepare(&self, directory: &Located) {
        if let (Self::Context(digests), Located::Context(directory)) = (self, directory) {
            digests.context().list_below(&directory.path);
        }
    }

    /// Returns what is in a directory, sorted by name.
    pub(crate) fn read_dir(
        &self,
        directory: &Located,
    ) -> Result<Vec<(Vec<u8>, Located)>, CopyError> {
        match (self, directory) {
            (Self::Context(digests), Located::Context(directory)) => {
                let skip = match directory.path.len() {
                    0 => 0,
                    length => length + 1,
                };
                let listing = digests.context().list(&directory.path)?;
                let named = |file: &Arc<ContextFile>| {
                    (file.path[skip..].to_vec(), Located::Context(file.clone()))
                };
                Ok(listing.iter().map(named).collect())
            }
            (Self::Layers(view), Located::Layer(directory)) => {
                let children = view.read_dir(directory)?;
                let named = |(name, node)| (name, Located::Layer(Box::new(node)));
                Ok(children.into_iter().map(named).collect())
            }
            (Self::Context(_), Located::Layer(_)) | (Self::Layers(_), Located::Context(_)) => {
                Ok(Vec::new())
            }
        }
    }

    /// Returns the digests of the regular files among `files`, in order.
    pub(crate) fn digests(&self, files: &[&SourceFile]) -> Result<Vec<Option<Digest>>, CopyError> {
        let from_context = |file: &&SourceFile| match &file.content {
            Content::Context(file) => Some(file.clone()),
            _ => None,
        };
        let wanted: Vec<Arc<ContextFile>> = files.iter().filter_map(from_context).collect();
        let mut known = match self {
            Self::Context(digests) => {
                let wanted: Vec<&ContextFile> = wanted.iter().map(AsRef::as_ref).collect();
                digests.of(&wanted)?
            }
            Self::Layers(_) => Vec::new(),
        }
        .into_iter();
        let mut result = Vec::with_capacity(files.len());
        for file in files {
            result.push(match &file.content {
                Content::None => None,
                Content::Context(_) => known.next(),
                Content::Inline(bytes) => Some(Digest::of(bytes)),
                Content::Listed(..) | Content::Layer(_) | Content::Spooled(..) => {
                    let mut digest = None;
                    self.stream(&file.content, &mut |reader| {
                        digest = Some(hash(reader).map_err(CopyError::Scratch)?);
                        Ok(())
                    })?;
                    digest
                }
            });
        }
        Ok(result)
    }

    /// Gives the bytes of a regular file to `sink`; an error when they are not those that were
    /// listed.
    pub(crate) fn stream(
        &self,
        content: &Content,
        sink: &mut dyn FnMut(&mut dyn Read) -> Result<(), CopyError>,
    ) -> Result<(), CopyError> {
        match (content, self) {
            (Content::Context(listed), Self::Context(digests)) => {
                let mut opened = digests.context().open_file(listed)?;
                sink(&mut opened)?;
                Ok(context::check_unchanged(&opened, listed)?)
            }
            (Content::Listed(directory, listed), _) => {
                let mut opened = directory.open_file(listed)?;
                sink(&mut opened)?;
                Ok(context::check_unchanged(&opened, listed)?)
            }
            (Content::Layer(node), Self::Layers(view)) => sink(&mut view.open_file(node)?),
            (Content::Spooled(file, offset), _) => sink(&mut At(file, *offset)),
            (Content::Inline(bytes), _) => sink(&mut Cursor::new(bytes)),
            (Content::None | Content::Context(_) | Content::Layer(_), _) => sink(&mut io::empty()),
        }
    }
}

/// A file of a source, as the source knows it.
#[derive(Debug, Clone)]
pub(crate) enum Located {
    /// Of the context.
    Context(Arc<ContextFile>),
    /// Of layers.
    Layer(Box<Node>),
}

impl Located {
    /// Tells whether it is a directory.
    pub(crate) fn is_directory(&self) -> bool {
        let kind = match self {
            Self::Context(file) => &file.kind,
            Self::Layer(node) => &node.entry.kind,
        };
        *kind == EntryKind::Directory
    }

    /// Returns it as a file to copy.
    pub(crate) fn into_file(self) -> SourceFile {
        match self {
            Self::Context(file) => SourceFile {
                kind: file.kind.clone(),
                mode: file.mode,
                uid: 0,
                gid: 0,
                mtime: file.mtime,
                xattrs: BTreeMap::new(),
                group: (file.nlink > 1).then_some(file.inode),
                content: match file.kind {
                    EntryKind::File { .. } => Content::Context(file),
                    _ => Content::None,
                },
            },
            Self::Layer(node) => SourceFile {
                kind: node.entry.kind.clone(),
                mode: node.entry.mode,
                uid: node.entry.uid,
                gid: node.entry.gid,
                mtime: node.entry.mtime,
                xattrs: node.entry.xattrs.clone(),
                group: (node.nlink > 1).then(|| {
                    let layer = u64::try_from(node.id.layer).unwrap_or(u64::MAX);
                    (layer, node.id.nid)
                }),
                content: match node.entry.kind {
                    EntryKind::File { .. } => Content::Layer(node),
                    _ => Content::None,
                },
            },
        }
    }
}

/// Reads a file from an offset without moving its position.
struct At<'a>(&'a File, u64);

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.read_at(buffer, self.1)?;
        self.1 += u64::try_from(length).unwrap_or_default();
        Ok(length)
    }
}

/// Reads to the end and returns the digest of what was read.
pub(super) fn hash(reader: &mut dyn Read) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(length) => hasher.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
