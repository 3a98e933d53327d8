//! `ADD` of an archive: its entries become files of the layer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use layer::{Entry, EntryKind, Timestamp};
use tar::EntryType;

use super::target::{Target, parent};
use super::{Content, CopyError};
use crate::context::components;

const XATTR_PREFIX: &str = "SCHILY.xattr.";
/// The mode of directories that an archive implies.
const IMPLIED_MODE: u32 = 0o755;

/// An archive that can be read at any offset.
#[derive(Debug)]
pub(crate) struct Archive {
    tar: Arc<File>,
    name: String,
}

impl Archive {
    /// Returns the archive in `file`, inflated into a file of `scratch` when it is compressed;
    /// `None` when it is no archive.
    pub(crate) fn open(file: File, name: &str, scratch: &Path) -> Result<Option<Self>, CopyError> {
        let fault = |source| CopyError::Archive {
            path: name.to_owned(),
            source,
        };
        let mut first = file.try_clone().map_err(fault)?;
        first.rewind().map_err(fault)?;
        // What cannot be inflated is no archive, and copied as it is.
        let Ok((compression, reader)) = layer::decompress(Box::new(first)) else {
            return Ok(None);
        };
        if !starts_as_tar(reader) {
            return Ok(None);
        }
        let mut again = file.try_clone().map_err(fault)?;
        again.rewind().map_err(fault)?;
        let tar = match compression {
            layer::Format::Plain => again,
            _ => {
                let (_, mut reader) = layer::decompress(Box::new(again)).map_err(fault)?;
                let mut inflated = tempfile::tempfile_in(scratch).map_err(CopyError::Scratch)?;
                io::copy(&mut reader, &mut inflated).map_err(fault)?;
                inflated
            }
        };
        Ok(Some(Self {
            tar: Arc::new(tar),
            name: name.to_owned(),
        }))
    }

    fn fault(&self, source: io::Error) -> CopyError {
        CopyError::Archive {
            path: self.name.clone(),
            source,
        }
    }
}

fn starts_as_tar(reader: Box<dyn Read + Send + '_>) -> bool {
    let mut archive = tar::Archive::new(reader);
    let first = archive
        .entries()
        .ok()
        .and_then(|mut entries| entries.next());
    matches!(first, Some(Ok(_)))
}

/// What a PAX header adds to an entry.
#[derive(Default)]
struct Extended {
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<Timestamp>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    is_sparse: bool,
}

