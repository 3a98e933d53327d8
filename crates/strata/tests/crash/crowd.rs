//! Many commands at once on one store: none fails but where they truly are in each other's way, and
//! nothing is left over.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use testkit::cli::{CommandLine, Outcome, Served};
use testkit::random::Random;

use crate::ledger;
use crate::length;
use crate::stage::{faults, strata};

/// How many commands run at any time.
const COMMANDS: usize = 40;

/// How often 20 seconds pass before the background counts as stuck: after minutes of a crowd it has
/// tens of thousands of files to delete, at the lowest priority.
const PATIENCE: usize = 30;

const SHORT: Duration = Duration::from_secs(8);

/// How long the long version is for each round: five minutes for 200.
const PER_ROUND: Duration = Duration::from_millis(1500);

/// Images on the server. Each has the root file system and a layer of its own.
const IMAGES: usize = 5;

/// What commands may say of each other, by verb. Everything else is an error.
///
/// Where an image is named that another command has just removed, it is missing; where one is
/// removed that a container uses, it is in use.
const CONFLICTS: &[(&str, &[&str])] = &[
    ("rmi", &["No such image: ", "conflict: unable to "]),
    ("tag", &["No such image: "]),
    ("inspect", &["No such object: "]),
];

/// A server with images, and an archive of one of them.
struct Supply {
    served: Served,
    _server: CommandLine,
    source: CommandLine,
}

impl Supply {
    fn new() -> Self {
        let (source, server) = (strata(), strata());
        let served = server.serve(&["--allow-push"]);
        let supply = Self {
            served,
            _server: server,
            source,
        };
        let source = &supply.source;
        source.import_busybox("busybox");
        for number in 0..IMAGES {
            let file = Random::new(number as u64).bytes(300_000 * (number + 1));
            source.write("file", file);
            source.write("Dockerfile", "FROM busybox\nCOPY file /\nCMD [\"true\"]\n");
            let name = supply.name(number);
            source.run(&["build", "-q", "-t", &name, "."]).succeeded();
            source.run(&["push", "-q", &name]).succeeded();
        }
        let save = ["save", "-o", "saved.tar", &supply.name(0)];
        source.run(&save).succeeded();
        supply
    }

    fn name(&self, number: usize) -> String {
        format!("{}/app:{number}", self.served.address())
    }

    fn archive(&self) -> String {
        let path = self.source.work("saved.tar");
        path.to_str().expect("text").to_owned()
    }
}

