//! Stores that commands begin with, and the image that they are about.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use testkit::cli::{CommandLine, Served};
use testkit::random::Random;

use crate::ledger;

/// The part of the image that no compression makes smaller, in bytes. Another layer has it too.
const NOISE: usize = 10 << 20;

/// Layers of three kinds: a real root file system, noise, and text that compresses well.
const DOCKERFILE: &str = "FROM busybox
COPY noise /srv/noise
RUN busybox seq 1 1500000 > /srv/numbers && busybox cp /srv/noise /srv/again
CMD [\"true\"]
";

/// Returns a command line with an empty store.
pub(crate) fn strata() -> CommandLine {
    CommandLine::new(env!("CARGO_BIN_EXE_strata"))
}

/// The image `app:1` in an archive, with the image that it was built on.
pub(crate) struct Archive {
    strata: CommandLine,
}

impl Archive {
    pub(crate) fn new() -> Self {
        let strata = strata();
        strata.import_busybox("busybox");
        write_context(&strata);
        strata.run(&["build", "-q", "-t", "app:1", "."]).succeeded();
        let save = ["save", "-o", "app.tar", "app:1", "busybox"];
        strata.run(&save).succeeded();
        Self { strata }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.strata.work("app.tar")
    }

    /// Returns a store into which it was loaded: there are no build steps.
    pub(crate) fn loaded(&self) -> CommandLine {
        let strata = strata();
        let path = self.path();
        let load = ["load", "-q", "-i", path.to_str().expect("a path")];
        strata.run(&load).succeeded();
        assert!(strata.settle());
        strata
    }
}

/// The image `app:1` on a server.
pub(crate) struct Origin {
    served: Served,
    _server: CommandLine,
}

impl Origin {
    pub(crate) fn new() -> Self {
        let source = strata();
        source.import_busybox("busybox");
        write_context(&source);
        let server = strata();
        let served = server.serve(&["--allow-push"]);
        let origin = Self {
            served,
            _server: server,
        };
        let name = origin.name();
        source.run(&["build", "-q", "-t", &name, "."]).succeeded();
        source.run(&["push", "-q", &name]).succeeded();
        origin
    }

    /// Returns the name of the image at the server.
    pub(crate) fn name(&self) -> String {
        format!("{}/app:1", self.served.address())
    }
}

/// Writes the Dockerfile of `app:1` and what it copies to where commands of `strata` run.
pub(crate) fn write_context(strata: &CommandLine) {
    strata.write("Dockerfile", DOCKERFILE);
    strata.write("noise", Random::new(4).bytes(NOISE));
}

/// Gives `to` the store of `from`, in which nobody works, and its working directory.
pub(crate) fn copy_store(from: &CommandLine, to: &CommandLine) {
    for name in ["root", "run", "work"] {
        if from.path(name).exists() {
            copy(&from.path(name), &to.path(""));
        }
    }
}

/// Unmounts everything below `directory`, the last first.
pub(crate) fn unmount_below(directory: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("the kernel tells");
    for line in mounts.lines().rev() {
        let point = line.split(' ').nth(1).unwrap_or_default();
        if Path::new(point).starts_with(directory) {
            unmount(point, UnmountFlags::empty()).expect("unmounted");
        }
    }
}

/// Copies a tree, but not what is mounted in it.
fn copy(from: &Path, to: &Path) {
    let mut copy = Command::new("cp");
    let status = copy.args(["-a", "-x"]).arg(from).arg(to).status();
    assert!(status.is_ok_and(|status| status.success()), "{copy:?}");
}

/// Lists what is wrong with a store in which nobody works.
pub(crate) fn faults(strata: &CommandLine) -> Vec<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let boot = boot.expect("the kernel tells");
    let mut faults = ledger::faults(&strata.path("root"), boot.trim_end());
    let checked = strata.run(&["system", "fsck", "--full"]);
    if checked.code != 0 {
        faults.push(checked.to_string());
    }
    assert!(strata.settle(), "the background does not end");
    faults
}

/// Waits, where a moment is what a test is about.
#[expect(clippy::disallowed_methods, reason = "the moment is the subject")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
