//! What is planned on top of the parent's files.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use layer::{Entry, EntryKind, Timestamp, View};

use super::error::shown;
use super::{Content, CopyError, Selection, SourceFile};
use crate::Chmod;
use crate::context::{components, join};
use crate::vertex::{Destination, DestinationForm};

/// How many symbolic links one path may lead through, as in BuildKit.
const MAX_LINKS: usize = 255;
/// What docker's daemon takes from `--chmod` for directories that are made on the way, and only
/// for them.
const UMASK: u32 = 0o022;
/// The mode of directories that are made on the way.
const DIRECTORY_MODE: u32 = 0o755;

/// What a step says about every file it makes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TargetOptions<'a> {
    /// The owner; `None` keeps that of the source.
    pub(crate) owner: Option<(u32, u32)>,
    /// The mode; `None` keeps that of the source.
    pub(crate) mode: Option<&'a Chmod>,
    /// Later times become this one, and what has no time of its own gets it.
    pub(crate) epoch: Timestamp,
}

/// The files of a new layer, on top of the parent's. Paths are relative to the root, resolved:
/// no component but the last is a symbolic link.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(super) below: &'a View,
    pub(super) planned: BTreeMap<Vec<u8>, Planned>,
    /// Where nothing of the parent shows through.
    pub(super) hidden: BTreeSet<Vec<u8>>,
    /// Directories that the parent lacks: nothing in them needs a look-up.
    fresh: HashSet<Vec<u8>>,
    pub(super) options: TargetOptions<'a>,
    /// Counts the sources: hard links are kept within one.
    sources: usize,
    /// Counts the files of archives that have several names.
    pub(super) links: u64,
}

/// A file of the new layer.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) entry: Entry,
    pub(super) content: Content,
    /// Equal for names of one file.
    pub(super) group: Option<(usize, (u64, u64))>,
}

/// What copying a directory does to one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Existing {
    /// It keeps its owner, mode and time.
    Keep,
    /// It gets those of the source.
    Overwrite,
}

impl<'a> Target<'a> {
    /// Plans nothing yet.
    pub(crate) fn new(below: &'a View, options: TargetOptions<'a>) -> Self {
        Self {
            below,
            planned: BTreeMap::new(),
            hidden: BTreeSet::new(),
            fresh: HashSet::new(),
            options,
            sources: 0,
            links: 0,
        }
    }

    /// Returns what is at a path, without following it.
    pub(super) fn get(&self, path: &[u8]) -> Result<Option<Entry>, CopyError> {
        if let Some(planned) = self.planned.get(path) {
            return Ok(Some(planned.entry.clone()));
        }
        if self.fresh.contains(parent(path)) || self.is_hidden(path) {
            return Ok(None);
        }
        let found = match path {
            b"" => Some(self.below.root()?),
            _ => self.below.lookup_no_follow(path)?,
        };
        Ok(found.map(|node| node.entry))
    }

    fn is_hidden(&self, path: &[u8]) -> bool {
        let mut above = path;
        loop {
            if self.hidden.contains(above) {
                return true;
            }
            let Some(cut) = above.iter().rposition(|byte| *byte == b'/') else {
                return false;
            };
            above = &above[..cut];
        }
    }

