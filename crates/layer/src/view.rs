//! The merged contents of a stack of layers.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};

use crate::contents::MAX_SYMLINKS;
use crate::erofs::Inode;
use crate::path::{components, join};
use crate::{Entry, EntryKind, Index, IndexError, LayerDir, Timestamp, size, xattr};

/// The merged contents of a stack of layers, read without mounting and without privileges.
///
/// It shows what an overlay mount of the stack shows: whiteouts and opaque directories hide what
/// is below, directories merge. A directory that a layer does not describe itself, because its
/// tar has no entry for it, shows the metadata of the one below.
#[derive(Debug)]
pub struct View {
    /// Bottom first.
    layers: Vec<Index>,
}

/// Which file this is: equal for all names of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// The layer that gives the file, 0 at the bottom.
    pub layer: usize,
    /// Its node number there.
    pub nid: u64,
}

/// A file of a [`View`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The file, under its resolved path. It is never a hard link, and carries no overlay
    /// attributes.
    pub entry: Entry,
    /// The number of names that the file has in its layer.
    pub nlink: u32,
    /// Which file this is.
    pub id: NodeId,
    /// The directories that merge into this one, top first, by layer. Empty for other files.
    parts: Vec<NodeId>,
    /// Whether the topmost part is implied while another gives the metadata.
    borrowed: bool,
}

/// Why a stack of layers cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// One layer is at fault.
    #[error("failed to read layer {layer}")]
    Layer {
        /// Its position, 0 at the bottom.
        layer: usize,
        /// What failed.
        #[source]
        source: IndexError,
    },
    /// A path leads through too many symbolic links.
    #[error("too many levels of symbolic links in `{}`", .path.escape_ascii())]
    SymlinkLoop {
        /// The path.
        path: Vec<u8>,
    },
    /// The path is no directory.
    #[error("`{}` is not a directory", .path.escape_ascii())]
    NotADirectory {
        /// The path.
        path: Vec<u8>,
    },
    /// The path is no regular file.
    #[error("`{}` is not a regular file", .path.escape_ascii())]
    NotAFile {
        /// The path.
        path: Vec<u8>,
    },
    /// The file is longer than the caller wants to read.
    #[error("`{}` has {size} bytes, more than the limit of {limit}", .path.escape_ascii())]
    TooLarge {
        /// The path.
        path: Vec<u8>,
        /// The length of the file.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The content of a file cannot be read.
    #[error("failed to read `{}`", .path.escape_ascii())]
    Read {
        /// The path.
        path: Vec<u8>,
        /// What failed.
        #[source]
        source: io::Error,
    },
}

/// What to do with a symbolic link at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Follow,
    Keep,
}

impl View {
    /// Opens `layers`, bottom first.
    pub fn open(layers: &[LayerDir]) -> Result<Self, ViewError> {
        let open = |(layer, dir)| Index::open(dir).map_err(at(layer));
        let layers = layers
            .iter()
            .enumerate()
            .map(open)
            .collect::<Result<_, _>>()?;
        Ok(Self { layers })
    }

    /// Returns the root directory. An empty stack has one too.
    pub fn root(&self) -> Result<Node, ViewError> {
        let mut found = Vec::new();
        for (layer, index) in self.layers.iter().enumerate().rev() {
            found.push((layer, index.root().map_err(at(layer))?));
        }
        match merge(Vec::new(), found) {
            Some(root) => Ok(root),
            None => Ok(Node {
                entry: Entry {
                    path: Vec::new(),
                    kind: EntryKind::Directory,
                    mode: 0o755,
                    uid: 0,
                    gid: 0,
                    mtime: Timestamp::default(),
                    xattrs: BTreeMap::new(),
                },
                nlink: 2,
                id: NodeId { layer: 0, nid: 0 },
                parts: Vec::new(),
                borrowed: false,
            }),
        }
    }

    /// Finds `path`, following symbolic links as if the root of the view were the root of the
    /// system: `..` and absolute targets cannot leave it.
    pub fn lookup(&self, path: &[u8]) -> Result<Option<Node>, ViewError> {
        self.walk(path, Last::Follow)
    }