/// Chooses the words of a command.
fn command(supply: &Supply, random: &mut Random) -> Vec<String> {
    let image = supply.name(random.below(IMAGES));
    let number = random.below(4);
    let local = format!("local:{number}");
    let context = format!("context{number}");
    let archive = supply.archive();
    let choices: [&[&str]; 16] = [
        &["pull", "-q", &image],
        &["pull", "-q", &image],
        &["run", "--rm", "--network", "none", &image, "true"],
        &[
            "run",
            "--rm",
            "--network",
            "none",
            &image,
            "sh",
            "-c",
            "echo x > /x",
        ],
        &["build", "-q", "-t", &local, &context],
        &["build", "-q", "--no-cache", "-t", &local, &context],
        &["load", "-q", "-i", &archive],
        &["tag", &image, &local],
        &["rmi", &image],
        &["rmi", &local],
        &["rmi", "-f", &image],
        &["image", "prune", "-f"],
        &["image", "prune", "-af"],
        &["inspect", &image],
        &["images", "-a"],
        &["builder", "prune", "-f"],
    ];
    let words = *random.choice(&choices);
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Tells which of the allowed conflicts a command met; `Err` when it failed otherwise.
fn judge<'a>(verb: &str, outcome: &Outcome) -> Result<&'a str, ()> {
    if outcome.code == 0 {
        return Ok("");
    }
    let known = CONFLICTS.iter().filter(|(of, _)| *of == verb);
    let mut messages = known.flat_map(|(_, messages)| messages.iter());
    let said = messages.find(|message| outcome.stderr.contains(**message));
    said.copied().ok_or(())
}

#[test]
fn privileged_forty_commands_at_once_fail_only_where_they_are_in_each_others_way() {
    let supply = Supply::new();
    let strata = strata();
    for number in 0..4 {
        let text = format!(
            "FROM {}\nRUN echo {number} > /number\nCOPY file /\n",
            supply.name(number)
        );
        strata.write(&format!("context{number}/Dockerfile"), text);
        strata.write(&format!("context{number}/file"), format!("{number}"));
    }
    let length = length::rounds().map_or(SHORT, |rounds| {
        PER_ROUND * u32::try_from(rounds).expect("a number of rounds")
    });
    let (end, seed) = (Instant::now() + length, length::seed());
    let counts = Mutex::new(BTreeMap::<(String, &str), u32>::new());
    let errors = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for number in 0..COMMANDS {
            let (supply, strata, counts, errors) = (&supply, &strata, &counts, &errors);
            scope.spawn(move || {
                let mut random = Random::new(seed * 1000 + number as u64);
                while Instant::now() < end {
                    let words = command(supply, &mut random);
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    let started = Instant::now();
                    let outcome = strata.run(&words);
                    match judge(words[0], &outcome) {
                        Ok(conflict) => {
                            let mut counts = counts.lock().expect("not poisoned");
                            *counts.entry((words[0].to_owned(), conflict)).or_default() += 1;
                        }
                        Err(()) => errors.lock().expect("not poisoned").push(format!(
                            "`strata {}` after {:?}: {outcome}",
                            words.join(" "),
                            started.elapsed()
                        )),
                    }
                }
            });
        }
    });
    if length::rounds().is_some() {
        length::tell(&format!("{:#?}", counts.lock().expect("not poisoned")));
    }
    let errors = errors.into_inner().expect("not poisoned");
    assert!(
        errors.is_empty(),
        "{} errors: {:#?}",
        errors.len(),
        &errors[..errors.len().min(20)]
    );
    check_end(&strata);
}

/// Checks that nothing is wrong with the store, and that nothing is left when all is removed.
fn check_end(strata: &CommandLine) {
    settle(strata);
    let found = faults(strata);
    assert!(found.is_empty(), "{}", found.join("\n"));
    strata.run(&["builder", "prune", "-af"]).succeeded();
    strata.run(&["history", "rm", "--all"]).succeeded();
    strata.run(&["image", "prune", "-af"]).succeeded();
    settle(strata);
    assert_eq!(strata.run(&["ps", "-aq"]).stdout(), "");
    assert_eq!(
        ledger::strays(&strata.path("root")),
        [""; 0].map(PathBuf::from)
    );
    let left = ledger::Ledger::read(&strata.path("root"));
    let left = left.only(&["image", "tag", "layer", "blob", "step", "container", "file"]);
    assert_eq!(left, [""; 0]);
    assert_eq!(mounts(strata), [""; 0]);
}

/// Waits for the background, which has the lowest priority and much to delete.
fn settle(strata: &CommandLine) {
    if (0..PATIENCE).any(|_| strata.settle()) {
        return;
    }
    let state = |process: Pid| {
        let read = |name: &str| {
            let file = format!("/proc/{}/{name}", process.as_raw_nonzero());
            fs::read_to_string(file)
                .unwrap_or_default()
                .replace('\0', " ")
        };
        format!("{} {} {}", read("cmdline"), read("wchan"), read("stack"))
    };
    let left: Vec<String> = strata.processes().into_iter().map(state).collect();
    panic!("the background does not end: {left:#?}");
}

/// Lists what is mounted below the directories of `strata`.
fn mounts(strata: &CommandLine) -> Vec<String> {
    let place = strata.path("").display().to_string();
    let mounts = fs::read_to_string("/proc/self/mounts").expect("the kernel tells");
    let below = mounts.lines().filter(|line| line.contains(&place));
    below.map(str::to_owned).collect()
}
