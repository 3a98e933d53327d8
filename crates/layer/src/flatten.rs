//! A stack of layers as one tar without layers.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use crate::tar::{BLOCK_PADDING, END_MARKER, encode, padding};
use crate::{Entry, EntryKind, Node, NodeId, View, ViewError, size};

/// Why a stack was not written as one tar.
#[derive(Debug, thiserror::Error)]
pub enum FlattenError {
    /// The layers cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The content of a file cannot be read, or ends too early.
    #[error("failed to read the content of `{}`", .path.escape_ascii())]
    Content {
        /// The file.
        path: Vec<u8>,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// The extended attributes of a file do not fit a tar header.
    #[error("extended attributes of `{}` do not fit a tar header", .path.escape_ascii())]
    Xattrs {
        /// The file.
        path: Vec<u8>,
    },
    /// The tar cannot be written.
    #[error("failed to write the tar")]
    Write(#[source] io::Error),
}

/// Writes what `view` shows to `output`: parents first, names sorted, the root itself left out.
/// The second name of a file is a hard link to the first. The same view gives the same bytes.
pub fn flatten(view: &View, output: &mut dyn Write) -> Result<(), FlattenError> {
    Flat::new(view, &[], output).directory(&view.root()?)?;
    output.write_all(&END_MARKER).map_err(FlattenError::Write)
}

/// Writes several views to one tar, each into a directory of its own.
pub fn flatten_into(views: &[(String, View)], output: &mut dyn Write) -> Result<(), FlattenError> {
    for (directory, view) in views {
        let top = Entry {
            path: directory.clone().into_bytes(),
            kind: EntryKind::Directory,
            mode: DIRECTORY_MODE,
            ..view.root()?.entry
        };
        Flat::new(view, &[], output).header(&top)?;
        let prefix = format!("{directory}/");
        Flat::new(view, prefix.as_bytes(), output).directory(&view.root()?)?;
    }
    output.write_all(&END_MARKER).map_err(FlattenError::Write)
}

/// The mode of a directory that holds a view.
const DIRECTORY_MODE: u32 = 0o755;

struct Flat<'a> {
    view: &'a View,
    output: &'a mut dyn Write,
    /// What stands before the names.
    prefix: &'a [u8],
    /// The first names of files that have several.
    names: HashMap<NodeId, Vec<u8>>,
}

impl<'a> Flat<'a> {
    fn new(view: &'a View, prefix: &'a [u8], output: &'a mut dyn Write) -> Self {
        Self {
            view,
            output,
            prefix,
            names: HashMap::new(),
        }
    }

    fn directory(&mut self, directory: &Node) -> Result<(), FlattenError> {
        // A stack instead of recursion: images choose how deep they nest.
        let mut pending = vec![self.view.read_dir(directory)?.into_iter()];
        while let Some(entries) = pending.last_mut() {
            let Some((_, node)) = entries.next() else {
                pending.pop();
                continue;
            };
            self.node(&node)?;
            if node.entry.kind == EntryKind::Directory {
                pending.push(self.view.read_dir(&node)?.into_iter());
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &Node) -> Result<(), FlattenError> {
        let entry = &node.entry;
        if node.nlink > 1 && entry.kind != EntryKind::Directory {
            if let Some(first) = self.names.get(&node.id) {
                let link = Entry {
                    kind: EntryKind::Hardlink {
                        target: first.clone(),
                    },
                    ..entry.clone()
                };
                return self.header(&link);
            }
            self.names.insert(node.id, entry.path.clone());
        }
        self.header(entry)?;
        if let EntryKind::File { size } = entry.kind {
            self.content(node, size)?;
        }
        Ok(())
    }

    fn header(&mut self, entry: &Entry) -> Result<(), FlattenError> {
        let named = (!self.prefix.is_empty()).then(|| self.prefixed(entry));
        let header = encode(named.as_ref().unwrap_or(entry)).map_err(|_| FlattenError::Xattrs {
            path: entry.path.clone(),
        })?;
        self.output.write_all(&header).map_err(FlattenError::Write)
    }

    fn prefixed(&self, entry: &Entry) -> Entry {
        let mut entry = entry.clone();
        let path = std::mem::take(&mut entry.path);
        entry.path = [self.prefix, &path].concat();
        if let EntryKind::Hardlink { target } = &mut entry.kind {
            *target = [self.prefix, target].concat();
        }
        entry
    }

    fn content(&mut self, node: &Node, length: u64) -> Result<(), FlattenError> {
        let failed = |source| FlattenError::Content {
            path: node.entry.path.clone(),
            source,
        };
        let mut content = self.view.open_file(node)?.take(length);
        let mut buffer = vec![0; size::in_memory(length.clamp(1, 1 << 20))];
        let mut left = length;
        while left > 0 {
            let read = match content.read(&mut buffer) {
                Ok(0) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            self.output
                .write_all(&buffer[..read])
                .map_err(FlattenError::Write)?;
            left -= size::on_disk(read);
        }
        self.output
            .write_all(&BLOCK_PADDING[..padding(length)])
            .map_err(FlattenError::Write)
    }
}
