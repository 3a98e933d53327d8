//! Repositories made by git itself.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::commit_time;

const TIME: i64 = 1_600_000_000;

struct Repo {
    directory: tempfile::TempDir,
}

impl Repo {
    /// A repository of a few files and ten commits, of which the last is checked out.
    fn new() -> Self {
        let repo = Self {
            directory: tempfile::tempdir().expect("a directory"),
        };
        fs::create_dir(repo.path()).expect("made");
        repo.git(&["init", "-q", "-b", "main"]);
        repo.write("sub/dir/b", "b\n");
        repo.write("run", "#!/bin/sh\n");
        fs::set_permissions(repo.path().join("run"), fs::Permissions::from_mode(0o755))
            .expect("a mode");
        symlink("nowhere", repo.path().join("link")).expect("a link");
        for number in 1..=10 {
            repo.write("a", &format!("content {number}\n"));
            repo.git(&["add", "-A"]);
            repo.commit(TIME + number);
        }
        repo
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, content).expect("written");
    }

    fn git(&self, args: &[&str]) {
        git(&self.path(), args, TIME);
    }

    /// A long message, so that packs keep it as a difference to another.
    fn commit(&self, time: i64) {
        let message = "the same long message of every commit\n".repeat(20);
        git(
            &self.path(),
            &["commit", "-q", "--allow-empty", "-m", &message],
            time,
        );
    }

    fn time(&self) -> Option<i64> {
        commit_time(&self.path())
    }
}

