//! A build context that is not a directory here: an archive, or a git repository.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use build::GitSource;
use layer::{IngestError, LayerDir, Limits, View, ViewError};
use rustix::fs::OFlags;
use store::{Scratch, Store, StoreError};
use sys::Root;

use super::files::{Special, WriteFileError, write_files};
use super::git::{self, GitError, Wish};

/// Why a context was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum RemoteContextError {
    /// The archive cannot be read.
    #[error("failed to read the archive")]
    Read(#[source] io::Error),
    /// The archive is none.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// What came of the archive cannot be read again.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A file of the context cannot be made.
    #[error(transparent)]
    Write(#[from] WriteFileError),
    /// git did not give what was wanted.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A fetched context; it goes with this value.
#[derive(Debug)]
pub struct RemoteContext {
    store: Store,
    directory: PathBuf,
    _scratch: Scratch,
}

impl RemoteContext {
    /// Unpacks an archive, compressed or not. The files belong to the caller, with the modes and
    /// times of the archive; devices and pipes are left out.
    pub fn unpack(
        store: &Store,
        archive: Box<dyn Read + Send + '_>,
    ) -> Result<Self, RemoteContextError> {
        let scratch = store.scratch()?;
        let layer = LayerDir::new(scratch.path().join("layer"));
        let directory = scratch.path().join("context");
        for path in [layer.path(), &directory] {
            fs::create_dir(path).map_err(write_error(path))?;
        }
        let (_, mut tar) = layer::decompress(archive).map_err(RemoteContextError::Read)?;
        layer::ingest(&mut tar, layer.path(), &Limits::default())?;
        let view = View::open(std::slice::from_ref(&layer))?;
        write_files(&view, &directory, Special::Skip)?;
        fs::remove_dir_all(layer.path()).map_err(write_error(layer.path()))?;
        Ok(Self {
            store: store.clone(),
            directory,
            _scratch: scratch,
        })
    }

    /// Fetches a repository; see [`git::check_out`].
    pub fn clone_git(
        store: &Store,
        source: &GitSource,
        wish: &Wish<'_>,
    ) -> Result<Self, RemoteContextError> {
        let scratch = store.scratch()?;
        let directory = git::check_out(&scratch.path().join("repository"), source, wish)?;
        Ok(Self {
            store: store.clone(),
            directory,
            _scratch: scratch,
        })
    }

    /// Keeps what a stream gives as the only file of a directory, named `context`, as BuildKit does
    /// with a URL.
    pub fn download(store: &Store, mut stream: impl Read) -> Result<Self, RemoteContextError> {
        let scratch = store.scratch()?;
        let directory = scratch.path().join("context");
        fs::create_dir(&directory).map_err(write_error(&directory))?;
        let path = directory.join("context");
        let mut file = File::create_new(&path).map_err(write_error(&path))?;
        io::copy(&mut stream, &mut file).map_err(RemoteContextError::Read)?;
        // The time of the download says nothing of what was downloaded.
        let modified = file.set_modified(UNIX_EPOCH);
        let mode = file.set_permissions(fs::Permissions::from_mode(0o600));
        modified.and(mode).map_err(write_error(&path))?;
        Ok(Self {
            store: store.clone(),
            directory,
            _scratch: scratch,
        })
    }

    /// Returns the directory of the context.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads a file of the context of at most `limit` bytes; `None` when it is not there. Links in it
    /// do not lead out.
    pub fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let root = Root::open(&self.directory).map_err(|error| error.source)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let path = path.trim_start_matches('/');
        let file = match root.open_in_root(path.as_bytes(), flags) {
            Ok(file) => File::from(file),
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.source),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > limit {
            let message = format!("expected a regular file of at most {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let mut content = Vec::new();
        file.take(limit).read_to_end(&mut content)?;
        Ok(Some(content))
    }
}

impl AsRef<Path> for RemoteContext {
    fn as_ref(&self) -> &Path {
        &self.directory
    }
}

impl Drop for RemoteContext {
    /// What was remembered of the files is of no use: the next context is elsewhere.
    fn drop(&mut self) {
        let real = fs::canonicalize(&self.directory);
        let remembered = self
            .store
            .stat_cache_path(real.as_deref().unwrap_or(&self.directory));
        // It is not there when nothing was read.
        fs::remove_file(remembered).unwrap_or_default();
    }
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> RemoteContextError + '_ {
    move |source| WriteFileError::new(path, source).into()
}
