//! The files of one layer as unpacking its entries in order would leave them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::path::{MAX_NAME, components, split};
use crate::{Entry, EntryError, EntryKind, Timestamp, size};

/// How many symbolic links one path may lead through, as on Linux.
pub(crate) const MAX_SYMLINKS: usize = 40;
/// What hides a name from below in every form of a layer; tars may have it too.
const WHITEOUT: EntryKind = EntryKind::CharDevice { major: 0, minor: 0 };
/// An inode and its name in a directory, without what they point to.
const ENTRY_COST: usize = size_of::<Inode>() + 64;
const XATTR_COST: usize = 64;

/// The position of an inode in [`Contents`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InodeId(u32);

impl InodeId {
    pub(crate) const ROOT: Self = Self(0);

    pub(crate) fn index(self) -> usize {
        size::in_memory(u64::from(self.0))
    }
}

#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) links: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) kind: InodeKind,
}

#[derive(Debug)]
pub(crate) enum InodeKind {
    File { size: u64, data: Data },
    Directory(Box<Directory>),
    Symlink(Box<[u8]>),
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Fifo,
}

/// Where the content of a file begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data {
    /// An offset in the tar.
    Tar(u64),
    /// An offset in the index, which holds files that the tar does not have in one piece.
    Index(u64),
}

#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) parent: InodeId,
    pub(crate) children: BTreeMap<Box<[u8]>, InodeId>,
    /// Names hidden below, whether or not this layer has files of these names.
    whiteouts: BTreeSet<Box<[u8]>>,
    /// Some of the children are whiteouts.
    pub(crate) has_whiteouts: bool,
    pub(crate) opaque: bool,
    /// No entry describes this directory.
    pub(crate) implied: bool,
}

impl Directory {
    fn new(parent: InodeId) -> Self {
        Self {
            parent,
            children: BTreeMap::new(),
            whiteouts: BTreeSet::new(),
            has_whiteouts: false,
            opaque: false,
            implied: false,
        }
    }
}

/// The files of one layer.
#[derive(Debug)]
pub(crate) struct Contents {
    inodes: Vec<Inode>,
    /// The parent of the last entry: tars list directories together.
    last_parent: Option<(Vec<u8>, InodeId)>,
    memory: u64,
    max_memory: u64,
}

impl Contents {
    pub(crate) fn new(max_memory: u64) -> Self {
        let root = implied_directory(InodeId::ROOT);
        Self {
            inodes: vec![root],
            last_parent: None,
            memory: 0,
            max_memory,
        }
    }

