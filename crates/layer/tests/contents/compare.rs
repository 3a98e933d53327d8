//! Trees as plain values, however they are read.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use layer::{EntryKind, Ingested, LayerDir, Limits, Node, View};
use oci::Digest;
use tempfile::TempDir;

/// All that is known of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: &'static str,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, i64),
    pub(crate) links: u64,
    pub(crate) size: u64,
    pub(crate) device: (u32, u32),
    pub(crate) target: Vec<u8>,
    pub(crate) content: Option<Digest>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Files by path; the root has the empty one.
pub(crate) type Tree = BTreeMap<String, Seen>;

/// A layer in a directory of its own.
#[derive(Debug)]
pub(crate) struct Layer {
    path: PathBuf,
    _temp: TempDir,
    pub(crate) ingested: Ingested,
}

impl Layer {
    pub(crate) fn of(tar: &[u8]) -> Self {
        Self::try_of(tar).expect("a good tar")
    }

    pub(crate) fn try_of(mut tar: &[u8]) -> Result<Self, layer::IngestError> {
        let temp = tempfile::tempdir().unwrap();
        let scratch = temp.path().join("scratch");
        fs::create_dir(&scratch).unwrap();
        let ingested = layer::ingest(&mut tar, &scratch, &Limits::default())?;
        let path = temp.path().join(ingested.diff_id.digest().hex());
        fs::rename(scratch, &path).unwrap();
        Ok(Self {
            path,
            ingested,
            _temp: temp,
        })
    }

    pub(crate) fn dir(&self) -> LayerDir {
        LayerDir::new(&self.path)
    }

    pub(crate) fn view(&self) -> View {
        View::open(&[self.dir()]).unwrap()
    }

    /// Reads the layer through a mount of its index.
    pub(crate) fn mounted(&self) -> Tree {
        let at = tempfile::tempdir().unwrap();
        let mount = sys::Mount::erofs(&self.dir().index(), &self.dir().tar()).unwrap();
        mount.attach(at.path()).unwrap();
        drop(mount);
        let tree = of_directory(at.path());
        sys::unmount(at.path(), sys::Unmount::Now).unwrap();
        tree
    }
}

impl Layer {
    /// Reads the layer in its unpacked form.
    pub(crate) fn unpacked(&self) -> Tree {
        layer::tree::unpack(&self.dir()).unwrap();
        let mut tree = of_directory(&self.dir().tree());
        for seen in tree.values_mut() {
            seen.xattrs
                .retain(|name, _| !name.starts_with(b"user.overlay."));
        }
        tree
    }
}

/// Returns what GNU tar makes of `tar`.
pub(crate) fn extracted(tar: &[u8]) -> Tree {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("in.tar");
    let to = temp.path().join("to");
    fs::write(&file, tar).unwrap();
    fs::create_dir(&to).unwrap();
    let status = Command::new("tar")
        .args([
            "--xattrs",
            "--xattrs-include=*",
            "--numeric-owner",
            "--same-owner",
            "-p",
            "--delay-directory-restore",
        ])
        .args(["-i", "--warning=none", "-xf"])
        .arg(&file)
        .arg("-C")
        .arg(&to)
        .status()
        .unwrap();
    assert!(status.success());
    of_directory(&to)
}

/// Reads a tree from the file system.
pub(crate) fn of_directory(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut queue = vec![root.to_path_buf()];
    while let Some(path) = queue.pop() {
        let seen = of_file(&path);
        if seen.kind == "directory" {
            let children = fs::read_dir(&path).unwrap();
            queue.extend(children.map(|child| child.unwrap().path()));
        }
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
        tree.insert(name.escape_ascii().to_string(), seen);
    }
    tree
}

fn of_file(path: &PathBuf) -> Seen {
    let metadata = fs::symlink_metadata(path).unwrap();
    let file_type = metadata.file_type();
    let mut target = Vec::new();
    let mut content = None;
    let kind = if file_type.is_dir() {
        "directory"
    } else if file_type.is_symlink() {
        target = fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec();
        "symlink"
    } else if file_type.is_char_device() {
        "char device"
    } else if file_type.is_block_device() {
        "block device"
    } else if file_type.is_fifo() {
        "fifo"
    } else {
        content = Some(Digest::of(&fs::read(path).unwrap()));
        "file"
    };
    let is_device = kind.ends_with("device");
    let major = rustix::fs::major(metadata.rdev());
    let minor = rustix::fs::minor(metadata.rdev());
    Seen {
        kind,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        links: metadata.nlink(),
        size: if kind == "file" { metadata.size() } else { 0 },
        device: if is_device { (major, minor) } else { (0, 0) },
        target,
        content,
        xattrs: sys::xattr::all(path).unwrap(),
    }
}

/// Reads a tree through a view.
pub(crate) fn of_view(view: &View) -> Tree {
    let mut tree = Tree::new();
    let mut queue = vec![view.root().unwrap()];
    while let Some(node) = queue.pop() {
        tree.insert(
            node.entry.path.escape_ascii().to_string(),
            of_node(view, &node),
        );
        if node.entry.kind == EntryKind::Directory {
            queue.extend(
                view.read_dir(&node)
                    .unwrap()
                    .into_iter()
                    .map(|(_, child)| child),
            );
        }
    }
    tree
}

fn of_node(view: &View, node: &Node) -> Seen {
    let mut seen = Seen {
        kind: "",
        mode: node.entry.mode,
        owner: (node.entry.uid, node.entry.gid),
        mtime: (
            node.entry.mtime.seconds,
            i64::from(node.entry.mtime.nanoseconds),
        ),
        links: u64::from(node.nlink),
        size: 0,
        device: (0, 0),
        target: Vec::new(),
        content: None,
        xattrs: node.entry.xattrs.clone(),
    };
    match &node.entry.kind {
        EntryKind::File { size } => {
            let mut content = Vec::new();
            view.open_file(node)
                .unwrap()
                .read_to_end(&mut content)
                .unwrap();
            seen.content = Some(Digest::of(&content));
            (seen.kind, seen.size) = ("file", *size);
        }
        EntryKind::Directory => seen.kind = "directory",
        EntryKind::Symlink { target } => {
            seen.target.clone_from(target);
            seen.kind = "symlink";
        }
        EntryKind::CharDevice { major, minor } => {
            (seen.kind, seen.device) = ("char device", (*major, *minor));
        }
        EntryKind::BlockDevice { major, minor } => {
            (seen.kind, seen.device) = ("block device", (*major, *minor));
        }
        EntryKind::Fifo => seen.kind = "fifo",
        EntryKind::Hardlink { .. } => unreachable!("a node is never a hard link"),
    }
    seen
}

/// Compares trees path by path, for a readable failure.
pub(crate) fn assert_same(found: &Tree, expected: &Tree, what: &str) {
    let paths: Vec<&String> = found.keys().collect();
    let expected_paths: Vec<&String> = expected.keys().collect();
    assert_eq!(paths, expected_paths, "{what}");
    for (path, seen) in found {
        assert_eq!(Some(seen), expected.get(path), "{what}: {path}");
    }
}