    /// Finds `path` like [`View::lookup`], without following its last component.
    pub fn lookup_no_follow(&self, path: &[u8]) -> Result<Option<Node>, ViewError> {
        self.walk(path, Last::Keep)
    }

    /// Returns what is in `dir`, sorted by name, merged, with whiteouts applied.
    pub fn read_dir(&self, dir: &Node) -> Result<Vec<(Vec<u8>, Node)>, ViewError> {
        if dir.entry.kind != EntryKind::Directory {
            return Err(ViewError::NotADirectory {
                path: dir.entry.path.clone(),
            });
        }
        let mut names: BTreeMap<Vec<u8>, Vec<NodeId>> = BTreeMap::new();
        for part in &dir.parts {
            let (index, layer) = (&self.layers[part.layer], part.layer);
            let inode = index.inode(part.nid).map_err(at(layer))?;
            for (name, nid) in index.read_dir(&inode).map_err(at(layer))? {
                names.entry(name).or_default().push(NodeId { layer, nid });
            }
        }
        let mut nodes = Vec::with_capacity(names.len());
        for (name, found) in names {
            if let Some(node) = self.node(join(&dir.entry.path, &name), found)? {
                nodes.push((name, node));
            }
        }
        Ok(nodes)
    }

    /// Reads the content of a regular file.
    pub fn open_file(&self, file: &Node) -> Result<Box<dyn Read + Send>, ViewError> {
        if !matches!(file.entry.kind, EntryKind::File { .. }) {
            return Err(ViewError::NotAFile {
                path: file.entry.path.clone(),
            });
        }
        let NodeId { layer, nid } = file.id;
        let index = &self.layers[layer];
        let inode = index.inode(nid).map_err(at(layer))?;
        index.open_file(&inode).map_err(at(layer))
    }

    /// Reads a small file whole, following links; `None` when there is nothing of that path. A
    /// file longer than `limit` is an error, as is what is no file.
    pub fn read_file(&self, path: &[u8], limit: u64) -> Result<Option<Vec<u8>>, ViewError> {
        let Some(node) = self.lookup(path)? else {
            return Ok(None);
        };
        let EntryKind::File { size } = node.entry.kind else {
            return Err(ViewError::NotAFile {
                path: node.entry.path,
            });
        };
        if size > limit {
            return Err(ViewError::TooLarge {
                path: node.entry.path,
                size,
                limit,
            });
        }
        let mut bytes = Vec::with_capacity(size::in_memory(size));
        let read = self.open_file(&node)?.read_to_end(&mut bytes);
        read.map_err(|source| ViewError::Read {
            path: node.entry.path,
            source,
        })?;
        Ok(Some(bytes))
    }

    /// Returns the directories whose topmost part is implied while a lower one has the metadata,
    /// each after the directories above it, without the root; almost always none.
    ///
    /// An overlay mount takes a directory's metadata from its topmost part. To show these
    /// directories right, a mount of the stack needs one more layer on top that holds them: append
    /// them to a [`LayerWriter`](crate::LayerWriter) as they are.
    pub fn implied_directories(&self) -> Result<Vec<Node>, ViewError> {
        let mut needed = Vec::new();
        if self.layers.iter().any(Index::has_implied_directories) {
            self.find_implied(&self.root()?, &mut needed)?;
        }
        Ok(needed)
    }

    /// Goes only where layers have implied directories, which is seldom far.
    fn find_implied(&self, root: &Node, needed: &mut Vec<Node>) -> Result<(), ViewError> {
        let mut stack = vec![(root.clone(), 0)];
        // The way from the root to the directory at hand, and how much of it is in the result.
        let (mut way, mut told): (Vec<Node>, usize) = (Vec::new(), 0);
        while let Some((node, depth)) = stack.pop() {
            way.truncate(depth);
            told = told.min(depth);
            let children = self.read_dir(&node)?;
            let borrowed = node.borrowed && depth > 0;
            way.push(node);
            if depth == 0 {
                told = 1;
            }
            if borrowed {
                needed.extend_from_slice(&way[told..]);
                told = way.len();
            }
            let directories = children.into_iter().map(|(_, child)| child).rev();
            let directories = directories.filter(|child| child.parts.len() > 1 || child.borrowed);
            stack.extend(directories.map(|child| (child, depth + 1)));
        }
        Ok(())
    }