impl Target<'_> {
    /// Unpacks an archive into the directory `to`. Symbolic links in it, and those that are
    /// there, are confined to `to`; owners are kept unless the step names one.
    pub(crate) fn unpack(
        &mut self,
        archive: &Archive,
        to: &str,
        scratch: &Path,
    ) -> Result<(), CopyError> {
        let root = self.resolve(&[], to.as_bytes())?;
        // `--chmod` is for files, `--chown` for all that is new.
        let owner = self.options.owner.unwrap_or((0, 0));
        self.make_directory_as(&root, IMPLIED_MODE, owner)?;
        let mut tar = archive.tar.try_clone().map_err(|e| archive.fault(e))?;
        tar.rewind().map_err(|e| archive.fault(e))?;
        let mut reader = tar::Archive::new(BufReader::with_capacity(1 << 16, tar));
        let entries = reader.entries_with_seek();
        for entry in entries.map_err(|e| archive.fault(e))? {
            let entry = entry.map_err(|e| archive.fault(e))?;
            self.unpack_entry(archive, &root, entry, scratch)?;
        }
        Ok(())
    }

    fn unpack_entry<R: Read>(
        &mut self,
        archive: &Archive,
        root: &[u8],
        mut tar: tar::Entry<'_, R>,
        scratch: &Path,
    ) -> Result<(), CopyError> {
        let fault = |source| archive.fault(source);
        let name = rooted(&tar.path_bytes());
        let kind = tar.header().entry_type();
        if name.is_empty() || matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let extended = extended(&mut tar).map_err(fault)?;
        if extended.is_sparse {
            let message = "sparse files in PAX format are not supported";
            return Err(fault(io::Error::new(io::ErrorKind::Unsupported, message)));
        }
        let above = self.resolve(root, parent(&name))?;
        self.make_directory_as(&above, IMPLIED_MODE, (0, 0))?;
        let last = components(&name).next_back().unwrap_or_default();
        let path = crate::context::join(&above, last);
        let (kind, content) = match self.kind(archive, root, &mut tar, scratch)? {
            Some(Unpacked::File(kind, content)) => (kind, content),
            Some(Unpacked::Link(target)) => {
                // Its kind and content are the target's.
                let link = self
                    .archived(tar.header(), extended, path, EntryKind::Fifo)
                    .map_err(fault)?;
                if !self.planned.contains_key(&target) {
                    self.plan_from_below(&target, scratch)?;
                }
                return self.link(&target, link, archive);
            }
            None => return Ok(()),
        };
        let there = self.get(&path)?;
        let was_directory = there.is_some_and(|entry| entry.kind == EntryKind::Directory);
        if was_directory && kind != EntryKind::Directory {
            self.remove(&path)?;
        }
        let entry = self
            .archived(tar.header(), extended, path, kind)
            .map_err(fault)?;
        self.plan(entry, content, None)
    }

    /// Returns a file as the archive describes it.
    fn archived(
        &self,
        header: &tar::Header,
        extended: Extended,
        path: Vec<u8>,
        kind: EntryKind,
    ) -> io::Result<Entry> {
        let raw = header.as_old();
        let (uid, gid) = match self.owner() {
            Some(owner) => owner,
            None => (
                extended
                    .uid
                    .map_or_else(|| id(&raw.uid, header.uid()), Ok)?,
                extended
                    .gid
                    .map_or_else(|| id(&raw.gid, header.gid()), Ok)?,
            ),
        };
        let mode = number(&raw.mode, header.mode().map(u64::from))?;
        let seconds = number(&raw.mtime, header.mtime())?;
        let mtime = extended.mtime.unwrap_or(Timestamp {
            seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
            nanoseconds: 0,
        });
        Ok(Entry {
            path,
            kind,
            mode: u32::try_from(mode & 0o7777).unwrap_or_default(),
            uid,
            gid,
            mtime: mtime.min(self.epoch()),
            xattrs: extended.xattrs,
        })
    }

    fn kind<R: Read>(
        &self,
        archive: &Archive,
        root: &[u8],
        tar: &mut tar::Entry<'_, R>,
        scratch: &Path,
    ) -> Result<Option<Unpacked>, CopyError> {
        let fault = |source| archive.fault(source);
        let target = |tar: &tar::Entry<'_, R>| {
            let bytes = tar.link_name_bytes();
            let missing = || io::Error::new(io::ErrorKind::InvalidData, "a link without a target");
            Ok::<_, io::Error>(bytes.ok_or_else(missing)?.into_owned())
        };
        let device = |tar: &tar::Entry<'_, R>| {
            let header = tar.header();
            let (major, minor) = (header.device_major()?, header.device_minor()?);
            Ok::<_, io::Error>((major.unwrap_or(0), minor.unwrap_or(0)))
        };
        let kind = match tar.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let offset = tar.raw_file_position();
                let content = Content::Spooled(archive.tar.clone(), offset);
                let size = tar.size();
                return Ok(Some(Unpacked::File(EntryKind::File { size }, content)));
            }
            EntryType::GNUSparse => {
                let mut spool = tempfile::tempfile_in(scratch).map_err(CopyError::Scratch)?;
                let size = io::copy(tar, &mut spool).map_err(fault)?;
                let content = Content::Spooled(Arc::new(spool), 0);
                return Ok(Some(Unpacked::File(EntryKind::File { size }, content)));
            }
            EntryType::Link => {
                let target = rooted(&target(tar).map_err(fault)?);
                let above = self.resolve(root, parent(&target))?;
                let last = components(&target).next_back().unwrap_or_default();
                let path = crate::context::join(&above, last);
                return Ok(Some(Unpacked::Link(path)));
            }
            EntryType::Directory => EntryKind::Directory,
            EntryType::Symlink => EntryKind::Symlink {
                target: target(tar).map_err(fault)?,
            },
            EntryType::Char => {
                let (major, minor) = device(tar).map_err(fault)?;
                EntryKind::CharDevice { major, minor }
            }
            EntryType::Block => {
                let (major, minor) = device(tar).map_err(fault)?;
                EntryKind::BlockDevice { major, minor }
            }
            EntryType::Fifo => EntryKind::Fifo,
            _ => return Ok(None),
        };
        Ok(Some(Unpacked::File(kind, Content::None)))
    }

    /// Plans another name of a file that the archive, or the parent, has. The file gets the
    /// metadata of `link`, as it does when docker unpacks it.
    fn link(&mut self, target: &[u8], link: Entry, archive: &Archive) -> Result<(), CopyError> {
        let Some(planned) = self.planned.get_mut(target) else {
            let message = format!(
                "the target `{}` of a hard link is not there",
                String::from_utf8_lossy(target)
            );
            return Err(archive.fault(io::Error::new(io::ErrorKind::InvalidData, message)));
        };
        // The file's place in this layer names the group; archives have no inodes.
        let fresh = (usize::MAX, (self.links, 0));
        self.links += 1;
        let group = *planned.group.get_or_insert(fresh);
        let (kind, content) = (planned.entry.kind.clone(), planned.content.clone());
        if target != link.path {
            let there = self.get(&link.path)?;
            if there.is_some_and(|entry| entry.kind == EntryKind::Directory) {
                self.remove(&link.path)?;
            }
            let entry = Entry {
                kind,
                ..link.clone()
            };
            self.plan(entry, content, Some(group))?;
        }
        let is_as_before = |entry: &Entry| {
            (entry.mode, entry.mtime, entry.uid, entry.gid)
                == (link.mode, link.mtime, link.uid, link.gid)
                && link.xattrs.is_empty()
        };
        if self
            .planned
            .get(target)
            .is_some_and(|planned| is_as_before(&planned.entry))
        {
            return Ok(());
        }
        let names = self.planned.values_mut();
        for name in names.filter(|name| name.group == Some(group)) {
            let entry = &mut name.entry;
            (entry.mode, entry.mtime) = (link.mode, link.mtime);
            (entry.uid, entry.gid) = (link.uid, link.gid);
            entry.xattrs.extend(link.xattrs.clone());
        }
        Ok(())
    }

    /// Plans a file of the parent where it is, so that it can get another name.
    fn plan_from_below(&mut self, path: &[u8], scratch: &Path) -> Result<(), CopyError> {
        // Not what the step has removed or replaced.
        if self.get(path)?.is_none() {
            return Ok(());
        }
        let Some(node) = self.below.lookup_no_follow(path)? else {
            return Ok(());
        };
        match node.entry.kind {
            EntryKind::Directory => Ok(()),
            EntryKind::File { .. } => {
                let mut spool = tempfile::tempfile_in(scratch).map_err(CopyError::Scratch)?;
                let mut content = self.below.open_file(&node)?;
                io::copy(&mut content, &mut spool).map_err(CopyError::Scratch)?;
                let content = Content::Spooled(Arc::new(spool), 0);
                self.plan(node.entry, content, None)
            }
            _ => self.plan(node.entry, Content::None, None),
        }
    }
}

