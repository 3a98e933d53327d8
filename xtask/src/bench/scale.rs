//! `cargo xtask bench --scale`: what commands take as a store grows, by ratios.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{median, milliseconds, ratio};
use crate::command;
use crate::demo::unmount_below;

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
        "\n{SAMPLES} samples in turn, medians; images beside the one that runs, of {LAYERS} layers each"
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
        row(name, times.into_iter().map(median).collect());
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
        unmount_below(&store.directory)?;
    }
    Ok(())
}

/// Prunes each store and waits for what is left to the background.
fn prune(stores: &[Filled], words: &[&str]) -> Result<Vec<Duration>> {
    stores.iter().map(|store| store.run(words)).collect()
}

fn row(name: &str, times: Vec<Duration>) {
    let cells: Vec<String> = times.iter().map(|time| milliseconds(*time)).collect();
    let growth = ratio(times[times.len() - 1], times[0]);
    println!("| {name} | {} | {growth} |", cells.join(" | "));
}

fn build_filler() -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(command::root());
    cargo.args(["build", "--release", "--locked", "--package", "strata"]);
    cargo.args(["--example", "synthetic_store"]);
    command::run_command(&mut cargo)?;
    Ok(command::target().join("release/examples/synthetic_store"))
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

    fn run(&self, words: &[&str]) -> Result<Duration> {
        let mut strata = Command::new(&self.binary);
        strata
            .args(words)
            .current_dir(&self.directory)
            .env("STRATA_ROOT", self.directory.join("root"))
            .env("STRATA_RUN", self.directory.join("run"))
            .env("STRATA_UNDO_WINDOW", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let started = Instant::now();
        let status = strata.status();
        let time = started.elapsed();
        let status = status.with_context(|| command::line_of(&strata))?;
        anyhow::ensure!(
            status.success(),
            "`{}`: {status}",
            command::line_of(&strata)
        );
        Ok(time)
    }
}
