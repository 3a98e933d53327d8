//! A command line with a store of its own and nothing of the machine's environment.

use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::Pid;
use tempfile::TempDir;

use crate::tarball::{Member, Tarball};

/// Where a program runs: a temporary directory with a store, a run directory and a working
/// directory. Dropped, it takes away what was mounted, and itself.
#[derive(Debug)]
pub struct CommandLine {
    directory: TempDir,
    program: PathBuf,
    variables: Vec<(String, String)>,
    is_unprivileged: bool,
}

/// What a command printed, and its exit code. `Display` is the form of the captures of docker:
/// the streams that are not empty, then the code.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a command that failed says so only here"]
pub struct Outcome {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// Its exit code; 128 + n when signal n killed it.
    pub code: i32,
}

/// Nobody: a user without privileges, files or groups.
const NOBODY: &str = "65534";

impl CommandLine {
    /// Makes the surroundings of `program`.
    pub fn new(program: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        for name in ["work", "home"] {
            fs::create_dir(directory.path().join(name)).expect("a directory");
        }
        Self {
            directory,
            program: PathBuf::from(program),
            variables: Vec::new(),
            is_unprivileged: false,
        }
    }

    /// Makes the program run as nobody, with a store of nobody's own. Needs root.
    #[must_use]
    pub fn unprivileged(mut self) -> Self {
        let program = self.path("strata");
        let run = |command: &mut Command| {
            let status = command.status();
            assert!(status.is_ok_and(|status| status.success()), "{command:?}");
        };
        // Copied by a process of its own: a program that this one has open for writing cannot be
        // executed, and another thread's child may hold it open for longer.
        run(Command::new("cp").arg(&self.program).arg(&program));
        let directory = self.directory.path();
        run(Command::new("chown").args(["-R", NOBODY]).arg(directory));
        self.program = program;
        self.is_unprivileged = true;
        self
    }

    /// Sets a variable of the program's environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Returns a path in the temporary directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns a path in the working directory of commands.
    pub fn work(&self, name: &str) -> PathBuf {
        self.path("work").join(name)
    }

    /// Writes a file in the working directory of commands, and the directories above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.work(name);
        let parent = path.parent().expect("a file has a parent");
        fs::create_dir_all(parent).expect("a directory");
        fs::write(&path, content).expect("the file is writable");
    }

    /// Links the program under another name and uses it by that name from now on.
    #[must_use]
    pub fn called(mut self, name: &str) -> Self {
        let link = self.path(name);
        std::os::unix::fs::symlink(&self.program, &link).expect("a link");
        self.program = link;
        self
    }

    /// Runs the program with no input.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with(arguments, b"")
    }

    /// Runs the program with `input` as its standard input.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let output = thread::scope(|scope| {
            scope.spawn(move || {
                // A program may end without reading its input.
                drop(stdin.write_all(input));
            });
            child.wait_with_output().expect("the program ends")
        });
        Outcome::new(&output)
    }

    /// Returns the command that runs the program, for tests that need more of it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.is_unprivileged {
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
                command.arg(&self.program);
                command
            }
            false => Command::new(&self.program),
        };
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path("home"))
            .env("STRATA_ROOT", self.path("root"))
            .env("STRATA_RUN", self.path("run"))
            // What is removed goes at once, and nobody waits in the background.
            .env("STRATA_UNDO_WINDOW", "0")
            .current_dir(self.path("work"));
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command
    }

    /// Imports an image with one file, `/etc/motd`, under `name`; returns its id.
    pub fn import_small(&self, name: &str) -> String {
        let tar = Tarball::new()
            .push(&Member::directory("etc"))
            .push(&Member::file("etc/motd", b"welcome\n"))
            .finish();
        self.import(name, &tar)
    }

    /// Imports an image of the machine's static busybox under `name`; returns its id.
    pub fn import_busybox(&self, name: &str) -> String {
        let program = ["/bin/busybox", "/usr/bin/busybox"]
            .iter()
            .find_map(|path| fs::read(path).ok())
            .expect("busybox-static is installed");
        let mut tar = Tarball::new();
        for directory in ["bin", "etc", "tmp", "home"] {
            tar.push(&Member::directory(directory));
        }
        let mut busybox = Member::file("bin/busybox", &program);
        busybox.mode = 0o755;
        tar.push(&busybox);
        for applet in APPLETS {
            tar.push(&Member::symlink(format!("bin/{applet}"), "busybox"));
        }
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n";
        tar.push(&Member::file("etc/passwd", passwd));
        tar.push(&Member::file("etc/group", b"root:x:0:\nuser:x:1000:\n"));
        self.import(name, &tar.finish())
    }

    fn import(&self, name: &str, tar: &[u8]) -> String {
        let outcome = self.run_with(&["import", "-", name], tar);
        assert_eq!(outcome.code, 0, "{outcome}");
        outcome.stdout.trim().to_owned()
    }
}

/// A registry that a command line serves in the background. Dropped, it ends.
#[derive(Debug)]
pub struct Served {
    child: Child,
    address: String,
}