fn git(directory: &Path, args: &[&str], time: i64) {
    let output = Command::new("git")
        .current_dir(directory)
        .args(["-c", "user.name=A <B", "-c", "user.email=a@b"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_COMMITTER_DATE", format!("{time} +0100"))
        .env("GIT_AUTHOR_DATE", "1500000000 +0000")
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git {args:?}: {output:?}");
}

#[test]
fn a_clean_work_tree_has_the_time_of_its_commit() {
    let repo = Repo::new();
    assert_eq!(repo.time(), Some(TIME + 10));
    assert_eq!(commit_time(&repo.path().join("sub/dir")), Some(TIME + 10));
    repo.git(&["checkout", "-q", "HEAD~3"]);
    assert_eq!(repo.time(), Some(TIME + 7), "a detached HEAD");
    repo.write("untracked", "x");
    assert_eq!(repo.time(), Some(TIME + 7));
    fs::remove_dir_all(repo.path().join(".git")).expect("removed");
    assert_eq!(repo.time(), None, "no repository");
}

#[test]
fn packed_repositories_are_read_as_loose_ones() {
    let repo = Repo::new();
    repo.git(&["gc", "-q", "--aggressive"]);
    assert!(!repo.path().join(".git/refs/heads/main").exists());
    assert_eq!(repo.time(), Some(TIME + 10));
    for back in 1..10 {
        repo.git(&["checkout", "-q", "--detach", &format!("main~{back}")]);
        assert_eq!(repo.time(), Some(TIME + 10 - back));
    }
    // Large offsets are written beyond 2 GiB, or when asked for.
    repo.git(&["checkout", "-q", "main"]);
    repo.git(&["-c", "pack.indexVersion=2", "repack", "-q", "-a", "-d"]);
    assert_eq!(repo.time(), Some(TIME + 10));
    for version in ["2", "3", "4"] {
        repo.git(&["update-index", "--index-version", version]);
        assert_eq!(repo.time(), Some(TIME + 10), "index of version {version}");
    }
}

#[test]
fn every_kind_of_change_is_seen() {
    type Change = fn(&Repo);
    let changes: [(&str, Change); 9] = [
        ("content", |repo| repo.write("a", "content 0\n")),
        ("content of the same size", |repo| {
            repo.write("sub/dir/b", "c\n");
        }),
        ("missing", |repo| {
            fs::remove_file(repo.path().join("a")).expect("removed");
        }),
        ("mode", |repo| {
            let mode = fs::Permissions::from_mode(0o644);
            fs::set_permissions(repo.path().join("run"), mode).expect("a mode");
        }),
        ("link", |repo| {
            fs::remove_file(repo.path().join("link")).expect("removed");
            symlink("elsewhere", repo.path().join("link")).expect("a link");
        }),
        ("type", |repo| {
            fs::remove_file(repo.path().join("link")).expect("removed");
            repo.write("link", "nowhere");
        }),
        ("staged", |repo| {
            repo.write("new", "x");
            repo.git(&["add", "new"]);
        }),
        ("intended", |repo| {
            repo.write("new", "x");
            repo.git(&["add", "-N", "new"]);
        }),
        ("split index", |repo| {
            repo.git(&["update-index", "--split-index"]);
        }),
    ];
    for (name, change) in changes {
        let repo = Repo::new();
        change(&repo);
        assert_eq!(repo.time(), None, "{name}");
    }
}

#[test]
fn what_only_looks_different_is_read() {
    let repo = Repo::new();
    for file in ["a", "sub/dir/b"] {
        let path = repo.path().join(file);
        let content = fs::read(&path).expect("read");
        fs::remove_file(&path).expect("removed");
        fs::write(&path, content).expect("written");
    }
    assert_eq!(repo.time(), Some(TIME + 10));
}

#[test]
fn changes_elsewhere_in_the_work_tree_do_not_count() {
    let repo = Repo::new();
    repo.write("a", "changed");
    assert_eq!(repo.time(), None);
    assert_eq!(commit_time(&repo.path().join("sub")), Some(TIME + 10));
}

#[test]
fn added_work_trees_and_borrowed_objects_are_found() {
    let repo = Repo::new();
    repo.git(&["worktree", "add", "-q", "../other", "HEAD~1"]);
    let other = repo.directory.path().join("other");
    assert_eq!(commit_time(&other), Some(TIME + 9));
    let arguments = ["clone", "-q", "--shared", "work", "clone"];
    git(repo.directory.path(), &arguments, TIME);
    let clone = repo.directory.path().join("clone");
    assert_eq!(commit_time(&clone), Some(TIME + 10));
}

#[test]
fn damage_is_no_repository_and_no_panic() {
    let repo = Repo::new();
    repo.git(&["gc", "-q"]);
    let objects = repo.path().join(".git/objects/pack");
    let mut files = vec![repo.path().join(".git/index")];
    for entry in fs::read_dir(objects).expect("read") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "idx" || e == "pack") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
            files.push(path);
        }
    }
    assert_eq!(files.len(), 3);
    for path in files {
        let whole = fs::read(&path).expect("read");
        for length in (0..whole.len()).step_by(7) {
            fs::write(&path, &whole[..length]).expect("written");
            // Some ends hold nothing that is needed.
            assert!([None, Some(TIME + 10)].contains(&repo.time()));
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            fs::write(&path, &changed).expect("written");
            // Whatever it says: no panic, no endless loop.
            repo.time();
        }
        fs::write(&path, &whole).expect("written");
    }
    assert_eq!(repo.time(), Some(TIME + 10));
}

/// Nothing that the configuration names is run.
#[test]
fn a_foreign_configuration_runs_nothing() {
    let repo = Repo::new();
    let trap = repo.directory.path().join("trap");
    let touched = repo.directory.path().join("touched");
    fs::write(&trap, format!("#!/bin/sh\ntouch {}\n", touched.display())).expect("written");
    fs::set_permissions(&trap, fs::Permissions::from_mode(0o755)).expect("a mode");
    let trap = trap.to_str().expect("UTF-8");
    for name in ["core.fsmonitor", "filter.x.clean", "core.pager"] {
        repo.git(&["config", name, trap]);
    }
    fs::write(repo.path().join(".git/info/attributes"), "* filter=x\n").expect("written");
    repo.time();
    assert!(!touched.exists());
}
