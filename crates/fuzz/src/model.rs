//! What a tar means, told a second time: by paths, without inodes. docs/layer-format.md is what
//! both tellings follow.

use std::collections::{BTreeMap, BTreeSet};

use layer::{Entry, EntryKind, IMPLIED_XATTR, OPAQUE_XATTR, Timestamp, WHITEOUTS_XATTR};
use testkit::tarball::{Format, Member};

use crate::members::Item;
use crate::seen::{Seen, Tree};

const MAX_LINKS: usize = 40;

/// The entry cannot be part of a layer.
#[derive(Debug)]
pub(crate) struct Refused;

#[derive(Debug, Clone)]
struct File {
    entry: Entry,
    content: Vec<u8>,
    implied: bool,
    opaque: bool,
}

/// The files by path; several paths of one file have the same number.
#[derive(Debug)]
struct Model {
    files: Vec<File>,
    paths: BTreeMap<Vec<u8>, usize>,
    hidden: BTreeSet<Vec<u8>>,
}

/// Returns what unpacking `items` in order leaves, marked as an index has it.
pub(crate) fn meaning(items: &[Item]) -> Result<Tree, Refused> {
    let mut model = Model {
        files: vec![implied()],
        paths: BTreeMap::from([(Vec::new(), 0)]),
        hidden: BTreeSet::new(),
    };
    let mut group = None;
    for item in items {
        match item {
            Item::Group(gid) => group = Some(*gid),
            Item::Member { member, content } => model.take(member, content, group)?,
        }
    }
    Ok(model.seal())
}

fn implied() -> File {
    File {
        entry: Entry {
            path: Vec::new(),
            kind: EntryKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: BTreeMap::new(),
        },
        content: Vec::new(),
        implied: true,
        opaque: false,
    }
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    match parent.is_empty() {
        true => name.to_vec(),
        false => [parent, b"/", name].concat(),
    }
}

fn parts(path: &[u8]) -> Vec<&[u8]> {
    let parts = path.split(|byte| *byte == b'/');
    parts
        .filter(|part| !part.is_empty() && *part != b".")
        .collect()
}

