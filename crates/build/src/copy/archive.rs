//! `ADD` of an archive: its entries become files of the layer.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use layer::{ArchiveEntry, ArchiveReadError, ArchiveReader, Entry, EntryKind};

use super::target::{Target, parent};
use super::{Content, CopyError};
use crate::context::components;

/// The mode of directories that an archive implies.
const IMPLIED_MODE: u32 = 0o755;

/// More entries than any archive has; each is kept in memory until the layer is written.
const MAX_ENTRIES: usize = 4_000_000;

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

fn starts_as_tar(mut reader: Box<dyn Read + Send + '_>) -> bool {
    matches!(ArchiveReader::new(&mut reader).next_entry(), Ok(Some(_)))
}

/// Returns what is wrong with an archive, without where: its name is told.
fn cause(error: ArchiveReadError) -> io::Error {
    match error {
        ArchiveReadError::Read(source) => source,
        ArchiveReadError::Tar { source, .. } => io::Error::new(io::ErrorKind::InvalidData, source),
    }
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
        let mut reader = ArchiveReader::new(&mut tar);
        let next = |reader: &mut ArchiveReader<'_>| {
            let entry = reader.next_entry();
            entry.map_err(|error| archive.fault(cause(error)))
        };
        let mut entries = 0;
        while let Some(entry) = next(&mut reader)? {
            entries += 1;
            if entries > MAX_ENTRIES {
                let message = format!("more than {MAX_ENTRIES} entries");
                return Err(archive.fault(io::Error::new(io::ErrorKind::InvalidData, message)));
            }
            self.unpack_entry(archive, &root, entry, scratch)?;
        }
        Ok(())
    }

    fn unpack_entry(
        &mut self,
        archive: &Archive,
        root: &[u8],
        archived: ArchiveEntry,
        scratch: &Path,
    ) -> Result<(), CopyError> {
        let name = rooted(&archived.entry.path);
        if name.is_empty() {
            return Ok(());
        }
        let above = self.resolve(root, parent(&name))?;
        self.make_directory_as(&above, IMPLIED_MODE, (0, 0))?;
        let last = components(&name).next_back().unwrap_or_default();
        let path = crate::context::join(&above, last);
        let content = content(archive, &archived, scratch)?;
        let entry = self.placed(archived.entry, path);
        if let EntryKind::Hardlink { target } = &entry.kind {
            let target = rooted(target);
            let above = self.resolve(root, parent(&target))?;
            let last = components(&target).next_back().unwrap_or_default();
            let target = crate::context::join(&above, last);
            if !self.planned.contains_key(&target) {
                self.plan_from_below(&target, scratch)?;
            }
            return self.link(&target, entry, archive);
        }
        let there = self.get(&entry.path)?;
        let was_directory = there.is_some_and(|entry| entry.kind == EntryKind::Directory);
        if was_directory && entry.kind != EntryKind::Directory {
            self.remove(&entry.path)?;
        }
        self.plan(entry, content, None)
    }

    /// Returns an entry as the step wants it at `path`.
    fn placed(&self, entry: Entry, path: Vec<u8>) -> Entry {
        let (uid, gid) = self.owner().unwrap_or((entry.uid, entry.gid));
        Entry {
            path,
            uid,
            gid,
            mtime: entry.mtime.min(self.epoch()),
            ..entry
        }
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

/// Returns where the content of an entry is: in the archive, or put together in a file of `scratch`
/// when it is sparse.
fn content(
    archive: &Archive,
    archived: &ArchiveEntry,
    scratch: &Path,
) -> Result<Content, CopyError> {
    let EntryKind::File { size } = archived.entry.kind else {
        return Ok(Content::None);
    };
    if let [extent] = archived.extents.as_slice()
        && (extent.offset, extent.length) == (0, size)
    {
        let tar = Arc::clone(&archive.tar);
        return Ok(Content::Spooled(tar, extent.tar_offset));
    }
    let spool = tempfile::tempfile_in(scratch).map_err(CopyError::Scratch)?;
    spool.set_len(size).map_err(CopyError::Scratch)?;
    let mut buffer = vec![0; 1 << 16];
    for extent in &archived.extents {
        let mut done = 0;
        while done < extent.length {
            let length = usize::try_from(extent.length - done).unwrap_or(usize::MAX);
            let piece = &mut buffer[..length.min(1 << 16)];
            let read = archive.tar.read_exact_at(piece, extent.tar_offset + done);
            read.map_err(|error| archive.fault(error))?;
            let written = spool.write_all_at(piece, extent.offset + done);
            written.map_err(CopyError::Scratch)?;
            done += u64::try_from(piece.len()).expect("invariant: a buffer is short");
        }
    }
    Ok(Content::Spooled(Arc::new(spool), 0))
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
}
