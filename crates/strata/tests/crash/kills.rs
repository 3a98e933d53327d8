//! Commands that are killed at random moments and then given again: the store ends as one in which
//! nobody was killed.

use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use testkit::cli::{CommandLine, Served};
use testkit::random::Random;

use crate::ledger::{self, Ledger};
use crate::length;
use crate::stage::{Archive, Origin, copy_store, faults, pause, strata, write_context};

/// How often each command is killed in a short run.
const KILLS: usize = 3;

/// The commands of the long version, which shares its rounds out among them.
const COMMANDS: usize = 10;

/// Stages that are built at the same time, with all that a step can have open.
const PARALLEL: &str = "FROM busybox AS one
RUN --mount=type=cache,target=/cache --mount=type=secret,id=word \
    echo kept > /cache/file && busybox wc -c < /run/secrets/word > /length
RUN busybox seq 1 30000 > /numbers
FROM busybox AS two
RUN --mount=type=bind,target=/context --mount=type=tmpfs,target=/t --mount=type=secret,id=word,env=WORD \
    test -n \"$WORD\" && busybox cp /context/file /t/ && busybox cp /t/file /copy
RUN busybox seq 30000 60000 > /numbers
FROM busybox AS three
RUN --mount=type=cache,target=/cache,sharing=locked busybox seq 1 9 > /cache/nine; echo 3 > /three
FROM busybox
COPY --from=one /length /numbers /one/
COPY --from=two /copy /numbers /two/
COPY --from=three /three /
COPY file /
";

/// How long a command may take to end when it is asked to, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// The process that a person started. What it left to the background goes on.
    Command,
    /// That, every process in the background, also after the command has ended, and the server that
    /// it pushes to.
    Everything,
    /// Nothing: the command is asked to end, as Ctrl-C does, and ends by itself.
    Nobody,
}

/// In turns.
const VICTIMS: &[Victim] = &[Victim::Everything, Victim::Command];
/// With Ctrl-C.
const VICTIMS_OF_BUILDS: &[Victim] = &[Victim::Everything, Victim::Nobody, Victim::Command];

/// A command and the store that it begins with.
struct Work {
    words: Vec<String>,
    /// An archive that is given through a pipe.
    piped: Option<PathBuf>,
    /// The store before, in which nobody works.
    before: CommandLine,
    /// Whether the image that comes of it carries the time.
    is_dated: bool,
    /// What the second command may say because the first one had done it all.
    may_say: Option<&'static str>,
    /// How long removed images can come back.
    window: &'static str,
    /// Whether a server of its own takes what is pushed.
    pushes: bool,
    /// What is killed.
    victims: &'static [Victim],
}

impl Work {
    fn new(before: CommandLine, words: &[&str]) -> Self {
        Self {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            piped: None,
            before,
            is_dated: false,
            may_say: None,
            window: "0",
            pushes: false,
            victims: VICTIMS,
        }
    }

    /// Gives the command once and again, with a kill at each of some moments, and compares.
    fn survives_kills(&self) {
        let seed = length::seed();
        let kills = length::rounds().map_or(KILLS, |rounds| rounds.div_ceil(COMMANDS));
        let mut random = Random::new(seed);
        let calm = [Round::new(self), Round::new(self)];
        // The first one fills caches.
        let times = calm.each_ref().map(Round::measure);
        let [command, everything] = [0, 1].map(|index| times[0][index].min(times[1][index]));
        let [calm, other] = calm.map(Round::finish);
        assert!(calm == other, "{}", calm.differences(&other).join("\n"));
        for number in 0..kills {
            let victim = self.victims[number % self.victims.len()];
            let whole = match victim {
                Victim::Command | Victim::Nobody => command,
                Victim::Everything => everything,
            };
            // Spread evenly over its time.
            let micros = usize::try_from(whole.as_micros()).expect("seconds");
            let part = micros / kills + 1;
            let mut delay = part * number + random.below(part);
            loop {
                let what = format!(
                    "`strata {}`: kill {number} of seed {seed}, of {victim:?} after {delay} of {micros} µs",
                    self.words.join(" ")
                );
                let mut round = Round::new(self);
                let was_killed = round.kill(victim, delay);
                if length::rounds().is_some() {
                    let word = if was_killed { "killed" } else { "too late" };
                    length::tell(&format!("{what}: {word}"));
                }
                round.again(&what);
                let differences = round.finish().differences(&calm);
                assert!(
                    differences.is_empty(),
                    "{what}:\n{}",
                    differences.join("\n")
                );
                if was_killed {
                    break;
                }
                // The machine has become faster.
                delay = random.below(delay.max(1));
            }
        }
    }
}

