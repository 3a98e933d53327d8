//! The files of a layer as plain values, however they are read.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use layer::{Entry, EntryKind, Index, LayerDir, Timestamp};

/// All that is known of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Without its path.
    pub(crate) entry: Entry,
    pub(crate) links: u64,
    pub(crate) content: Vec<u8>,
    /// Equal for all names of one file.
    pub(crate) id: u64,
}

/// Files by path; the root has the empty one.
pub(crate) type Tree = BTreeMap<Vec<u8>, Seen>;

/// The most bytes of a file that are read: sparse ones may have a terabyte.
const MAX_READ: u64 = 1 << 20;

/// Reads a layer that was just written through its index. Nothing of it may fail.
pub(crate) fn of_index(layer: &LayerDir) -> Tree {
    let index = Index::open(layer).expect("an index that was just written");
    let mut queue = vec![(Vec::new(), index.root().expect("a root"))];
    let mut tree = Tree::new();
    while let Some((path, inode)) = queue.pop() {
        let mut content = Vec::new();
        match &inode.entry.kind {
            EntryKind::File { .. } => {
                let reader = index.open_file(&inode).expect("a file");
                let read = reader.take(MAX_READ).read_to_end(&mut content);
                read.expect("its content");
            }
            EntryKind::Directory => {
                for (name, nid) in index.read_dir(&inode).expect("a directory") {
                    let child = index.inode(nid).expect("an inode");
                    queue.push((join(&path, &name), child));
                }
            }
            _ => {}
        }
        let seen = Seen {
            links: u64::from(inode.nlink),
            entry: inode.entry,
            content,
            id: inode.nid,
        };
        let twice = tree.insert(path, seen);
        assert!(twice.is_none(), "a path is there twice");
    }
    tree
}

/// Reads a tree from the file system.
pub(crate) fn of_directory(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut queue = vec![root.to_path_buf()];
    while let Some(path) = queue.pop() {
        let seen = of_file(&path);
        if seen.entry.kind == EntryKind::Directory {
            let children = fs::read_dir(&path).expect("a directory");
            queue.extend(children.map(|child| child.expect("an entry").path()));
        }
        let name = path.strip_prefix(root).expect("below").as_os_str();
        tree.insert(name.as_bytes().to_vec(), seen);
    }
    tree
}

fn of_file(path: &Path) -> Seen {
    let metadata = fs::symlink_metadata(path).expect("a file");
    let file_type = metadata.file_type();
    let device = metadata.rdev();
    // As glibc has it: twelve bits of major number, twenty of minor, interleaved.
    let major = u32::try_from((device >> 8) & 0xfff).expect("12 bits");
    let minor = u32::try_from((device & 0xff) | ((device >> 12) & 0xf_ff00)).expect("20 bits");
    let mut content = Vec::new();
    let kind = if file_type.is_dir() {
        EntryKind::Directory
    } else if file_type.is_symlink() {
        let target = fs::read_link(path).expect("a link");
        let target = target.as_os_str().as_bytes().to_vec();
        EntryKind::Symlink { target }
    } else if file_type.is_char_device() {
        EntryKind::CharDevice { major, minor }
    } else if file_type.is_block_device() {
        EntryKind::BlockDevice { major, minor }
    } else if file_type.is_fifo() {
        EntryKind::Fifo
    } else {
        content = fs::read(path).expect("content");
        EntryKind::File {
            size: metadata.size(),
        }
    };
    Seen {
        entry: Entry {
            path: Vec::new(),
            kind,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime: Timestamp {
                seconds: metadata.mtime(),
                nanoseconds: u32::try_from(metadata.mtime_nsec()).expect("nanoseconds"),
            },
            xattrs: sys::xattr::all(path).expect("attributes"),
        },
        links: metadata.nlink(),
        content,
        id: metadata.ino(),
    }
}

/// Panics where the trees differ, and where names that have one file in one tree do not in the
/// other.
pub(crate) fn assert_same(found: &Tree, expected: &Tree) {
    let paths = |tree: &Tree| -> Vec<String> {
        let paths = tree.keys().map(|path| path.escape_ascii().to_string());
        paths.collect()
    };
    assert_eq!(paths(found), paths(expected));
    let mut ids = (BTreeMap::new(), BTreeMap::new());
    for ((path, found), expected) in found.iter().zip(expected.values()) {
        let path = path.escape_ascii();
        assert_eq!(found.entry, expected.entry, "{path}");
        assert_eq!(found.links, expected.links, "links of {path}");
        assert!(found.content == expected.content, "content of {path}");
        let there = *ids.0.entry(found.id).or_insert(expected.id);
        let back = *ids.1.entry(expected.id).or_insert(found.id);
        assert_eq!((there, back), (expected.id, found.id), "{path} is one file");
    }
}

pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    match parent.is_empty() {
        true => name.to_vec(),
        false => [parent, b"/", name].concat(),
    }
}