    fn walk(&self, path: &[u8], last: Last) -> Result<Option<Node>, ViewError> {
        let mut queue: VecDeque<Vec<u8>> = components(path).map(<[u8]>::to_vec).collect();
        let mut way = vec![self.root()?];
        let mut links = 0;
        while let Some(part) = queue.pop_front() {
            match part.as_slice() {
                b"." => continue,
                b".." => {
                    if way.len() > 1 {
                        way.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let Some(current) = way.last() else {
                return Ok(None);
            };
            let Some(child) = self.child(current, &part)? else {
                return Ok(None);
            };
            let is_last = queue.is_empty();
            match &child.entry.kind {
                EntryKind::Symlink { target } if !is_last || last == Last::Follow => {
                    links += 1;
                    if links > MAX_SYMLINKS {
                        return Err(ViewError::SymlinkLoop {
                            path: path.to_vec(),
                        });
                    }
                    if target.starts_with(b"/") {
                        way.truncate(1);
                    }
                    for part in components(target).rev() {
                        queue.push_front(part.to_vec());
                    }
                }
                EntryKind::Directory => way.push(child),
                _ if is_last => return Ok(Some(child)),
                _ => return Ok(None),
            }
        }
        Ok(way.pop())
    }

    fn child(&self, dir: &Node, name: &[u8]) -> Result<Option<Node>, ViewError> {
        let mut found = Vec::new();
        for part in &dir.parts {
            let (index, layer) = (&self.layers[part.layer], part.layer);
            let inode = index.inode(part.nid).map_err(at(layer))?;
            if let Some(nid) = index.lookup(&inode, name).map_err(at(layer))? {
                found.push(NodeId { layer, nid });
            }
        }
        self.node(join(&dir.entry.path, name), found)
    }

    fn node(&self, path: Vec<u8>, found: Vec<NodeId>) -> Result<Option<Node>, ViewError> {
        let mut inodes = Vec::with_capacity(found.len());
        for NodeId { layer, nid } in found {
            let inode = self.layers[layer].inode(nid).map_err(at(layer))?;
            let ends = !inode.is_directory();
            inodes.push((layer, inode));
            if ends {
                break;
            }
        }
        Ok(merge(path, inodes))
    }
}

/// Merges what the layers have at `path`, top first, into what is seen; `None` when that is
/// nothing.
fn merge(path: Vec<u8>, found: Vec<(usize, Inode)>) -> Option<Node> {
    let (_, top) = found.first()?;
    if top.is_whiteout() {
        return None;
    }
    let mut parts = Vec::new();
    let mut described = None;
    if top.is_directory() {
        let mut hidden = false;
        for (position, (layer, inode)) in found.iter().enumerate() {
            if !inode.is_directory() {
                break;
            }
            if described.is_none() && !inode.is_implied() {
                described = Some(position);
            }
            if !hidden {
                parts.push(NodeId {
                    layer: *layer,
                    nid: inode.nid,
                });
            }
            // What lies below an opaque directory can still describe it.
            hidden |= inode.is_opaque();
            if hidden && described.is_some() {
                break;
            }
        }
    }
    let chosen = described.unwrap_or(0);
    let (layer, inode) = found.into_iter().nth(chosen)?;
    let Inode {
        nid,
        nlink,
        mut entry,
        ..
    } = inode;
    entry.path = path;
    entry.xattrs.retain(|name, _| !xattr::is_overlay(name));
    Some(Node {
        entry,
        nlink,
        id: NodeId { layer, nid },
        parts,
        borrowed: chosen > 0,
    })
}

fn at(layer: usize) -> impl Fn(IndexError) -> ViewError {
    move |source| ViewError::Layer { layer, source }
}
