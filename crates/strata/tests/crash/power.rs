//! Power cuts: every state in which a disk may be left by a command is mounted and looked at.
//!
//! What had been written before a flush is there; of what was written after it any part may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use store::{Store, StoreOptions};
use testkit::cli::{CommandLine, Served};
use testkit::random::Random;

use crate::disk::{BLOCK, Disk, Event};
use crate::ledger;
use crate::length;
use crate::stage::{pause, strata, unmount_below};

const SIZE: usize = 160 << 20;

/// How many states of each command a short run looks at.
const STATES: usize = 3;

/// How many random states the long version looks at between two flushes.
const BETWEEN: usize = 2;

/// After how many states the interrupted command is given again, and all images are run.
const USED_EVERY: usize = 12;

/// How often the kernel writes of its own accord, in milliseconds.
const BUSY: u64 = 10;

/// What one command did.
struct Step {
    words: Vec<String>,
    /// Where its events begin.
    start: usize,
    /// What the tags led to when nobody worked any more.
    tags: BTreeMap<String, String>,
    /// Whether that is on the disk by then. Changes of tags alone are not: nobody waits for them.
    is_synced: bool,
}

/// A store on the disk, and what commands need.
struct Theatre {
    strata: CommandLine,
    disk: Disk,
    served: Served,
    _server: CommandLine,
    _source: CommandLine,
    archive: String,
}

impl Theatre {
    fn new() -> Self {
        let (source, server) = (strata(), strata());
        let served = server.serve(&["--allow-push"]);
        source.import_busybox("busybox");
        source.write("noise", Random::new(5).bytes(2 << 20));
        source.write("Dockerfile", "FROM busybox\nCOPY noise /\nCMD [\"true\"]\n");
        let name = format!("{}/app:1", served.address());
        source.run(&["build", "-q", "-t", &name, "."]).succeeded();
        source.run(&["push", "-q", &name]).succeeded();
        source.write("noise", Random::new(6).bytes(1 << 20));
        source
            .run(&["build", "-q", "-t", "loaded:1", "."])
            .succeeded();
        source
            .run(&["save", "-o", "saved.tar", "loaded:1"])
            .succeeded();
        let archive = source.work("saved.tar");
        let strata = strata();
        let disk = Disk::new(&strata.path("disk"), &strata.path("root"), SIZE);
        disk.format();
        let build = format!("FROM {name}\nRUN busybox seq 1 50000 > /numbers\nCOPY file /\n");
        strata.write("Dockerfile", build);
        strata.write("file", Random::new(7).bytes(300_000));
        Self {
            strata,
            disk,
            served,
            _server: server,
            _source: source,
            archive: archive.to_str().expect("text").to_owned(),
        }
    }

    fn app(&self) -> String {
        format!("{}/app:1", self.served.address())
    }

    /// Gives commands while events are remembered. During every second one the kernel writes every
    /// few milliseconds; during the others it writes what it is asked for.
    fn play(&self, options: &str, first_busy: usize) -> (Vec<u8>, Vec<Event>, Vec<Step>) {
        let app = self.app();
        let made = [
            "run",
            "--name",
            "made",
            "--network",
            "none",
            "kept:1",
            "sh",
            "-c",
            "echo x > /x",
        ];
        let commands: [(&[&str], bool); 11] = [
            (&["pull", "-q", &app], true),
            (&["build", "-q", "-t", "built:1", "."], true),
            (&["tag", "built:1", "kept:1"], false),
            (&made, false),
            (&["commit", "made", "committed:1"], true),
            (&["rm", "made"], false),
            (&["load", "-q", "-i", &self.archive], true),
            (&["rmi", &app, "built:1"], true),
            (&["tag", "loaded:1", "kept:1"], false),
            (&["image", "prune", "-f"], true),
            (&["pull", "-q", &app], true),
        ];
        self.disk.remember();
        let image = self.disk.image();
        self.disk.mount(options);
        let (is_over, is_busy) = (AtomicBool::new(false), AtomicBool::new(false));
        let steps = std::thread::scope(|scope| {
            let root = File::open(self.strata.path("root")).expect("mounted");
            let (is_over, is_busy) = (&is_over, &is_busy);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    if is_busy.load(Ordering::Relaxed) {
                        rustix::fs::syncfs(&root).expect("synced");
                    }
                    pause(Duration::from_millis(BUSY));
                }
            });
            let mut number = first_busy;
            let steps = commands.map(|(words, is_synced)| {
                is_busy.store(usize::is_multiple_of(number, 2), Ordering::Relaxed);
                number += 1;
                let start = self.disk.count();
                self.strata.run(words).succeeded();
                assert!(self.strata.settle());
                Step {
                    words: words.iter().map(|word| (*word).to_owned()).collect(),
                    start,
                    tags: ledger::tags(&self.strata.path("root")),
                    is_synced,
                }
            });
            is_over.store(true, Ordering::Relaxed);
            steps
        });
        // Layers are mounted from it.
        unmount_below(&self.strata.path("run"));
        self.disk.unmount();
        (image, self.disk.events(), steps.into())
    }
}