impl CommandLine {
    /// Serves the store as a registry at a free port, as `registry serve` with `flags`.
    pub fn serve(&self, flags: &[&str]) -> Served {
        let mut words = vec!["registry", "serve", "--addr", "127.0.0.1:0"];
        words.extend(flags);
        let mut child = self
            .command(&words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let stderr = child.stderr.take().expect("a pipe");
        let read = BufReader::new(stderr).read_line(&mut line);
        let address = line.trim().rsplit("http://").next().unwrap_or_default();
        assert!(read.is_ok() && !address.is_empty(), "{line:?}");
        Served {
            address: address.to_owned(),
            child,
        }
    }
}

impl Served {
    /// Returns the address, as it stands before the path in an image's name.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const APPLETS: &[&str] = &[
    "cat", "chmod", "echo", "env", "false", "grep", "hostname", "id", "kill", "ls", "mkdir",
    "mount", "printf", "pwd", "rm", "sh", "sleep", "stat", "stty", "test", "touch", "true", "tty",
    "wc",
];

/// How long what commands left to the background may take.
const BACKGROUND: Duration = Duration::from_secs(20);

impl CommandLine {
    /// Waits until no process works on the store: commands leave work to the background. Tells
    /// whether that came to an end.
    pub fn settle(&self) -> bool {
        let started = Instant::now();
        while !self.processes().is_empty() {
            if started.elapsed() > BACKGROUND {
                return false;
            }
            thread::yield_now();
        }
        true
    }

    /// Lists the processes that have the store in their environment: commands, what they left to
    /// the background, and a server.
    pub fn processes(&self) -> Vec<Pid> {
        let variables = self.variables.iter();
        let mut roots = variables.filter(|(name, _)| name == "STRATA_ROOT");
        let root = match roots.next_back() {
            Some((_, root)) => root.clone(),
            None => self.path("root").display().to_string(),
        };
        let variable = format!("STRATA_ROOT={root}");
        let program = fs::canonicalize(&self.program).unwrap_or_default();
        let mut found = Vec::new();
        let Ok(processes) = fs::read_dir("/proc") else {
            return found;
        };
        for process in processes.flatten() {
            let number = process.file_name().to_str().map(str::parse);
            let Some(Ok(number)) = number else {
                continue;
            };
            let mut environment = Vec::new();
            // A process that is just being started has its program before its environment.
            while environment.is_empty()
                && let Ok(now) = fs::read(process.path().join("environ"))
            {
                environment = now;
                let is_ours =
                    || fs::read_link(process.path().join("exe")).ok() == Some(program.clone());
                if environment.is_empty() && !is_ours() {
                    break;
                }
            }
            let mut variables = environment.split(|byte| *byte == 0);
            if variables.any(|found| found == variable.as_bytes()) {
                found.extend(Pid::from_raw(number));
            }
        }
        found
    }
}

impl Drop for CommandLine {
    fn drop(&mut self) {
        // Or they would make files again that are being deleted here.
        self.settle();
        let run = self.path("run");
        let Ok(mounts) = fs::read_to_string("/proc/self/mounts") else {
            return;
        };
        // The last mount may lie in one before it.
        for line in mounts.lines().rev() {
            let target = line.split(' ').nth(1).unwrap_or_default();
            if Path::new(target).starts_with(&run) {
                let _ = unmount(target, UnmountFlags::DETACH);
            }
        }
    }
}

impl Outcome {
    fn new(output: &std::process::Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;

        let code = output.status.code();
        let signal = output.status.signal().unwrap_or_default();
        Self {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: code.unwrap_or(128 + signal),
        }
    }

    /// Returns its standard output after checking that it succeeded and said nothing else.
    pub fn stdout(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self}");
        self.stdout
    }

    /// Checks that it succeeded, whatever it printed.
    pub fn succeeded(&self) {
        assert_eq!(self.code, 0, "{self}");
    }

    /// Returns its standard error after checking that it succeeded.
    pub fn stderr(self) -> String {
        self.succeeded();
        self.stderr
    }

    /// Returns its display form with everything that changes from run to run replaced: digests,
    /// ids and ages.
    pub fn redacted(&self) -> String {
        redact(&self.to_string())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                let end = if text.ends_with('\n') { "" } else { "\n" };
                write!(f, "[{name}]\n{text}{end}")?;
            }
        }
        writeln!(f, "[exit {}]", self.code)
    }
}

/// Replaces words of 64 or 12 hex digits, and the ages of things that were just made.
pub fn redact(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let length = rest
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(rest.len());
        let (word, tail) = rest.split_at(length);
        let is_hex = word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match (is_hex, word.len()) {
            (true, 64) => redacted.push_str("<digest>"),
            (true, 12) => redacted.push_str("SHORTSHORTID"),
            _ => redacted.push_str(word),
        }
        let mut separator = tail.chars();
        redacted.extend(separator.next());
        rest = separator.as_str();
    }
    let ages = (2..60).map(|seconds| format!("{seconds} seconds ago"));
    for age in ages.chain(["Less than a second ago".into(), "1 second ago".into()]) {
        redacted = redacted.replace(&age, "<now>");
    }
    redacted
}
