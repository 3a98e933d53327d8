//! A build context that is not a directory here: an archive, or a git repository.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use layer::{IngestError, LayerDir, Limits, View, ViewError};
use rustix::fs::OFlags;
use store::{Scratch, Store, StoreError};
use sys::Root;

use super::files::{Special, WriteFileError, write_files};

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
    /// A branch, tag or commit cannot be one.
    #[error("invalid git reference {0:?}")]
    GitReference(String),
    /// There is no such directory in the repository.
    #[error("no directory {0:?} in the repository")]
    NoSubdirectory(String),
    /// The program is needed.
    #[error("git is needed for {url}, and cannot be started")]
    NoGit {
        /// What was to be fetched.
        url: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// git failed.
    #[error("git {action} failed: {message}")]
    Git {
        /// What it was to do.
        action: String,
        /// What it said.
        message: String,
    },
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

/// A git repository as `docker build` names it: `https://host/repo.git#ref:directory`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSource {
    /// What git fetches.
    pub remote: String,
    /// The branch, tag or commit; `None` is the default branch.
    pub reference: Option<String>,
    /// The directory in it; empty for all.
    pub subdirectory: String,
}

impl GitSource {
    /// Reads the name of a repository; `None` when it is another kind of context.
    pub fn parse(text: &str) -> Option<Self> {
        let (remote, fragment) = text.split_once('#').unwrap_or((text, ""));
        let is_web = remote.starts_with("http://") || remote.starts_with("https://");
        let is_git = ["git://", "ssh://", "git@"]
            .iter()
            .any(|prefix| remote.starts_with(prefix));
        let remote = match remote.strip_prefix("github.com/") {
            Some(_) => format!("https://{remote}"),
            None if is_git || (is_web && remote.ends_with(".git")) => remote.to_owned(),
            None => return None,
        };
        let (reference, subdirectory) = fragment.split_once(':').unwrap_or((fragment, ""));
        Some(Self {
            remote,
            reference: Some(reference.to_owned()).filter(|text| !text.is_empty()),
            subdirectory: subdirectory.to_owned(),
        })
    }
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

    /// Fetches a repository with the program `git`. Files carry the time of the commit, so that
    /// it gives the same image each time; `.git` is not there.
    pub fn clone_git(store: &Store, source: &GitSource) -> Result<Self, RemoteContextError> {
        let reference = source.reference.as_deref().unwrap_or("HEAD");
        if reference.starts_with('-') || reference.contains(char::is_control) {
            return Err(RemoteContextError::GitReference(reference.to_owned()));
        }
        let scratch = store.scratch()?;
        let repository = scratch.path().join("repository");
        fs::create_dir(&repository).map_err(write_error(&repository))?;
        let git = Git {
            directory: &repository,
            source,
        };
        git.run(&["init", "--quiet"])?;
        let fetch = ["fetch", "--quiet", "--no-tags", "--depth=1", "--"];
        let wanted = [source.remote.as_str(), reference];
        // Not every server gives a commit by its name alone.
        if git.run(&[&fetch[..], &wanted].concat()).is_ok() {
            git.run(&["checkout", "--quiet", "FETCH_HEAD"])?;
        } else {
            let all = [
                "+refs/heads/*:refs/remotes/origin/*",
                "+refs/tags/*:refs/tags/*",
            ];
            let fetch = ["fetch", "--quiet", "--", source.remote.as_str()];
            git.run(&[&fetch[..], &all].concat())?;
            git.run(&["checkout", "--quiet", "--detach", reference, "--"])?;
        }
        git.run(&[
            "submodule",
            "--quiet",
            "update",
            "--init",
            "--recursive",
            "--depth=1",
        ])?;
        let time = git.run(&["show", "--no-patch", "--format=%ct", "HEAD"])?;
        let seconds = time.trim().parse().unwrap_or_default();
        let root =
            Root::open(&repository).map_err(|error| write_error(&repository)(error.source))?;
        let directory = match source.subdirectory.trim_matches('/') {
            "" => repository.clone(),
            path => {
                let missing = || RemoteContextError::NoSubdirectory(path.to_owned());
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                root.open_beneath(path.as_bytes(), flags)
                    .map_err(|_| missing())?;
                repository.join(path)
            }
        };
        settle(&repository, UNIX_EPOCH + Duration::from_secs(seconds))?;
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

/// Gives everything below `directory` one time, and removes what is git's own.
fn settle(directory: &Path, time: SystemTime) -> Result<(), RemoteContextError> {
    for entry in fs::read_dir(directory).map_err(write_error(directory))? {
        let entry = entry.map_err(write_error(directory))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(write_error(&path))?;
        if entry.file_name() == ".git" {
            match kind.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            }
            .map_err(write_error(&path))?;
        } else if kind.is_dir() {
            settle(&path, time)?;
        } else if kind.is_file() {
            File::open(&path)
                .and_then(|file| file.set_modified(time))
                .map_err(write_error(&path))?;
        }
    }
    File::open(directory)
        .and_then(|opened| opened.set_modified(time))
        .map_err(write_error(directory))
}

struct Git<'a> {
    directory: &'a Path,
    source: &'a GitSource,
}

impl Git<'_> {
    /// Runs git in the repository and returns what it printed.
    fn run(&self, arguments: &[&str]) -> Result<String, RemoteContextError> {
        let mut git = Command::new("git");
        // Nobody is there to answer, and a remote must not name a program.
        git.args([
            "-c",
            "protocol.ext.allow=never",
            "-c",
            "advice.detachedHead=false",
        ])
        .args(arguments)
        .current_dir(self.directory)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .stdin(Stdio::null());
        let output = git.output().map_err(|source| RemoteContextError::NoGit {
            url: self.source.remote.clone(),
            source,
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let message = String::from_utf8_lossy(&output.stderr);
        Err(RemoteContextError::Git {
            action: arguments.first().copied().unwrap_or_default().to_owned(),
            message: message.trim().replace(char::is_control, " "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_other_contexts() {
        let git = |remote: &str, reference: Option<&str>, subdirectory: &str| {
            Some(GitSource {
                remote: remote.to_owned(),
                reference: reference.map(str::to_owned),
                subdirectory: subdirectory.to_owned(),
            })
        };
        for (text, expected) in [
            ("https://h/r.git", git("https://h/r.git", None, "")),
            ("https://h/r.git#v1", git("https://h/r.git", Some("v1"), "")),
            (
                "https://h/r.git#v1:a/b",
                git("https://h/r.git", Some("v1"), "a/b"),
            ),
            ("https://h/r.git#:a", git("https://h/r.git", None, "a")),
            ("git@h:o/r", git("git@h:o/r", None, "")),
            ("ssh://git@h/r", git("ssh://git@h/r", None, "")),
            ("git://h/r#x", git("git://h/r", Some("x"), "")),
            ("github.com/o/r", git("https://github.com/o/r", None, "")),
            ("https://h/context.tar.gz", None),
            ("dir", None),
            ("/srv/r.git", None),
        ] {
            assert_eq!(GitSource::parse(text), expected, "{text}");
        }
    }
}
