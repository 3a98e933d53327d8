//! Builds that are ended in the middle of steps which do not want to end: nothing of them is left, and
//! the next build goes on where they were.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use testkit::cli::CommandLine;
use testkit::traces::holders;

use crate::ledger;
use crate::stage::{faults, strata};

/// Two steps at a time that ignore signals, with children that do; unless the secret says `go`, which
/// is no reason to run a step again.
const DOCKERFILE: &str = "FROM busybox AS one
RUN echo one > /one
RUN --mount=type=cache,target=/cache --mount=type=secret,id=word \\
    test \"$(cat /run/secrets/word)\" = go-on || { trap '' INT TERM HUP; touch /cache/seen; \\
        sh -c \"trap '' INT TERM HUP; sleep MARK; echo\" & echo waiting; sleep MARK; }
FROM busybox AS two
RUN echo two > /two
RUN --mount=type=secret,id=word,env=WORD --mount=type=tmpfs,target=/t \\
    test \"$WORD\" = go-on || { trap '' INT TERM HUP; touch /t/x /two-too; \\
        sleep MARK & echo waiting; sleep MARK; }
FROM busybox
COPY --from=one /one /
COPY --from=two /two /
";

/// How many steps wait in the end.
const STEPS: usize = 2;

/// What keeps the steps waiting.
const SECRET: &str = "stay-4b1d-9f3e";

/// docker's last words of a build that a signal has ended.
const CANCELED: &str = "ERROR: failed to build: failed to solve: Canceled: context canceled\n";

/// How long a build may take to end when it is asked to, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(5);

/// A build whose steps wait.
struct Waiting {
    child: std::process::Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Waiting {
    /// Starts a build that waits for a registry which never answers.
    fn for_registry(strata: &CommandLine, silent: &TcpListener) -> Self {
        let address = silent.local_addr().expect("an address");
        strata.write("Dockerfile", format!("FROM {address}/silent:1\n"));
        let mut command = strata.command(&["build", "--progress", "plain", "."]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.process_group(0).spawn().expect("it starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        drop(silent.accept().expect("it asks"));
        Self { child, stderr }
    }

    /// Starts the build in a group of its own, as a shell does, and waits for its steps.
    fn start(strata: &CommandLine) -> Self {
        let mut command = strata.command(&["build", "--progress", "plain", "--network", "none"]);
        command.args(["--secret", "id=word,src=word", "."]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.process_group(0).spawn().expect("it starts");
        let stderr = child.stderr.take().expect("a pipe");
        let mut stderr = BufReader::new(stderr);
        let mut said = String::new();
        let mut waiting = 0;
        while waiting < STEPS {
            let before = said.len();
            let read = stderr.read_line(&mut said).expect("text");
            assert_ne!(read, 0, "{said}");
            waiting += usize::from(said[before..].trim_end().ends_with(" waiting"));
        }
        Self { child, stderr }
    }

    /// Sends a signal to the group. Returns how the build ended, how soon, and what it said.
    fn end(mut self, signal: Signal) -> (ExitStatus, Duration, String) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let started = Instant::now();
        kill_process_group(group.expect("an id"), signal).expect("it is there");
        let status = self.child.wait().expect("it ends");
        let time = started.elapsed();
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("text");
        (status, time, said)
    }
}

/// Returns the processes whose command line has `mark`, and the control groups that they are in.
fn processes(mark: &str) -> (usize, HashSet<PathBuf>) {
    let mut count = 0;
    let mut groups = HashSet::new();
    for process in fs::read_dir("/proc").expect("the kernel tells").flatten() {
        let words = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        if !words.contains(mark) {
            continue;
        }
        count += 1;
        let lines = fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
        for line in lines.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controller), Some(group)) = (fields.next(), fields.next()) else {
                continue;
            };
            let place = PathBuf::from("/sys/fs/cgroup").join(controller);
            groups.insert(place.join(group.trim_start_matches('/')));
        }
    }
    groups.retain(|group| {
        let name = group.file_name().unwrap_or_default();
        name.as_encoded_bytes().starts_with(b"strata-")
    });
    (count, groups)
}

