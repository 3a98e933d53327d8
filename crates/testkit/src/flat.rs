//! What is in a saved image: its configuration and its files, layers applied.
//!
//! None of the project's own readers is used, so that it can judge what they wrote.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;
use tar::{Archive, Entry, EntryType};

/// How compressed layers begin.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// An image read from a docker-archive.
#[derive(Debug)]
pub struct Image {
    /// Its configuration.
    pub config: Value,
    /// By path, without slashes at its ends; bytes that are no text are escaped. The root is not in it.
    pub files: BTreeMap<String, Node>,
}

/// One file, without its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    kind: &'static str,
    mode: u32,
    owner: (u64, u64),
    content: Content,
    link: Option<String>,
    device: (u32, u32),
    xattrs: BTreeMap<String, Vec<u8>>,
    /// The path that this one is a hard link to, in the layer that has both.
    twin: Option<String>,
}

impl Node {
    /// Tells whether the file has the extended attribute `name`.
    pub fn has_xattr(&self, name: &str) -> bool {
        self.xattrs.contains_key(name)
    }

    /// Forgets the content, for files that are never the same twice.
    pub fn forget_content(&mut self) {
        self.content = Content::default();
    }
}

/// The content of a regular file; a failed comparison shows its beginning only.
#[derive(Clone, Default, PartialEq, Eq)]
struct Content(Vec<u8>);

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = String::from_utf8_lossy(&self.0[..self.0.len().min(60)]);
        write!(f, "{} bytes {head:?}", self.0.len())
    }
}

/// Reads the only image of the docker-archive `path`.
///
/// # Panics
///
/// When the archive is damaged or has another number of images.
pub fn read(path: &Path) -> Image {
    let mut members = HashMap::new();
    let mut archive = Archive::new(File::open(path).expect("the archive is there"));
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an archive");
        if entry.header().entry_type() != EntryType::Regular {
            continue;
        }
        let name = name(&entry);
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("a whole archive");
        members.insert(name, content);
    }
    let manifest: Value = serde_json::from_slice(&members["manifest.json"]).expect("a manifest");
    let images = manifest.as_array().expect("a list");
    assert_eq!(images.len(), 1, "{}", path.display());
    let member = |name: &Value| &members[name.as_str().expect("a name")];
    let config = serde_json::from_slice(member(&images[0]["Config"])).expect("a configuration");
    let mut files = BTreeMap::new();
    for layer in images[0]["Layers"].as_array().into_iter().flatten() {
        let layer = member(layer);
        match layer.starts_with(&GZIP) {
            false => apply(layer, &mut files),
            true => {
                let mut tar = Vec::new();
                let mut reader = flate2::read::MultiGzDecoder::new(&layer[..]);
                reader.read_to_end(&mut tar).expect("a whole layer");
                apply(&tar, &mut files);
            }
        }
    }
    Image { config, files }
}

/// Applies one layer as the image specification says: whiteouts hide what is below only.
fn apply(layer: &[u8], files: &mut BTreeMap<String, Node>) {
    let mut added = BTreeMap::new();
    let mut archive = Archive::new(layer);
    for entry in archive.entries().expect("a layer") {
        let mut entry = entry.expect("a layer");
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
                    let node = node.unwrap_or_else(|| panic!("{path}: no {target}"));
                    let twin = node.twin.clone().unwrap_or_else(|| target.to_owned());
                    Node {
                        twin: Some(twin),
                        ..node.clone()
                    }
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
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => "file",
        EntryType::Directory => "directory",
        EntryType::Symlink => "symlink",
        EntryType::Char => "character device",
        EntryType::Block => "block device",
        EntryType::Fifo => "fifo",
        other => panic!("{other:?}"),
    };
    let mut xattrs = BTreeMap::new();
    for record in entry
        .pax_extensions()
        .expect("records")
        .into_iter()
        .flatten()
    {
        let record = record.expect("a record");
        let key = String::from_utf8_lossy(record.key_bytes());
        if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
            xattrs.insert(name.to_owned(), record.value_bytes().to_vec());
        }
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content).expect("a whole layer");
    let header = entry.header();
    let number = |value: std::io::Result<Option<u32>>| value.expect("a number").unwrap_or(0);
    let is_link = kind == "symlink";
    let is_device = kind.ends_with("device");
    let owner = |id: std::io::Result<u64>| id.expect("an owner");
    Node {
        kind,
        mode: header.mode().expect("a mode") & 0o7777,
        owner: (owner(header.uid()), owner(header.gid())),
        content: Content(content),
        link: is_link.then(|| link(entry)),
        device: match is_device {
            true => (number(header.device_major()), number(header.device_minor())),
            false => (0, 0),
        },
        xattrs,
        twin: None,
    }
}

fn name<R: Read>(entry: &Entry<'_, R>) -> String {
    let name = text(&entry.path_bytes());
    let name = name.trim_start_matches("./").trim_matches('/');
    name.strip_prefix('.')
        .filter(|rest| rest.is_empty())
        .unwrap_or(name)
        .to_owned()
}

fn link<R: Read>(entry: &Entry<'_, R>) -> String {
    let target = entry.link_name_bytes().expect("a target");
    text(&target)
}

/// Returns `bytes` as text that is unique to them.
fn text(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

/// Returns what differs, a line for each path, then one for each set of hard links. Which of several
/// hard links comes first in a layer is no difference.
pub fn differences(ours: &Image, theirs: &Image) -> Vec<String> {
    let mut lines = Vec::new();
    let paths = ours.files.keys().chain(theirs.files.keys());
    for path in paths.collect::<BTreeSet<_>>() {
        let [our, their] = [ours, theirs].map(|image| {
            let node = image.files.get(path).cloned();
            node.map(|node| Node { twin: None, ..node })
        });
        if our != their {
            lines.push(format!("{path}: ours {our:?}\n    theirs {their:?}"));
        }
    }
    let (our, their) = (links(ours), links(theirs));
    for set in our.difference(&their) {
        lines.push(format!("hard links of ours only: {set:?}"));
    }
    for set in their.difference(&our) {
        lines.push(format!("hard links of theirs only: {set:?}"));
    }
    lines
}

/// Returns the sets of paths that are one file.
fn links(image: &Image) -> BTreeSet<BTreeSet<&String>> {
    let mut sets: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
    for (path, node) in &image.files {
        if let Some(twin) = &node.twin {
            sets.entry(twin).or_default().extend([twin, path]);
        }
    }
    sets.into_values().collect()
}