enum Unpacked {
    File(EntryKind, Content),
    Link(Vec<u8>),
}

/// Returns a name as a path below the root: `..` does not lead out.
fn rooted(name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in components(name) {
        match part {
            b".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// Returns a number of a header; an empty field is 0, as in Go.
fn number(field: &[u8], parsed: io::Result<u64>) -> io::Result<u64> {
    let is_empty = field.iter().all(|byte| matches!(byte, 0 | b' '));
    if is_empty { Ok(0) } else { parsed }
}

fn id(field: &[u8], parsed: io::Result<u64>) -> io::Result<u32> {
    let invalid = |_| io::Error::new(io::ErrorKind::InvalidData, "an owner out of range");
    u32::try_from(number(field, parsed)?).map_err(invalid)
}

fn extended<R: Read>(tar: &mut tar::Entry<'_, R>) -> io::Result<Extended> {
    let mut extended = Extended::default();
    let Some(extensions) = tar.pax_extensions()? else {
        return Ok(extended);
    };
    for extension in extensions {
        let extension = extension?;
        let text = String::from_utf8_lossy(extension.value_bytes());
        let name = String::from_utf8_lossy(extension.key_bytes());
        match name.as_ref() {
            "uid" => extended.uid = text.parse().ok(),
            "gid" => extended.gid = text.parse().ok(),
            "mtime" => extended.mtime = timestamp(&text),
            name if name.starts_with("GNU.sparse.") => extended.is_sparse = true,
            name => {
                if let Some(name) = name.strip_prefix(XATTR_PREFIX) {
                    let value = extension.value_bytes().to_vec();
                    extended.xattrs.insert(name.as_bytes().to_vec(), value);
                }
            }
        }
    }
    Ok(extended)
}

/// Parses seconds with an optional fraction.
fn timestamp(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    match (text.starts_with('-'), nanoseconds) {
        (true, 1..) => Some(Timestamp {
            seconds: seconds.checked_sub(1)?,
            nanoseconds: 1_000_000_000 - nanoseconds,
        }),
        _ => Some(Timestamp {
            seconds,
            nanoseconds,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_lead_out() {
        for (name, expected) in [
            (&b"../../etc/passwd"[..], &b"etc/passwd"[..]),
            (b"/a//b/./c/", b"a/b/c"),
            (b"a/../../b", b"b"),
            (b"./", b""),
        ] {
            assert_eq!(rooted(name), expected);
        }
    }

    #[test]
    fn times_before_1970_count_up() {
        let at = |seconds, nanoseconds| {
            Some(Timestamp {
                seconds,
                nanoseconds,
            })
        };
        assert_eq!(timestamp("12"), at(12, 0));
        assert_eq!(timestamp("12.5"), at(12, 500_000_000));
        assert_eq!(timestamp("-1.25"), at(-2, 750_000_000));
        assert_eq!(timestamp("x"), None);
    }
}