/// Splits a name into the directories and the last part; the root has none.
fn named(name: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Refused> {
    let mut parts = parts(name);
    if parts.iter().any(|part| *part == b".." || part.len() > 255) {
        return Err(Refused);
    }
    let last = parts.pop().unwrap_or_default().to_vec();
    Ok((parts.join(&b'/'), last))
}

impl Model {
    fn take(&mut self, member: &Member, content: &[u8], group: Option<u32>) -> Result<(), Refused> {
        let (parent, last) = named(&member.name)?;
        let above = parts(&parent);
        if above.iter().any(|part| part.starts_with(b".wh..wh.")) {
            return Ok(());
        }
        if above.iter().any(|part| part.starts_with(b".wh.")) {
            return Err(Refused);
        }
        if last == b".wh..wh..opq" {
            let directory = self.directory(&parent, true)?;
            self.file(&directory).opaque = true;
            return Ok(());
        }
        if last.starts_with(b".wh..wh.") {
            return Ok(());
        }
        if let Some(name) = last.strip_prefix(b".wh.") {
            if matches!(name, b"" | b"." | b"..") {
                return Err(Refused);
            }
            let directory = self.directory(&parent, true)?;
            self.hidden.insert(join(&directory, name));
            return Ok(());
        }
        let file = file(member, content, group)?;
        if last.is_empty() {
            return match file.entry.kind {
                EntryKind::Directory => {
                    self.describe(b"", file);
                    Ok(())
                }
                _ => Err(Refused),
            };
        }
        let path = join(&self.directory(&parent, true)?, &last);
        self.add(path, file)
    }

    fn add(&mut self, path: Vec<u8>, file: File) -> Result<(), Refused> {
        let there = self.paths.get(&path).copied();
        if let EntryKind::Hardlink { target } = &file.entry.kind {
            let target = target.clone();
            return self.link(path, &target, file);
        }
        let is_directory = |number: usize| self.files[number].entry.kind == EntryKind::Directory;
        if file.entry.kind == EntryKind::Directory && there.is_some_and(is_directory) {
            self.describe(&path, file);
            return Ok(());
        }
        self.remove(&path);
        if file.entry.kind == (EntryKind::CharDevice { major: 0, minor: 0 }) {
            self.hidden.insert(path);
            return Ok(());
        }
        let opaque = file.entry.kind == EntryKind::Directory && there.is_some();
        self.paths.insert(path, self.files.len());
        self.files.push(File { opaque, ..file });
        Ok(())
    }

    fn link(&mut self, path: Vec<u8>, target: &[u8], link: File) -> Result<(), Refused> {
        let (parent, last) = named(target)?;
        let target = join(&self.directory(&parent, false)?, &last);
        let number = *self.paths.get(&target).ok_or(Refused)?;
        if self.files[number].entry.kind == EntryKind::Directory {
            return Err(Refused);
        }
        if self.paths.get(&path) == Some(&number) {
            return Ok(());
        }
        self.remove(&path);
        if !self.paths.values().any(|other| *other == number) {
            return Err(Refused);
        }
        self.paths.insert(path, number);
        let entry = &mut self.files[number].entry;
        (entry.uid, entry.gid) = (link.entry.uid, link.entry.gid);
        if !matches!(entry.kind, EntryKind::Symlink { .. }) {
            (entry.mode, entry.mtime) = (link.entry.mode, link.entry.mtime);
        }
        entry.xattrs.extend(link.entry.xattrs);
        Ok(())
    }

    fn describe(&mut self, path: &[u8], file: File) {
        let known = self.file(path);
        known.entry = file.entry;
        known.implied = false;
    }

    /// Takes away a path, and all below it with what was hidden there.
    fn remove(&mut self, path: &[u8]) {
        let below = join(path, b"/");
        let is_below = |other: &[u8]| other.starts_with(&below[..path.len() + 1]);
        self.paths
            .retain(|other, _| other != path && !is_below(other));
        self.hidden.retain(|other| !is_below(other));
    }

    /// Finds a directory, through the links of the layer itself.
    fn directory(&mut self, path: &[u8], create: bool) -> Result<Vec<u8>, Refused> {
        let mut left: Vec<Vec<u8>> = parts(path).iter().rev().map(|part| part.to_vec()).collect();
        let (mut at, mut links) = (Vec::new(), 0);
        while let Some(part) = left.pop() {
            if part == b".." {
                let slash = at.iter().rposition(|byte| *byte == b'/');
                at.truncate(slash.unwrap_or(0));
                continue;
            }
            let next = join(&at, &part);
            let Some(number) = self.paths.get(&next) else {
                if !create || part.len() > 255 {
                    return Err(Refused);
                }
                self.paths.insert(next.clone(), self.files.len());
                self.files.push(implied());
                at = next;
                continue;
            };
            match &self.files[*number].entry.kind {
                EntryKind::Directory => at = next,
                EntryKind::Symlink { target } => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Refused);
                    }
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    left.extend(parts(target).iter().rev().map(|part| part.to_vec()));
                }
                _ => return Err(Refused),
            }
        }
        Ok(at)
    }

    fn file(&mut self, path: &[u8]) -> &mut File {
        let number = self.paths.get(path).expect("a path that was found");
        &mut self.files[*number]
    }

    fn seal(mut self) -> Tree {
        let mut listing = BTreeSet::new();
        for path in std::mem::take(&mut self.hidden) {
            if let Some(number) = self.paths.get(&path) {
                let file = &mut self.files[*number];
                if file.entry.kind == EntryKind::Directory {
                    (file.opaque, file.implied) = (true, false);
                }
                continue;
            }
            let mut whiteout = implied();
            whiteout.entry.kind = EntryKind::CharDevice { major: 0, minor: 0 };
            whiteout.entry.mode = 0;
            let slash = path.iter().rposition(|byte| *byte == b'/');
            listing.insert(path[..slash.unwrap_or(0)].to_vec());
            self.paths.insert(path, self.files.len());
            self.files.push(whiteout);
        }
        let tree = self.paths.iter().map(|(path, number)| {
            let file = &self.files[*number];
            let seen = self.seen(path, *number, file, listing.contains(path));
            (path.clone(), seen)
        });
        tree.collect()
    }

    fn seen(&self, path: &[u8], number: usize, file: &File, lists_whiteouts: bool) -> Seen {
        let mut entry = file.entry.clone();
        let is_directory = entry.kind == EntryKind::Directory;
        let marks = [
            (OPAQUE_XATTR, file.opaque),
            (IMPLIED_XATTR, file.implied),
            (WHITEOUTS_XATTR, lists_whiteouts),
        ];
        for (name, _) in marks.iter().filter(|(_, is_set)| is_directory && *is_set) {
            entry.xattrs.insert(name.to_vec(), b"y".to_vec());
        }
        let links = match is_directory {
            false => self
                .paths
                .values()
                .filter(|other| **other == number)
                .count(),
            true => 2 + self.directories_in(path),
        };
        Seen {
            entry,
            links: u64::try_from(links).expect("few"),
            content: file.content.clone(),
            id: u64::try_from(number).expect("few"),
        }
    }

    fn directories_in(&self, path: &[u8]) -> usize {
        let inside = self.paths.iter().filter(|(other, number)| {
            let name = match path.is_empty() {
                true => Some(other.as_slice()),
                false => other.strip_prefix([path, b"/"].concat().as_slice()),
            };
            name.is_some_and(|name| !name.is_empty() && !name.contains(&b'/'))
                && self.files[**number].entry.kind == EntryKind::Directory
        });
        inside.count()
    }
}