/// One store in which a command is given.
struct Round<'a> {
    work: &'a Work,
    strata: CommandLine,
    server: Option<(CommandLine, Served)>,
    words: Vec<String>,
}

impl<'a> Round<'a> {
    fn new(work: &'a Work) -> Self {
        let strata = strata().variable("STRATA_UNDO_WINDOW", work.window);
        copy_store(&work.before, &strata);
        let mut words = work.words.clone();
        let server = work.pushes.then(|| {
            let server = crate::stage::strata();
            let served = server.serve(&["--allow-push"]);
            let name = format!("{}/app:1", served.address());
            strata.run(&["tag", "app:1", &name]).succeeded();
            words.push(name);
            (server, served)
        });
        assert!(strata.settle());
        Self {
            work,
            strata,
            server,
            words,
        }
    }

    fn start(&self) -> (Child, Option<Child>) {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let mut command = self.strata.command(&words);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let feeder = self.work.piped.as_ref().map(|archive| {
            let mut cat = Command::new("cat");
            let cat = cat
                .arg(archive)
                .stdout(Stdio::piped())
                .stderr(Stdio::null());
            cat.spawn().expect("cat starts")
        });
        let mut feeder = feeder;
        let pipe = feeder.as_mut().and_then(|feeder| feeder.stdout.take());
        command.stdin(pipe.map_or_else(Stdio::null, Stdio::from));
        (command.spawn().expect("the program starts"), feeder)
    }

    /// Returns how long the command takes, and how long that and all it leaves to the background.
    fn measure(&self) -> [Duration; 2] {
        let started = Instant::now();
        let (status, said) = end(self.start());
        assert!(status.success(), "{:?}: {status}, {said}", self.words);
        let command = started.elapsed();
        assert!(self.strata.settle());
        [command, started.elapsed()]
    }

    /// Starts the command and kills it. Tells whether it was still there.
    fn kill(&mut self, victim: Victim, micros: usize) -> bool {
        let (mut child, feeder) = self.start();
        pause(Duration::from_micros(
            u64::try_from(micros).expect("seconds"),
        ));
        let was_there = child.try_wait().expect("a child").is_none();
        if victim == Victim::Nobody {
            interrupt(&mut child);
        } else {
            child.kill().expect("a child that was not waited for");
        }
        let mut others = 0;
        if victim == Victim::Everything {
            // One may have just started another.
            for process in std::iter::from_fn(|| self.strata.processes().pop()) {
                // It may have ended by itself.
                _ = kill_process(process, Signal::KILL);
                others += 1;
            }
        }
        end((child, feeder));
        if victim == Victim::Everything
            && let Some((server, served)) = self.server.take()
        {
            let address = served.address().to_owned();
            drop(served);
            let served = server.serve(&["--allow-push", "--addr", &address]);
            self.server = Some((server, served));
        }
        was_there || others > 0
    }

    /// Gives the command again, to its end.
    fn again(&self, what: &str) {
        let (status, said) = end(self.start());
        let is_done = self.work.may_say.is_some_and(|text| said.contains(text));
        assert!(status.success() || is_done, "{what}: {status}, {said}");
        assert!(self.strata.settle(), "{what}: the background does not end");
        let faults = faults(&self.strata);
        assert!(faults.is_empty(), "{what}:\n{}", faults.join("\n"));
    }

    /// Returns what the store holds, and the server's, when what is not needed has been swept.
    /// Checks that they hold nothing else, and nothing at all when all images are removed.
    fn finish(self) -> Ledger {
        let mut all = Ledger::default();
        let address = self
            .server
            .as_ref()
            .map(|(_, served)| served.address().to_owned());
        let server = self.server.map(|(server, served)| {
            drop(served);
            server
        });
        for strata in std::iter::once(&self.strata).chain(&server) {
            strata.run(&["image", "prune", "-f"]).succeeded();
            assert!(strata.settle());
            let faults = faults(strata);
            assert!(faults.is_empty(), "{}", faults.join("\n"));
            assert_eq!(
                ledger::strays(&strata.path("root")),
                [""; 0].map(PathBuf::from)
            );
            let mut ledger = Ledger::read(&strata.path("root"));
            if self.work.is_dated {
                ledger = ledger.undated(&strata.path("root"));
            }
            if let Some(address) = &address {
                ledger = ledger.replaced(address, "REGISTRY");
            }
            all.add(ledger);
            empty(strata);
        }
        all
    }
}

/// Asks a command to end, as Ctrl-C does. It ends at once; when it had ended before, nothing happens.
fn interrupt(child: &mut Child) {
    let process = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let asked = Instant::now();
    // It may have ended by itself.
    _ = kill_process(process.expect("an id"), Signal::INT);
    let status = child.wait().expect("it ends");
    assert!(asked.elapsed() < PATIENCE, "{:?}", asked.elapsed());
    let is_told = matches!(status.code(), Some(0 | 130)) || status.signal() == Some(2);
    assert!(is_told, "{status}");
}