    pub(crate) fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.index()]
    }

    /// Returns the number of inodes, with those that were replaced.
    pub(crate) fn len(&self) -> usize {
        self.inodes.len()
    }

    /// Returns the inode as a directory, if it is one.
    pub(crate) fn directory(&self, id: InodeId) -> Option<&Directory> {
        match &self.inode(id).kind {
            InodeKind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// Adds an entry; `data` says where the content of a file is. What the entry replaces goes.
    pub(crate) fn insert(&mut self, entry: &Entry, data: Data) -> Result<(), EntryError> {
        entry.check()?;
        self.account(entry)?;
        if entry.path.is_empty() {
            return self.describe_root(entry);
        }
        let (parent_path, name) = split(&entry.path);
        let parent = self.parent(parent_path)?;
        let existing = self.child(parent, name);
        if let EntryKind::Hardlink { target } = &entry.kind {
            return self.link(target, (parent, name), entry);
        }
        if let (EntryKind::Directory, Some(id)) = (&entry.kind, existing)
            && self.directory(id).is_some()
        {
            self.describe(id, entry);
            return Ok(());
        }
        if let Some(id) = existing {
            self.remove(id);
        }
        if entry.kind == WHITEOUT {
            self.detach(parent, name);
            // The path may have led through what was just removed: it is not walked again.
            return self.hide(parent, name);
        }
        let mut kind = kind(entry, parent, data);
        if let InodeKind::Directory(directory) = &mut kind {
            // What it replaces has hidden the directory below.
            directory.opaque = existing.is_some();
        }
        let inode = Inode {
            kind,
            ..described(entry)
        };
        let id = self.push(inode)?;
        self.attach(parent, name, id);
        Ok(())
    }

    /// Hides `path` below this layer.
    pub(crate) fn whiteout(&mut self, path: &[u8]) -> Result<(), EntryError> {
        let (parent_path, name) = split(path);
        if name.is_empty() {
            return Err(EntryError::InvalidWhiteout);
        }
        let parent = self.parent(parent_path)?;
        self.hide(parent, name)
    }

    fn hide(&mut self, parent: InodeId, name: &[u8]) -> Result<(), EntryError> {
        self.charge(ENTRY_COST + name.len())?;
        if let Some(directory) = self.directory_mut(parent) {
            directory.whiteouts.insert(name.into());
        }
        Ok(())
    }

    /// Hides everything in the directory `path` below this layer.
    pub(crate) fn opaque(&mut self, path: &[u8]) -> Result<(), EntryError> {
        let id = self.resolve(path, Missing::Create)?;
        if let Some(directory) = self.directory_mut(id) {
            directory.opaque = true;
        }
        Ok(())
    }

    /// Turns whiteouts into what an index holds: opaque directories where this layer has a
    /// directory of the name, devices 0/0 where it has nothing.
    pub(crate) fn seal(&mut self) -> Result<(), EntryError> {
        let mut queue = vec![InodeId::ROOT];
        while let Some(id) = queue.pop() {
            let Some(directory) = self.directory_mut(id) else {
                continue;
            };
            let whiteouts = std::mem::take(&mut directory.whiteouts);
            for name in whiteouts {
                match self.child(id, &name) {
                    None => {
                        let whiteout = self.push(whiteout())?;
                        self.attach(id, &name, whiteout);
                        if let Some(directory) = self.directory_mut(id) {
                            directory.has_whiteouts = true;
                        }
                    }
                    Some(child) => {
                        if let Some(directory) = self.directory_mut(child) {
                            directory.opaque = true;
                            directory.implied = false;
                        }
                    }
                }
            }
            let children = self
                .directory(id)
                .into_iter()
                .flat_map(|directory| directory.children.values().copied());
            queue.extend(children.filter(|&child| self.directory(child).is_some()));
        }
        Ok(())
    }

    fn describe_root(&mut self, entry: &Entry) -> Result<(), EntryError> {
        if entry.kind != EntryKind::Directory {
            return Err(EntryError::RootIsNoDirectory);
        }
        self.describe(InodeId::ROOT, entry);
        Ok(())
    }

    fn describe(&mut self, id: InodeId, entry: &Entry) {
        if let Some(directory) = self.directory_mut(id) {
            directory.implied = false;
        }
        let inode = &mut self.inodes[id.index()];
        let kind = std::mem::replace(&mut inode.kind, InodeKind::Fifo);
        *inode = Inode {
            kind,
            links: inode.links,
            ..described(entry)
        };
    }

    /// Adds another name of a file. The file gets the metadata of `entry`, as when docker unpacks
    /// it: one inode has one owner and mode, and the last entry says which.
    fn link(
        &mut self,
        target: &[u8],
        (parent, name): (InodeId, &[u8]),
        entry: &Entry,
    ) -> Result<(), EntryError> {
        let missing = || EntryError::HardlinkTargetMissing(target.to_vec());
        let (target_parent, target_name) = split(target);
        let found = self.resolve(target_parent, Missing::Fail);
        let found = found.map_err(|error| match error {
            EntryError::SymlinkLoop => error,
            _ => missing(),
        })?;
        let id = self.child(found, target_name).ok_or_else(missing)?;
        if self.directory(id).is_some() {
            return Err(EntryError::HardlinkToDirectory(target.to_vec()));
        }
        let existing = self.child(parent, name);
        if existing == Some(id) {
            return Ok(());
        }
        if let Some(existing) = existing {
            self.remove(existing);
            if self.inode(id).links == 0 {
                return Err(missing());
            }
        }
        let inode = &mut self.inodes[id.index()];
        let link = described(entry);
        (inode.uid, inode.gid) = (link.uid, link.gid);
        // Modes and times of symbolic links are not changed through another name.
        if !matches!(inode.kind, InodeKind::Symlink(_)) {
            (inode.mode, inode.mtime) = (link.mode, link.mtime);
        }
        inode.xattrs.extend(link.xattrs);
        inode.links += 1;
        self.attach(parent, name, id);
        Ok(())
    }

    /// Finds the directory in which an entry goes.
    fn parent(&mut self, path: &[u8]) -> Result<InodeId, EntryError> {
        if let Some((last, id)) = &self.last_parent
            && last == path
        {
            return Ok(*id);
        }
        let id = self.resolve(path, Missing::Create)?;
        match &mut self.last_parent {
            Some((last, last_id)) => {
                last.clear();
                last.extend_from_slice(path);
                *last_id = id;
            }
            none => *none = Some((path.to_vec(), id)),
        }
        Ok(id)
    }

    /// Finds a directory, following symbolic links of this layer within it.
    fn resolve(&mut self, path: &[u8], missing: Missing) -> Result<InodeId, EntryError> {
        let mut queue: VecDeque<Box<[u8]>> = components(path).map(Box::from).collect();
        let (mut current, mut links) = (InodeId::ROOT, 0);
        while let Some(part) = queue.pop_front() {
            match &*part {
                b"." => continue,
                b".." => {
                    current = self
                        .directory(current)
                        .map_or(current, |found| found.parent);
                    continue;
                }
                _ => {}
            }
            let Some(child) = self.child(current, &part) else {
                current = self.imply(current, &part, missing)?;
                continue;
            };
            match &self.inode(child).kind {
                InodeKind::Directory(_) => current = child,
                InodeKind::Symlink(target) => {
                    links += 1;
                    if links > MAX_SYMLINKS {
                        return Err(EntryError::SymlinkLoop);
                    }
                    if target.starts_with(b"/") {
                        current = InodeId::ROOT;
                    }
                    for part in components(target).rev() {
                        queue.push_front(part.into());
                    }
                }
                _ => return Err(EntryError::NotADirectory(part.into_vec())),
            }
        }
        Ok(current)
    }

    fn imply(
        &mut self,
        parent: InodeId,
        name: &[u8],
        missing: Missing,
    ) -> Result<InodeId, EntryError> {
        if name.len() > MAX_NAME {
            return Err(EntryError::NameTooLong);
        }
        match missing {
            Missing::Fail => Err(EntryError::HardlinkTargetMissing(name.to_vec())),
            Missing::Create => {
                self.charge(ENTRY_COST + size_of::<Directory>() + name.len())?;
                let id = self.push(implied_directory(parent))?;
                self.attach(parent, name, id);
                Ok(id)
            }
        }
    }

    fn child(&self, directory: InodeId, name: &[u8]) -> Option<InodeId> {
        self.directory(directory)?.children.get(name).copied()
    }

    fn directory_mut(&mut self, id: InodeId) -> Option<&mut Directory> {
        match &mut self.inodes[id.index()].kind {
            InodeKind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn attach(&mut self, parent: InodeId, name: &[u8], id: InodeId) {
        if let Some(directory) = self.directory_mut(parent) {
            directory.children.insert(name.into(), id);
        }
    }

    fn detach(&mut self, parent: InodeId, name: &[u8]) {
        if let Some(directory) = self.directory_mut(parent) {
            directory.children.remove(name);
        }
    }

    fn push(&mut self, inode: Inode) -> Result<InodeId, EntryError> {
        let id = u32::try_from(self.inodes.len());
        let id = id.map_err(|_| EntryError::OutOfMemory(self.max_memory))?;
        self.inodes.push(inode);
        Ok(InodeId(id))
    }

    /// Takes one name from the inode and, when it is a directory, from all that is in it.
    fn remove(&mut self, id: InodeId) {
        self.last_parent = None;
        let mut queue = vec![id];
        while let Some(id) = queue.pop() {
            let inode = &mut self.inodes[id.index()];
            inode.links = inode.links.saturating_sub(1);
            if let InodeKind::Directory(directory) = &mut inode.kind {
                queue.extend(std::mem::take(&mut directory.children).into_values());
            }
        }
    }

    fn account(&mut self, entry: &Entry) -> Result<(), EntryError> {
        let name = split(&entry.path).1.len();
        let kind = match &entry.kind {
            EntryKind::Symlink { target } => target.len(),
            EntryKind::Directory => size_of::<Directory>(),
            _ => 0,
        };
        let sizes = entry
            .xattrs
            .iter()
            .map(|(name, value)| name.len() + value.len() + XATTR_COST);
        self.charge(ENTRY_COST + name + kind + sizes.sum::<usize>())
    }

    fn charge(&mut self, bytes: usize) -> Result<(), EntryError> {
        self.memory += size::on_disk(bytes);
        if self.memory > self.max_memory {
            return Err(EntryError::OutOfMemory(self.max_memory));
        }
        Ok(())
    }
}

/// What to do about a missing directory on the way.
#[derive(Debug, Clone, Copy)]
enum Missing {
    Create,
    Fail,
}

/// Returns what is to be of the type of `entry`, which is no hard link.
fn kind(entry: &Entry, parent: InodeId, data: Data) -> InodeKind {
    match &entry.kind {
        EntryKind::File { size } => InodeKind::File { size: *size, data },
        EntryKind::Directory => InodeKind::Directory(Box::new(Directory::new(parent))),
        EntryKind::Symlink { target } => InodeKind::Symlink(target.as_slice().into()),
        &EntryKind::CharDevice { major, minor } => InodeKind::CharDevice { major, minor },
        &EntryKind::BlockDevice { major, minor } => InodeKind::BlockDevice { major, minor },
        EntryKind::Fifo | EntryKind::Hardlink { .. } => InodeKind::Fifo,
    }
}

/// Returns an inode with the metadata of `entry` and some kind.
fn described(entry: &Entry) -> Inode {
    Inode {
        mode: entry.mode & 0o7777,
        uid: entry.uid,
        gid: entry.gid,
        links: 1,
        mtime: entry.mtime,
        xattrs: entry.xattrs.clone(),
        kind: InodeKind::Fifo,
    }
}

fn implied_directory(parent: InodeId) -> Inode {
    let directory = Directory {
        implied: true,
        ..Directory::new(parent)
    };
    Inode {
        mode: 0o755,
        uid: 0,
        gid: 0,
        links: 1,
        mtime: Timestamp::default(),
        xattrs: BTreeMap::new(),
        kind: InodeKind::Directory(Box::new(directory)),
    }
}

fn whiteout() -> Inode {
    Inode {
        mode: 0,
        uid: 0,
        gid: 0,
        links: 1,
        mtime: Timestamp::default(),
        xattrs: BTreeMap::new(),
        kind: InodeKind::CharDevice { major: 0, minor: 0 },
    }
}
