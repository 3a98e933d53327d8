//! What is in a saved image: its configuration and its files, layers applied.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;
use tar::{Archive, Entry, EntryType};

/// An image read from a docker-archive.
pub(crate) struct Image {
    pub(crate) config: Value,
    /// By path, without slashes at its ends; the root is not in it.
    pub(crate) files: BTreeMap<String, Node>,
}

/// One file, without its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    kind: &'static str,
    mode: u32,
    owner: (u64, u64),
    content: Content,
    link: Option<String>,
    device: (u32, u32),
    xattrs: BTreeMap<String, Vec<u8>>,
}

impl Node {
    pub(crate) fn has_xattr(&self, name: &str) -> bool {
        self.xattrs.contains_key(name)
    }
}

/// The content of a regular file; a failed comparison shows its beginning only.
#[derive(Clone, Default, PartialEq, Eq)]
struct Content(Vec<u8>);

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head = String::from_utf8_lossy(&self.0[..self.0.len().min(60)]);
        write!(f, "{} bytes {head:?}", self.0.len())
    }
}

/// Reads the only image of the docker-archive `path`.
pub(crate) fn read(path: &Path) -> Image {
    let mut members = HashMap::new();
    let mut archive = Archive::new(File::open(path).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type() != EntryType::Regular {
            continue;
        }
        let name = name(&entry);
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        members.insert(name, content);
    }
    let manifest: Value = serde_json::from_slice(&members["manifest.json"]).unwrap();
    let images = manifest.as_array().unwrap();
    assert_eq!(images.len(), 1, "{}", path.display());
    let member = |name: &Value| &members[name.as_str().unwrap()];
    let config = serde_json::from_slice(member(&images[0]["Config"])).unwrap();
    let mut files = BTreeMap::new();
    for layer in images[0]["Layers"].as_array().unwrap() {
        apply(member(layer), &mut files);
    }
    Image { config, files }
}

/// Applies one layer as the image specification says: whiteouts hide what is below only.
fn apply(layer: &[u8], files: &mut BTreeMap<String, Node>) {
    let mut added = BTreeMap::new();
    let mut archive = Archive::new(layer);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = name(&entry);
        let (parent, last) = path.rsplit_once('/').unwrap_or(("", &path));
        if last == ".wh..wh..opq" {
            remove_below(files, parent);
        } else if let Some(hidden) = last.strip_prefix(".wh.") {
            let hidden = [parent, hidden].join("/");
            let hidden = hidden.trim_start_matches('/');
            remove_below(files, hidden);
            files.remove(hidden);
        } else if !path.is_empty() {
            let node = match entry.header().entry_type() {
                EntryType::Link => {
                    let target = link(&entry);
                    let target = target.trim_start_matches("./").trim_start_matches('/');
                    let node: Option<&Node> = added.get(target).or_else(|| files.get(target));
                    node.unwrap_or_else(|| panic!("{path}: no {target}"))
                        .clone()
                }
                _ => node(&mut entry),
            };
            if node.kind != "directory" {
                remove_below(files, &path);
            }
            added.insert(path, node);
        }
    }
    files.append(&mut added);
}

fn remove_below(files: &mut BTreeMap<String, Node>, directory: &str) {
    let below = format!("{directory}/");
    files.retain(|path, _| !directory.is_empty() && !path.starts_with(&below));
}

fn node<R: Read>(entry: &mut Entry<'_, R>) -> Node {
    let kind = match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous => "file",
        EntryType::Directory => "directory",
        EntryType::Symlink => "symlink",
        EntryType::Char => "character device",
        EntryType::Block => "block device",
        EntryType::Fifo => "fifo",
        other => panic!("{other:?}"),
    };
    let mut xattrs = BTreeMap::new();
    for record in entry.pax_extensions().unwrap().into_iter().flatten() {
        let record = record.unwrap();
        if let Some(name) = record.key().unwrap().strip_prefix("SCHILY.xattr.") {
            xattrs.insert(name.to_owned(), record.value_bytes().to_vec());
        }
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    let header = entry.header();
    let number = |value: std::io::Result<Option<u32>>| value.unwrap().unwrap_or(0);
    let is_link = kind == "symlink";
    let is_device = kind.ends_with("device");
    Node {
        kind,
        mode: header.mode().unwrap() & 0o7777,
        owner: (header.uid().unwrap(), header.gid().unwrap()),
        content: Content(content),
        link: is_link.then(|| link(entry)),
        device: match is_device {
            true => (number(header.device_major()), number(header.device_minor())),
            false => (0, 0),
        },
        xattrs,
    }
}

fn name<R: Read>(entry: &Entry<'_, R>) -> String {
    let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
    let name = name.trim_start_matches("./").trim_matches('/');
    name.strip_prefix('.')
        .filter(|rest| rest.is_empty())
        .unwrap_or(name)
        .to_owned()
}

fn link<R: Read>(entry: &Entry<'_, R>) -> String {
    let target = entry.link_name_bytes().unwrap().into_owned();
    String::from_utf8(target).unwrap()
}

/// Returns what differs, a line for each path.
pub(crate) fn differences(ours: &Image, theirs: &Image) -> Vec<String> {
    let mut lines = Vec::new();
    let paths = ours.files.keys().chain(theirs.files.keys());
    for path in paths.collect::<std::collections::BTreeSet<_>>() {
        let (our, their) = (ours.files.get(path), theirs.files.get(path));
        if our != their {
            lines.push(format!("{path}: ours {our:?}\n    theirs {their:?}"));
        }
    }
    lines
}
