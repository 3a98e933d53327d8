//! `cargo xtask bench --scale`: what commands take as a store grows, by ratios.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{median, milliseconds, ratio};
use crate::demo::unmount_below;
use crate::{command, dist};

/// Images beside the one that runs.
const SIZES: &[usize] = &[0, 500, 1000, 2000];

/// Layers of each image; one is shared by all.
const LAYERS: usize = 6;

const SAMPLES: usize = 21;

/// The image that runs, with busybox.
const IMAGE: &str = "bench/base";

/// Makes stores of growing size below `directory` and measures commands in each.
pub(super) fn measure(binary: &Path, directory: &Path) -> Result<()> {
    let filler = build_filler()?;
    let mut stores = Vec::new();
    for size in SIZES {
        stores.push(Filled::make(binary, directory, &filler, *size)?);
    }
    println!(
        "\n{SAMPLES} samples in turn: median (mean CPU time); images beside the one that runs, of {LAYERS} layers each"
    );
    let sizes: Vec<String> = SIZES.iter().map(usize::to_string).collect();
    println!("| work | {} | last : first |", sizes.join(" | "));
    println!("|---|{}---|", "---|".repeat(SIZES.len()));
    let rows: [(&str, &[&str]); 6] = [
        ("`images`", &["images"]),
        ("`images -q`", &["images", "-q"]),
        (
            "`run --rm busybox true`, no network",
            &["run", "--rm", "--network", "none", IMAGE, "true"],
        ),
        ("`inspect busybox`", &["inspect", IMAGE]),
        ("`tag busybox again`", &["tag", IMAGE, "again"]),
        ("`rmi again`", &["rmi", "again"]),
    ];
    for (name, words) in rows {
        let mut times = vec![Vec::new(); stores.len()];
        for _ in 0..SAMPLES {
            for (store, times) in stores.iter().zip(&mut times) {
                if words[0] == "rmi" {
                    store.run(&["tag", IMAGE, "again"])?;
                }
                times.push(store.run(words)?);
            }
        }
        row(name, times.into_iter().map(Sample::of_many).collect());
    }
    row(
        "`image prune -f`: every fourth image",
        prune(&stores, &["image", "prune", "-f"])?,
    );
    row(
        "`image prune -af`: the rest",
        prune(&stores, &["image", "prune", "-af"])?,
    );
    for store in &stores {
        store.settle()?;
        unmount_below(&store.directory)?;
    }
    Ok(())
}

/// Prunes each store and waits for what is left to the background.
fn prune(stores: &[Filled], words: &[&str]) -> Result<Vec<Sample>> {
    stores.iter().map(|store| store.run(words)).collect()
}

/// What a command took.
#[derive(Clone, Copy)]
struct Sample {
    time: Duration,
    cpu: Duration,
}

impl Sample {
    /// Returns the median of the times and the mean of the CPU times, which are counted in ticks.
    fn of_many(samples: Vec<Self>) -> Self {
        let cpu = samples.iter().map(|sample| sample.cpu).sum::<Duration>();
        let count = u32::try_from(samples.len()).unwrap_or(u32::MAX);
        Self {
            time: median(samples.into_iter().map(|sample| sample.time).collect()),
            cpu: cpu / count,
        }
    }
}

fn row(name: &str, samples: Vec<Sample>) {
    let cell = |sample: &Sample| {
        let (time, cpu) = (milliseconds(sample.time), milliseconds(sample.cpu));
        format!("{time} ({cpu})")
    };
    let cells: Vec<String> = samples.iter().map(cell).collect();
    let growth = ratio(samples[samples.len() - 1].time, samples[0].time);
    println!("| {name} | {} | {growth} |", cells.join(" | "));
}

/// Returns the CPU time of all processes that this one has waited for.
fn cpu_of_children() -> Result<Duration> {
    const TICKS: u64 = 100;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The 14th and 15th word after the name, which may hold blanks.
    let words = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks: u64 = words
        .skip(13)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<u64, std::num::ParseIntError>>()?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}

fn build_filler() -> Result<PathBuf> {
    let release = dist::release(&["--example", "synthetic_store"])?;
    Ok(release.join("examples/synthetic_store"))
}

/// A store with busybox and many other images.
struct Filled {
    binary: PathBuf,
    directory: PathBuf,
}

impl Filled {
    fn make(binary: &Path, directory: &Path, filler: &Path, images: usize) -> Result<Self> {
        let store = Self {
            binary: binary.to_owned(),
            directory: directory.join(format!("scale{images}")),
        };
        std::fs::create_dir_all(&store.directory)?;
        store.run(&["load", "-i", "../base.tar"])?;
        // Containers keep their image from being pruned.
        store.run(&[
            "create",
            "--name",
            "keep",
            "--network",
            "none",
            IMAGE,
            "true",
        ])?;
        let started = Instant::now();
        let mut fill = Command::new(filler);
        fill.arg(store.directory.join("root"))
            .arg(store.directory.join("run"));
        command::run_command(fill.arg(images.to_string()).arg(LAYERS.to_string()))?;
        println!(
            "{images} images written in {}",
            milliseconds(started.elapsed())
        );
        Ok(store)
    }

    /// Waits for what is left to the background.
    fn settle(&self) -> Result<()> {
        let lock = std::fs::File::create(self.directory.join("run/tidy.lock"))?;
        while std::fs::read_dir(self.directory.join("root/trash"))?
            .next()
            .is_some()
        {
            lock.lock()?;
            lock.unlock()?;
        }
        Ok(lock.lock()?)
    }

    fn run(&self, words: &[&str]) -> Result<Sample> {
        let mut strata = Command::new(&self.binary);
        strata
            .args(words)
            .current_dir(&self.directory)
            .env("STRATA_ROOT", self.directory.join("root"))
            .env("STRATA_RUN", self.directory.join("run"))
            .env("STRATA_UNDO_WINDOW", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let (started, before) = (Instant::now(), cpu_of_children()?);
        let status = strata.status();
        let time = started.elapsed();
        let cpu = cpu_of_children()?.saturating_sub(before);
        let status = status.with_context(|| command::line_of(&strata))?;
        anyhow::ensure!(
            status.success(),
            "`{}`: {status}",
            command::line_of(&strata)
        );
        Ok(Sample { time, cpu })
    }
}