    /// Resolves `path` below `root` as a process confined there would, also where nothing is.
    pub(super) fn resolve(&self, root: &[u8], path: &[u8]) -> Result<Vec<u8>, CopyError> {
        let mut todo: Vec<Vec<u8>> = components(path).rev().map(<[u8]>::to_vec).collect();
        let mut current = root.to_vec();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                if current.len() > root.len() {
                    current.truncate(parent(&current).len());
                }
                continue;
            }
            let next = join(&current, &name);
            match self.get(&next)?.map(|entry| entry.kind) {
                Some(EntryKind::Symlink { target }) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(CopyError::TooManyLinks(shown(path)));
                    }
                    if target.first() == Some(&b'/') {
                        current = root.to_vec();
                    }
                    todo.extend(components(&target).rev().map(<[u8]>::to_vec));
                }
                _ => current = next,
            }
        }
        Ok(current)
    }

    /// Makes a directory and what lacks above it. Directories that are there stay as they are.
    pub(crate) fn make_directory(&mut self, path: &[u8]) -> Result<(), CopyError> {
        let mode = match self.options.mode {
            // Go takes only these bits of a mode for a directory.
            Some(Chmod::Octal(mode)) => mode & 0o777 & !UMASK,
            // BuildKit changes the modes of what is copied, and there is nothing to change here.
            Some(Chmod::Symbolic { .. }) | None => DIRECTORY_MODE,
        };
        let owner = self.options.owner.unwrap_or((0, 0));
        self.make_directory_as(path, mode, owner)
    }

    pub(super) fn make_directory_as(
        &mut self,
        path: &[u8],
        mode: u32,
        (uid, gid): (u32, u32),
    ) -> Result<(), CopyError> {
        let mut current = Vec::new();
        for name in components(path) {
            current = join(&current, name);
            match self.get(&current)?.map(|entry| entry.kind) {
                Some(EntryKind::Directory) => continue,
                Some(_) => return Err(CopyError::ParentNotDirectory(shown(&current))),
                None => {}
            }
            self.fresh.insert(current.clone());
            let entry = Entry {
                path: current.clone(),
                kind: EntryKind::Directory,
                mode,
                uid,
                gid,
                mtime: self.options.epoch,
                xattrs: BTreeMap::new(),
            };
            self.plan(entry, Content::None, None)?;
        }
        Ok(())
    }

    /// `WORKDIR`: makes a directory, following symbolic links.
    pub(crate) fn working_directory(&mut self, path: &str) -> Result<(), CopyError> {
        let path = self.resolve(&[], path.as_bytes())?;
        self.make_directory(&path)
    }

    /// Copies one source to a destination.
    pub(crate) fn copy(
        &mut self,
        selection: &Selection,
        destination: &Destination,
    ) -> Result<(), CopyError> {
        self.sources += 1;
        let Some((_, source)) = selection.files.first() else {
            return Ok(());
        };
        let is_directory = source.kind == EntryKind::Directory;
        let named = destination.path.as_bytes();
        let above = match destination.form {
            DestinationForm::Directory => named,
            DestinationForm::Any => parent(named),
        };
        let above = self.resolve(&[], above)?;
        self.make_directory(&above)?;
        let mut to = self.resolve(&[], named)?;
        let there = self.get(&to)?.map(|entry| entry.kind);
        if !is_directory && there == Some(EntryKind::Directory) {
            to = join(&to, &selection.name);
        }
        let made = if is_directory && there.is_none() {
            &to
        } else {
            parent(&to)
        };
        let made = made.to_vec();
        self.make_directory(&made)?;
        for (path, file) in &selection.files {
            let existing = match path.is_empty() {
                true => Existing::Keep,
                false => Existing::Overwrite,
            };
            let to = if path.is_empty() {
                to.clone()
            } else {
                join(&to, path)
            };
            match file.kind {
                EntryKind::Directory => self.place_directory(to, file, existing)?,
                _ => self.place_file(to, file)?,
            }
        }
        Ok(())
    }

    fn place_directory(
        &mut self,
        path: Vec<u8>,
        file: &SourceFile,
        existing: Existing,
    ) -> Result<(), CopyError> {
        let there = self.get(&path)?;
        let mut xattrs = match there {
            Some(entry) if entry.kind != EntryKind::Directory => {
                return Err(CopyError::NonDirectory(shown(&path)));
            }
            Some(_) if existing == Existing::Keep => return Ok(()),
            Some(entry) => entry.xattrs,
            None => {
                self.fresh.insert(path.clone());
                BTreeMap::new()
            }
        };
        xattrs.extend(file.xattrs.clone());
        let entry = Entry {
            xattrs,
            ..self.entry(path, file)
        };
        self.plan(entry, Content::None, None)
    }

    fn place_file(&mut self, path: Vec<u8>, file: &SourceFile) -> Result<(), CopyError> {
        let there = self.get(&path)?;
        if there.is_some_and(|entry| entry.kind == EntryKind::Directory) {
            return Err(CopyError::Directory(shown(&path)));
        }
        let group = file.group.map(|group| (self.sources, group));
        self.plan(self.entry(path, file), file.content.clone(), group)
    }

    fn entry(&self, path: Vec<u8>, file: &SourceFile) -> Entry {
        let (uid, gid) = self.options.owner.unwrap_or((file.uid, file.gid));
        let is_link = matches!(file.kind, EntryKind::Symlink { .. });
        let is_directory = file.kind == EntryKind::Directory;
        let mode = self.options.mode.filter(|_| !is_link);
        let mode = mode.map(|mode| mode.apply(file.mode, is_directory));
        Entry {
            path,
            kind: file.kind.clone(),
            mode: mode.unwrap_or(file.mode),
            uid,
            gid,
            mtime: file.mtime.min(self.options.epoch),
            xattrs: file.xattrs.clone(),
        }
    }

    /// Plans an entry in place of what was planned there.
    pub(super) fn plan(
        &mut self,
        entry: Entry,
        content: Content,
        group: Option<(usize, (u64, u64))>,
    ) -> Result<(), CopyError> {
        let name = components(&entry.path).next_back().unwrap_or_default();
        if name.starts_with(b".wh.") {
            return Err(CopyError::WhiteoutName(shown(&entry.path)));
        }
        let planned = Planned {
            entry,
            content,
            group,
        };
        self.planned.insert(planned.entry.path.clone(), planned);
        Ok(())
    }

    /// Removes a path with all that is in it, so that what is planned there next starts empty.
    pub(super) fn remove(&mut self, path: &[u8]) -> Result<(), CopyError> {
        let inside = join(path, b"");
        self.planned
            .retain(|other, _| other != path && !other.starts_with(&inside));
        self.fresh
            .retain(|other| other != path && !other.starts_with(&inside));
        if self.get(path)?.is_some() {
            self.hidden.insert(path.to_vec());
        }
        Ok(())
    }

    /// Returns the time that later ones become.
    pub(super) fn epoch(&self) -> Timestamp {
        self.options.epoch
    }

    /// Returns the owner of every file, when the step names one.
    pub(super) fn owner(&self) -> Option<(u32, u32)> {
        self.options.owner
    }
}

/// Returns the path above; the root's is the root.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    let cut = path.iter().rposition(|byte| *byte == b'/');
    &path[..cut.unwrap_or(0)]
}