/// Removes everything, and checks that nothing is left.
fn empty(strata: &CommandLine) {
    let containers = strata.run(&["ps", "-aq"]).stdout();
    for container in containers.lines() {
        strata.run(&["rm", "-f", container]).succeeded();
    }
    strata.run(&["builder", "prune", "-af"]).succeeded();
    strata.run(&["history", "rm", "--all"]).succeeded();
    strata.run(&["image", "prune", "-af"]).succeeded();
    assert!(strata.settle());
    let left = Ledger::read(&strata.path("root"));
    let left = left.only(&["image", "tag", "layer", "blob", "step", "container", "file"]);
    assert_eq!(left, [""; 0]);
}

/// Waits for a command, and for what feeds it; returns what it said.
fn end((mut child, feeder): (Child, Option<Child>)) -> (ExitStatus, String) {
    let mut said = String::new();
    let stderr = child.stderr.as_mut().expect("a pipe");
    // What is not text is not asked for either.
    drop(stderr.read_to_string(&mut said));
    let status = child.wait().expect("it ends");
    if let Some(mut feeder) = feeder {
        feeder.wait().expect("it ends");
    }
    (status, said)
}

#[test]
fn privileged_a_killed_pull_is_as_if_it_had_not_been() {
    let origin = Origin::new();
    Work::new(strata(), &["pull", "-q", &origin.name()]).survives_kills();
}

#[test]
fn privileged_a_killed_push_is_as_if_it_had_not_been() {
    let work = Work {
        pushes: true,
        ..Work::new(Archive::new().loaded(), &["push", "-q"])
    };
    work.survives_kills();
}

#[test]
fn privileged_a_killed_load_is_as_if_it_had_not_been() {
    let archive = Archive::new();
    let path = archive.path();
    let words = ["load", "-q", "-i", path.to_str().expect("a path")];
    Work::new(strata(), &words).survives_kills();
}

#[test]
fn privileged_a_killed_load_from_a_pipe_is_as_if_it_had_not_been() {
    let archive = Archive::new();
    let work = Work {
        piped: Some(archive.path()),
        ..Work::new(strata(), &["load", "-q"])
    };
    work.survives_kills();
}

#[test]
fn privileged_a_killed_build_is_as_if_it_had_not_been() {
    let before = strata();
    before.import_busybox("busybox");
    write_context(&before);
    assert!(before.settle());
    let work = Work {
        victims: VICTIMS_OF_BUILDS,
        ..Work::new(before, &["build", "-q", "-t", "app:1", "."])
    };
    work.survives_kills();
}

#[test]
fn privileged_a_killed_build_of_parallel_steps_is_as_if_it_had_not_been() {
    let before = strata();
    before.import_busybox("busybox");
    before.write("Dockerfile", PARALLEL);
    before.write("word", "a word that is kept nowhere");
    before.write("file", "copied");
    assert!(before.settle());
    let words = [
        "build",
        "-q",
        "-t",
        "app:1",
        "--secret",
        "id=word,src=word",
        ".",
    ];
    let work = Work {
        victims: VICTIMS_OF_BUILDS,
        ..Work::new(before, &words)
    };
    work.survives_kills();
}

#[test]
fn privileged_a_killed_commit_is_as_if_it_had_not_been() {
    let before = Archive::new().loaded();
    let script = "busybox cp /srv/noise /copy; rm /srv/again";
    let run = [
        "run",
        "--name",
        "made",
        "--network",
        "none",
        "app:1",
        "sh",
        "-c",
        script,
    ];
    before.run(&run).succeeded();
    assert!(before.settle());
    let work = Work {
        is_dated: true,
        ..Work::new(before, &["commit", "made", "made:1"])
    };
    work.survives_kills();
}

#[test]
fn privileged_a_killed_rmi_is_as_if_it_had_not_been() {
    let work = Work {
        may_say: Some("No such image"),
        ..Work::new(Archive::new().loaded(), &["rmi", "app:1"])
    };
    work.survives_kills();
}

#[test]
fn privileged_a_killed_rmi_that_can_be_undone_is_as_if_it_had_not_been() {
    let work = Work {
        may_say: Some("No such image"),
        window: "1",
        ..Work::new(Archive::new().loaded(), &["rmi", "app:1"])
    };
    work.survives_kills();
}

#[test]
fn privileged_a_killed_prune_is_as_if_it_had_not_been() {
    let before = Archive::new().loaded();
    Work::new(before, &["image", "prune", "-af"]).survives_kills();
}