/// A moment at which the power fails: events that are safe, and what else reached the disk.
struct Moment {
    safe: usize,
    events: usize,
    /// How many of 100 blocks between the two survive.
    share: usize,
}

/// Chooses moments: every flush, and between it and the next.
fn moments(events: &[Event], random: &mut Random) -> Vec<Moment> {
    let flushes = events.iter().enumerate();
    let flushes = flushes.filter(|(_, event)| matches!(event, Event::Flush));
    let mut borders: Vec<usize> = flushes.map(|(index, _)| index + 1).collect();
    borders.insert(0, 0);
    borders.push(events.len() + 1);
    let mut moments = Vec::new();
    for border in borders.windows(2) {
        let (safe, end) = (border[0], border[1]);
        moments.push(Moment {
            safe,
            events: safe,
            share: 0,
        });
        // The flush at the end is the next border.
        let count = end - safe - 1;
        for _ in 0..BETWEEN.min(count) {
            let events = safe + 1 + random.below(count);
            let share = *random.choice(&[20, 50, 80, 100]);
            moments.push(Moment {
                safe,
                events,
                share,
            });
        }
    }
    moments
}

/// Takes some moments of each step: the last one at which nothing unsafe survives, and others.
fn sample(moments: Vec<Moment>, steps: &[Step], random: &mut Random) -> Vec<Moment> {
    let mut by_step: Vec<Vec<Moment>> = steps.iter().map(|_| Vec::new()).collect();
    for moment in moments {
        let during = steps.iter().rposition(|step| step.start <= moment.safe);
        by_step[during.unwrap_or(0)].push(moment);
    }
    let mut taken = Vec::new();
    for mut moments in by_step {
        let last = moments.iter().rposition(|moment| moment.share == 0);
        let mut chosen: BTreeSet<usize> = last.into_iter().collect();
        while chosen.len() < STATES.min(moments.len()) {
            chosen.insert(random.below(moments.len()));
        }
        let mut index = 0;
        moments.retain(|_| {
            index += 1;
            chosen.contains(&(index - 1))
        });
        taken.extend(moments);
    }
    taken
}

#[test]
fn privileged_after_a_power_cut_no_image_is_listed_that_is_not_whole() {
    survives("defaults", 0);
}

/// File sizes may be safe before what was written there.
#[test]
fn privileged_a_power_cut_that_leaves_garbage_in_files_is_survived_too() {
    survives("data=writeback", 1);
}

fn survives(options: &str, first_busy: usize) {
    let theatre = Theatre::new();
    let (image, events, steps) = theatre.play(options, first_busy);
    let seed = length::seed();
    let mut random = Random::new(seed);
    let mut moments = moments(&events, &mut random);
    let all = moments.len();
    match length::rounds() {
        Some(_) => length::tell(&format!("{} events, {all} moments", events.len())),
        None => moments = sample(moments, &steps, &mut random),
    }
    theatre.disk.set(image);
    let mut safe = 0;
    for (number, moment) in moments.iter().enumerate() {
        theatre.disk.advance(&events[safe..moment.safe]);
        safe = moment.safe;
        let mut blocks = 0;
        for event in &events[moment.safe..moment.events] {
            if let Event::Write(offset, bytes) = event {
                for (index, block) in bytes.chunks(BLOCK).enumerate() {
                    if random.below(100) < moment.share {
                        blocks += 1;
                        theatre.disk.write_over(offset + index * BLOCK, block);
                    }
                }
            }
        }
        let state = format!(
            "seed {seed}, moment {number}: {} of {} events safe, {blocks} blocks of {} more",
            moment.safe,
            events.len(),
            moment.events - moment.safe,
        );
        theatre.disk.mount(options);
        let is_used = number % USED_EVERY == 0;
        let faults = look(&theatre, &steps, moment, is_used);
        theatre.disk.unmount();
        assert!(faults.is_empty(), "{state}:\n{}", faults.join("\n"));
        if length::rounds().is_some() && number % 100 == 0 {
            length::tell(&format!("{state}: {number} of {all}"));
        }
    }
}

