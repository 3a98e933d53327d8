//! Where a repository's files are, and which commit is checked out.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use super::object::{self, Commit, ObjectId};

/// A repository with a work tree. git's gitrepository-layout(5) describes the files.
#[derive(Debug)]
pub(super) struct Repository {
    /// The directory with the files.
    pub(super) work_tree: PathBuf,
    /// The directory that was asked about, below it; empty for the work tree itself.
    pub(super) prefix: Vec<u8>,
    /// What belongs to this work tree: HEAD, the index.
    git_directory: PathBuf,
    /// What all work trees of the repository share: refs, objects.
    common_directory: PathBuf,
}

/// The longest `HEAD`, `.git` file or reference.
const MAX_SMALL: u64 = 4 << 10;
/// The longest `packed-refs`: a million references.
const MAX_PACKED_REFS: u64 = 128 << 20;
/// A reference that leads to another that leads to another ...
const MAX_DEPTH: usize = 5;

impl Repository {
    /// Finds the repository that has `directory` in its work tree.
    pub(super) fn of(directory: &Path) -> Option<Self> {
        let directory = fs::canonicalize(directory).ok()?;
        let (work_tree, git_directory) = directory
            .ancestors()
            .find_map(|ancestor| Some((ancestor, git_directory(ancestor)?)))?;
        let prefix = directory.strip_prefix(work_tree).ok()?;
        let common_directory = match read_small(&git_directory.join("commondir")) {
            Some(path) => git_directory.join(trimmed_path(path)),
            None => git_directory.clone(),
        };
        Some(Self {
            work_tree: work_tree.to_owned(),
            prefix: prefix.as_os_str().as_bytes().to_owned(),
            git_directory,
            common_directory,
        })
    }

    /// Returns where the index is.
    pub(super) fn index_path(&self) -> PathBuf {
        self.git_directory.join("index")
    }

    /// Reads the commit that is checked out.
    pub(super) fn head_commit(&self) -> Option<Commit> {
        let mut text = read_small(&self.git_directory.join("HEAD"))?;
        for _ in 0..MAX_DEPTH {
            let Some(name) = text.strip_prefix(b"ref: ") else {
                let id = ObjectId::from_hex(text.trim_ascii_end())?;
                return object::read_commit(&self.common_directory.join("objects"), &id);
            };
            text = self.reference(name.trim_ascii_end())?;
        }
        None
    }

    /// Returns the content of a reference: an object or another reference.
    fn reference(&self, name: &[u8]) -> Option<Vec<u8>> {
        let path = Path::new(std::ffi::OsStr::from_bytes(name));
        let is_plain = path
            .components()
            .all(|component| matches!(component, Component::Normal(_)));
        if !is_plain || !name.starts_with(b"refs/") {
            return None;
        }
        read_small(&self.git_directory.join(path))
            .or_else(|| read_small(&self.common_directory.join(path)))
            .or_else(|| self.packed_reference(name))
    }

    fn packed_reference(&self, name: &[u8]) -> Option<Vec<u8>> {
        let packed = read_limited(&self.common_directory.join("packed-refs"), MAX_PACKED_REFS)?;
        packed.split(|byte| *byte == b'\n').find_map(|line| {
            let id = line.strip_suffix(name)?.strip_suffix(b" ")?;
            Some(id.to_owned())
        })
    }
}

/// Returns the repository's own directory, if `directory` is the top of a work tree. It is
/// `.git`, or where the file `.git` says, as in a submodule or an added work tree.
fn git_directory(directory: &Path) -> Option<PathBuf> {
    let path = directory.join(".git");
    let found = match fs::metadata(&path).ok()?.is_dir() {
        true => path,
        false => {
            let text = read_small(&path)?;
            let to = text.strip_prefix(b"gitdir: ")?;
            directory.join(trimmed_path(to.to_owned()))
        }
    };
    found.join("HEAD").is_file().then_some(found)
}

fn trimmed_path(mut text: Vec<u8>) -> PathBuf {
    text.truncate(text.trim_ascii_end().len());
    std::ffi::OsString::from_vec(text).into()
}

fn read_small(path: &Path) -> Option<Vec<u8>> {
    read_limited(path, MAX_SMALL)
}

/// Reads a regular file of at most `limit` bytes; anything else could make this wait or not end.
pub(super) fn read_limited(path: &Path, limit: u64) -> Option<Vec<u8>> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut content = Vec::new();
    let file = File::open(path).ok()?;
    let length = file.take(limit + 1).read_to_end(&mut content).ok()?;
    (u64::try_from(length).ok()? <= limit).then_some(content)
}
