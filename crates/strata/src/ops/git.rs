//! Commits of git repositories, fetched by the program `git`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use build::GitSource;
use rustix::fs::OFlags;
use sys::Root;

/// Why a commit was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no such directory in the repository.
    #[error("no directory {0:?} in the repository")]
    NoSubdirectory(String),
    /// There is no such branch or tag.
    #[error("repository does not contain ref {reference}, remote: {remote:?}")]
    NoReference {
        /// What was wanted.
        reference: String,
        /// Of which repository.
        remote: String,
    },
    /// The commit is another one.
    #[error("expected checksum to match {expected}, got {found}")]
    Checksum {
        /// What it should begin with.
        expected: String,
        /// The commit, or the tag when the commit was not wanted.
        found: String,
    },
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
    /// A file of the work tree cannot be changed.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What is wanted of a repository beside what its name says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'a> {
    /// The commit that its reference is known to name.
    pub commit: Option<&'a str>,
    /// Whether `.git` stays.
    pub keep_git_dir: bool,
}

/// Asks a repository for the commit that its reference names. Branches go before tags, as with
/// `git checkout`.
pub fn resolve(source: &GitSource) -> Result<String, GitError> {
    if let Some(commit) = source.commit() {
        return match &source.checksum {
            Some(expected) => check(expected, &[commit]).map(|()| commit.to_owned()),
            None => Ok(commit.to_owned()),
        };
    }
    let git = Git {
        directory: Path::new("/"),
        source,
    };
    let wanted = source.reference.as_deref().unwrap_or("HEAD");
    let peeled = format!("{wanted}^{{}}");
    let listed = git.run(&[
        "ls-remote",
        "--quiet",
        "--",
        &source.remote,
        wanted,
        &peeled,
    ])?;
    let known: Vec<(&str, &str)> = listed
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(object, name)| (name, object))
        .collect();
    let find = |name: &str| known.iter().find(|(known, _)| *known == name);
    for name in [
        wanted.to_owned(),
        format!("refs/heads/{wanted}"),
        format!("refs/tags/{wanted}"),
        format!("refs/{wanted}"),
    ] {
        let Some((_, object)) = find(&name) else {
            continue;
        };
        let commit = find(&format!("{name}^{{}}")).map_or(*object, |(_, commit)| *commit);
        if let Some(expected) = &source.checksum {
            check(expected, &[commit, object])?;
        }
        return Ok(commit.to_owned());
    }
    Err(GitError::NoReference {
        reference: wanted.to_owned(),
        remote: source.remote.clone(),
    })
}

/// Checks that one of the objects begins with what is expected.
fn check(expected: &str, objects: &[&str]) -> Result<(), GitError> {
    let expected = expected.to_ascii_lowercase();
    match objects.iter().any(|object| object.starts_with(&expected)) {
        true => Ok(()),
        false => Err(GitError::Checksum {
            expected,
            found: objects.first().copied().unwrap_or_default().to_owned(),
        }),
    }
}

/// Fetches a commit with its submodules into the new directory `repository`, and returns the
/// directory that is meant. Files carry the time of the commit, so that it gives the same image
/// each time; `.git` is there only when that is wished, without what says when and how it was
/// fetched.
pub fn check_out(
    repository: &Path,
    source: &GitSource,
    wish: &Wish<'_>,
) -> Result<PathBuf, GitError> {
    fs::create_dir(repository).map_err(write_error(repository))?;
    let git = Git {
        directory: repository,
        source,
    };
    git.run(&["init", "--quiet", "--template="])?;
    git.run(&["remote", "add", "--", "origin", &source.remote])?;
    git.fetch(wish)?;
    let commit = git.run(&["rev-parse", "HEAD"])?;
    if let (None, Some(expected)) = (wish.commit, &source.checksum) {
        check(expected, &[commit.trim()])?;
    }
    if source.submodules {
        let update = ["submodule", "--quiet", "update", "--init", "--recursive"];
        git.run(&[&update[..], &["--depth=1"]].concat())?;
    }
    let time = git.run(&["show", "--no-patch", "--format=%ct", "HEAD"])?;
    let seconds = time.trim().parse().unwrap_or_default();
    if wish.keep_git_dir {
        let own = repository.join(".git");
        // The index has the times and inodes of the files here.
        for (name, is_directory) in [
            ("index", false),
            ("logs", true),
            ("FETCH_HEAD", false),
            ("ORIG_HEAD", false),
        ] {
            remove(&own.join(name), is_directory)?;
        }
        git.run(&["read-tree", "HEAD"])?;
    }
    let root = Root::open(repository).map_err(|error| write_error(repository)(error.source))?;
    let directory = match source.subdirectory.as_str() {
        "" => repository.to_owned(),
        path => {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            root.open_beneath(path.as_bytes(), flags)
                .map_err(|_| GitError::NoSubdirectory(path.to_owned()))?;
            repository.join(path)
        }
    };
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    settle(repository, time, wish.keep_git_dir)?;
    Ok(directory)
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> GitError + '_ {
    move |source| GitError::Write {
        path: path.to_owned(),
        source,
    }
}

/// Removes a file or a directory, if there is one.
fn remove(path: &Path, is_directory: bool) -> Result<(), GitError> {
    let removed = match is_directory {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(write_error(path)(error)),
        _ => Ok(()),
    }
}

/// Gives everything below `directory` one time, and removes what is git's own unless that is
/// kept.
fn settle(directory: &Path, time: SystemTime, keep_git_dir: bool) -> Result<(), GitError> {
    for entry in fs::read_dir(directory).map_err(write_error(directory))? {
        let entry = entry.map_err(write_error(directory))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(write_error(&path))?;
        if entry.file_name() == ".git" && !keep_git_dir {
            remove(&path, kind.is_dir())?;
        } else if kind.is_dir() {
            settle(&path, time, keep_git_dir)?;
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
    /// Fetches what is wanted and checks it out.
    fn fetch(&self, wish: &Wish<'_>) -> Result<(), GitError> {
        let named = self.source.reference.as_deref().unwrap_or("HEAD");
        let wanted = wish.commit.unwrap_or(named);
        let fetch = ["fetch", "--quiet", "--no-tags", "--depth=1", "origin"];
        // Not every server gives a commit by its name alone.
        if self.run(&[&fetch[..], &[wanted]].concat()).is_ok() {
            self.run(&["checkout", "--quiet", "--detach", "FETCH_HEAD"])?;
            return Ok(());
        }
        let all = [
            "+refs/heads/*:refs/remotes/origin/*",
            "+refs/tags/*:refs/tags/*",
        ];
        self.run(&[&["fetch", "--quiet", "origin"], &all[..]].concat())?;
        self.run(&["checkout", "--quiet", "--detach", wanted, "--"])?;
        Ok(())
    }

    /// Runs git in the repository and returns what it printed.
    fn run(&self, arguments: &[&str]) -> Result<String, GitError> {
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
        let output = git.output().map_err(|source| GitError::NoGit {
            url: self.source.remote.clone(),
            source,
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let message = String::from_utf8_lossy(&output.stderr);
        Err(GitError::Git {
            action: arguments.first().copied().unwrap_or_default().to_owned(),
            message: message.trim().replace(char::is_control, " "),
        })
    }
}