/// What the kernel says which boot it is after the power cut.
const BOOT: &str = "aaaaaaaa-0000-4000-8000-000000000000";

/// Lists what is wrong with the store on the disk as it is mounted now.
fn look(theatre: &Theatre, steps: &[Step], moment: &Moment, is_used: bool) -> Vec<String> {
    let root = theatre.strata.path("root");
    let run = tempfile::tempdir().expect("a directory");
    let store = StoreOptions {
        boot_id: Some(BOOT.to_owned()),
        ..StoreOptions::default()
    };
    if let Err(error) = Store::open_with(&root, run.path(), &store) {
        return vec![format!("the store does not open: {error:?}")];
    }
    let mut faults = ledger::faults(&root, BOOT);
    let found = ledger::tags(&root);
    for (name, ids) in expected(steps, moment) {
        match found.get(&name) {
            Some(id) if ids.contains(id) => {}
            other => faults.push(format!("{name} is {other:?}, expected one of {ids:?}")),
        }
    }
    if is_used && faults.is_empty() {
        faults.extend(use_it(theatre, steps, moment, &found));
    }
    faults
}

/// Returns the tags that must be there, and what each may lead to: what was safe before the moment,
/// and no command removed, or has removed by then.
fn expected(steps: &[Step], moment: &Moment) -> BTreeMap<String, BTreeSet<String>> {
    let begun = steps.iter().filter(|step| step.start < moment.events);
    let begun = begun.count();
    // A step is over when the next one starts.
    let over = steps
        .iter()
        .skip(1)
        .filter(|step| step.start <= moment.safe);
    let over = over.count();
    let Some(last) = steps[..over].iter().rposition(|step| step.is_synced) else {
        return BTreeMap::new();
    };
    let mut expected = BTreeMap::new();
    for (name, id) in &steps[last].tags {
        // Steps that write nothing begin where the one before them does.
        let later = &steps[last..begun.max(last + 1)];
        if later.iter().all(|step| step.tags.contains_key(name)) {
            let ids: BTreeSet<String> = later.iter().map(|step| step.tags[name].clone()).collect();
            assert!(ids.contains(id));
            expected.insert(name.clone(), ids);
        }
    }
    expected
}

/// Runs every image, and gives the command again during which the power failed, as in a new boot.
fn use_it(
    theatre: &Theatre,
    steps: &[Step],
    moment: &Moment,
    tags: &BTreeMap<String, String>,
) -> Vec<String> {
    let run = tempfile::tempdir().expect("a directory");
    let boot = run.path().join("boot_id");
    fs::write(&boot, BOOT).expect("written");
    let reborn = |words: &[&str]| {
        let mut strata = theatre.strata.command(words);
        strata.env("STRATA_RUN", run.path().join("run"));
        let script = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
        command
            .arg(&boot)
            .arg(strata.get_program())
            .args(strata.get_args());
        command.env_clear();
        for (name, value) in strata.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.current_dir(strata.get_current_dir().expect("a directory"));
        let output = command.output().expect("it starts");
        match output.status.success() {
            true => None,
            false => Some(format!("`strata {}`: {output:?}", words.join(" "))),
        }
    };
    let mut faults = Vec::new();
    for name in tags.keys() {
        faults.extend(reborn(&[
            "run",
            "--rm",
            "--pull",
            "never",
            "--network",
            "none",
            name,
            "true",
        ]));
    }
    let during = steps.iter().rposition(|step| step.start < moment.events);
    let step = &steps[during.unwrap_or(0)];
    let words: Vec<&str> = step.words.iter().map(String::as_str).collect();
    let is_repeatable = ["pull", "load", "build", "image"].contains(&words[0]);
    if is_repeatable {
        faults.extend(reborn(&words));
    }
    assert!(theatre.strata.settle());
    faults.extend(ledger::faults(&theatre.strata.path("root"), BOOT));
    faults
}