/// Returns what is mounted in the directory of `strata`.
fn mounts(strata: &CommandLine) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("the kernel tells");
    let directory = strata.path("");
    let directory = directory.to_str().expect("a path");
    let lines = mounts.lines().filter(|line| line.contains(directory));
    lines.map(str::to_owned).collect()
}

/// Ends a build with `signal`, looks for what is left, and lets another one go on.
fn check(signal: Signal, may_end: fn(ExitStatus) -> bool) {
    let strata = strata();
    strata.import_busybox("busybox");
    let mark = format!("86{:08}.{}", std::process::id(), signal.as_raw());
    strata.write("Dockerfile", DOCKERFILE.replace("MARK", &mark));
    strata.write("word", SECRET);
    let waiting = Waiting::start(&strata);
    let (count, groups) = processes(&mark);
    assert!(count > 0, "nothing sleeps");
    let (status, time, said) = waiting.end(signal);
    assert!(may_end(status), "{status}: {said}");
    assert!(time < PATIENCE, "{time:?}");
    if signal != Signal::KILL {
        assert!(said.contains(" CANCELED\n"), "{said}");
        assert!(said.ends_with(CANCELED), "{said}");
    }
    let started = Instant::now();
    // Who is killed by the kernel, when the first process of a container is, goes in a moment.
    while processes(&mark).0 > 0 {
        assert!(started.elapsed() < PATIENCE, "processes are left");
        thread::yield_now();
    }
    assert!(strata.settle());
    strata.run(&["image", "prune", "-f"]).succeeded();
    assert!(strata.settle());
    for group in groups {
        assert!(!group.exists(), "{} is left", group.display());
    }
    assert_eq!(faults(&strata), [""; 0]);
    let strays = ledger::strays(&strata.path("root"));
    assert_eq!(strays, [""; 0].map(PathBuf::from));
    let secrets = holders(&strata.path(""), SECRET.as_bytes());
    assert_eq!(secrets, [strata.work("word")]);
    strata.write("word", "go-on");
    let build = ["build", "--progress", "plain", "--network", "none"];
    let again = [&build[..], &["--secret", "id=word,src=word", "."]].concat();
    let said = strata.run(&again).stderr();
    for done in ["RUN echo one > /one", "RUN echo two > /two"] {
        let (_, after) = said.split_once(done).expect(done);
        let line = after.lines().nth(1).unwrap_or_default();
        assert!(line.ends_with(" CACHED"), "{done}: {said}");
    }
    strata.run(&["builder", "prune", "-af"]).succeeded();
    strata.run(&["history", "rm", "--all"]).succeeded();
    strata.run(&["image", "prune", "-af"]).succeeded();
    assert!(strata.settle());
    assert_eq!(mounts(&strata), [""; 0]);
}

/// docker's code, whatever the signal.
fn is_canceled(status: ExitStatus) -> bool {
    status.code() == Some(130)
}

#[test]
fn privileged_a_build_ends_with_ctrl_c_at_once_and_leaves_nothing() {
    check(Signal::INT, is_canceled);
}

#[test]
fn a_build_that_waits_for_a_registry_ends_with_ctrl_c() {
    let strata = strata();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (status, time, said) = Waiting::for_registry(&strata, &silent).end(Signal::INT);
    assert!(is_canceled(status), "{status}: {said}");
    assert!(time < PATIENCE, "{time:?}");
    assert!(said.ends_with(CANCELED), "{said}");
}

#[test]
fn privileged_a_build_ends_with_sigterm_at_once_and_leaves_nothing() {
    check(Signal::TERM, is_canceled);
}

#[test]
fn privileged_a_build_that_is_killed_leaves_nothing_after_the_next_prune() {
    check(Signal::KILL, |status| status.signal() == Some(9));
}