/// Returns the file that an entry describes.
fn file(member: &Member, content: &[u8], group: Option<u32>) -> Result<File, Refused> {
    let number = |number: u64| u32::try_from(number).map_err(|_| Refused);
    // Before POSIX there were no device numbers.
    let device = match member.format {
        Format::V7 => (0, 0),
        _ => member.device,
    };
    let (major, minor) = (number(device.0)?, number(device.1)?);
    let target = member.link_name.clone();
    let kind = match member.flag {
        b'1' => {
            let (parent, last) = named(&target)?;
            let target = join(&parent, &last);
            EntryKind::Hardlink { target }
        }
        b'2' if target.is_empty() || target.len() > 4095 => return Err(Refused),
        b'2' => EntryKind::Symlink { target },
        b'3' | b'4' if major > 4095 || minor > 1_048_575 => return Err(Refused),
        b'3' => EntryKind::CharDevice { major, minor },
        b'4' => EntryKind::BlockDevice { major, minor },
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        _ => EntryKind::File {
            size: u64::try_from(content.len()).expect("small"),
        },
    };
    let is_kept = |name: &[u8]| {
        let known = [&b"user."[..], b"trusted.", b"security."];
        let overlay = [&b"user.overlay."[..], b"trusted.overlay."];
        let begins = |prefixes: &[&[u8]]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        begins(&known) && !begins(&overlay)
    };
    let xattrs = member.xattrs.iter().filter(|(name, _)| is_kept(name));
    Ok(File {
        entry: Entry {
            path: Vec::new(),
            kind,
            mode: member.mode,
            uid: number(member.uid)?,
            gid: group.map_or_else(|| number(member.gid), Ok)?,
            mtime: Timestamp {
                seconds: member.mtime,
                nanoseconds: member.nanoseconds,
            },
            xattrs: xattrs
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        },
        content: content.to_vec(),
        implied: false,
        opaque: false,
    })
}
