//! `cargo xtask bench`: strata beside podman and docker where they work, and beside the floor.
//!
//! Engines take turns, so that a change of the machine's mood hits all of them; medians and
//! ratios are printed. The larger benchmark with generated images is `bench/` in the shared
//! material (docs/benchmarks.md tells its figures).

mod engine;
mod inputs;
mod scale;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::demo::unmount_below;
use crate::{command, dist, packages};
use engine::Engine;

/// Set inside the private mount namespace.
const INSIDE: &str = "STRATA_BENCH_INSIDE";

/// Takes `--quick` for a third of the samples, and `--scale` to measure how strata does as its store
/// grows instead.
pub fn run(args: &[String]) -> Result<()> {
    if !command::is_root() {
        bail!("the benchmark mounts and runs containers: run it as root");
    }
    if !is_inside() {
        return enter(args);
    }
    let samples = if args.iter().any(|arg| arg == "--quick") {
        5
    } else {
        15
    };
    let binary = command::target().join("dist/strata");
    let directory = command::root()
        .join("target/bench")
        .join(std::process::id().to_string());
    std::fs::create_dir_all(&directory)?;
    let result = match args.iter().any(|arg| arg == "--scale") {
        true => inputs::make_base(&directory).and_then(|()| scale::measure(&binary, &directory)),
        false => measure(&binary, &directory, samples),
    };
    for used in [&directory, &engine::run_roots()] {
        unmount_below(used)?;
    }
    if engine::run_roots().exists() {
        std::fs::remove_dir_all(engine::run_roots())?;
    }
    std::fs::remove_dir_all(&directory)
        .with_context(|| format!("cannot remove {}", directory.display()))?;
    result
}

#[expect(clippy::disallowed_methods, reason = "xtask is a binary of its own")]
fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Starts this task again in a mount namespace without the hybrid cgroup tree, which crun
/// (the floor, and podman's runtime) refuses.
fn enter(args: &[String]) -> Result<()> {
    packages::ensure(packages::DEMO)?;
    packages::ensure(&[("crun", "crun"), ("docker-registry", "docker-registry")])?;
    dist::build()?;
    let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
    let mut unshare = Command::new("unshare");
    unshare.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        "bench",
    ]);
    unshare
        .arg(std::env::current_exe()?)
        .arg("bench")
        .args(args)
        .env(INSIDE, "1");
    command::run_command(&mut unshare)
}

fn measure(binary: &Path, directory: &Path, samples: usize) -> Result<()> {
    inputs::make(directory)?;
    let engines = engine::available(binary, directory)?;
    let registry = engine::Registry::start(directory)?;
    println!("\nengines: {}; {samples} samples, medians", names(&engines));
    println!(
        "| work | {} | floor | strata : best peer | strata : floor |",
        names(&engines)
    );
    println!("|---|{}---|---|---|", "---|".repeat(engines.len()));
    for engine in &engines {
        engine.quiet(&["load", "-i", "base.tar"])?;
        engine.quiet(&engine.build("small", "bench/small"))?;
    }
    let row = |name: &str, floor: Option<&str>, count: usize, step: &Step<'_>| {
        print_row(&engines, directory, name, (floor, count), step)
    };
    let run = |engine: &Engine, _: usize| engine.timed(&engine.run());
    row(
        "run --rm busybox true, no network",
        Some("crun run -b bundle floor"),
        samples,
        &run,
    )?;
    row("images", Some("true"), samples, &|engine, _| {
        engine.timed(&["images"])
    })?;
    let build = |engine: &Engine, _: usize| engine.timed(&engine.build("small", "bench/small"));
    let walk = "find small -type f -size +0 >/dev/null";
    row("rebuild, nothing changed", Some(walk), samples, &build)?;
    measure_many(&engines[..1], directory, samples)?;
    let edit = |engine: &Engine, round: usize| {
        std::fs::write(
            directory.join("small/z/last.txt"),
            format!("{} {round}", engine.name),
        )?;
        build(engine, round)
    };
    row(
        "rebuild, one file changed",
        Some("crun run -b bundle floor"),
        samples,
        &edit,
    )?;
    let few = samples.div_ceil(5);
    let parallel = |engine: &Engine, round: usize| {
        let fresh = engine.fresh(&format!("parallel{round}"))?;
        fresh.quiet(&["load", "-i", "base.tar"])?;
        fresh.timed(&fresh.build("parallel", "bench/parallel"))
    };
    row("two stages of `sleep 2`", Some("sleep 2"), few, &parallel)?;
    let cold = |engine: &Engine, round: usize| {
        let fresh = engine.fresh(&format!("cold{round}"))?;
        fresh.quiet(&["load", "-i", "base.tar"])?;
        fresh.timed(&fresh.build("big", "bench/big"))
    };
    row(
        "cold build: 20k files by RUN, COPY 100 MB",
        Some("cp -a big big.$$"),
        few,
        &cold,
    )?;
    let reference = registry.push_from(&engines[0], "bench/big")?;
    let pull = |engine: &Engine, round: usize| {
        engine
            .fresh(&format!("pull{round}"))?
            .timed(&engine.pull(&reference))
    };
    let floor = "for f in registry/docker/registry/v2/blobs/sha256/*/*/data; do gzip -dc $f 2>/dev/null | sha256sum; done >/dev/null";
    row("pull, gzip, empty store", Some(floor), few, &pull)
}

/// A context of 100,000 files: what is measured is the walk, beside one that looks at each file.
fn measure_many(strata: &[Engine], directory: &Path, samples: usize) -> Result<()> {
    let build = |engine: &Engine, _: usize| engine.timed(&engine.build("many", "bench/many"));
    for _ in 0..2 {
        strata[0].quiet(&strata[0].build("many", "bench/many"))?;
    }
    let walk = Some("find many -type f -size +9k >/dev/null");
    let name = "rebuild, nothing changed, 100,000 files";
    print_row(strata, directory, name, (walk, samples), &build)
}

type Step<'a> = dyn Fn(&Engine, usize) -> Result<Duration> + 'a;

fn names(engines: &[Engine]) -> String {
    engines
        .iter()
        .map(|engine| engine.name.as_str())
        .collect::<Vec<_>>()
        .join(" | ")
}

fn print_row(
    engines: &[Engine],
    directory: &Path,
    name: &str,
    (floor, samples): (Option<&str>, usize),
    step: &Step<'_>,
) -> Result<()> {
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); engines.len()];
    let mut floors = Vec::new();
    for round in 0..samples {
        for (engine, times) in engines.iter().zip(&mut times) {
            times.push(step(engine, round).with_context(|| format!("{name}: {}", engine.name))?);
        }
        if let Some(floor) = floor {
            floors.push(time_shell(directory, floor)?);
        }
    }
    let medians: Vec<Duration> = times.into_iter().map(median).collect();
    let ours = medians[0];
    let cells: Vec<String> = medians.iter().map(|time| milliseconds(*time)).collect();
    let best = medians[1..]
        .iter()
        .min()
        .map_or("n/a".to_owned(), |peer| ratio(ours, *peer));
    let (floor, of_floor) = if floors.is_empty() {
        ("n/a".to_owned(), "n/a".to_owned())
    } else {
        let floor = median(floors);
        (milliseconds(floor), ratio(ours, floor))
    };
    println!(
        "| {name} | {} | {floor} | {best} | {of_floor} |",
        cells.join(" | ")
    );
    Ok(())
}

fn time_shell(directory: &Path, line: &str) -> Result<Duration> {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", line])
        .current_dir(directory)
        .stdin(Stdio::null());
    let started = Instant::now();
    command::output(&mut shell)?;
    Ok(started.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// `1/12.3` when `ours` is shorter, `2.1` when it is longer.
fn ratio(ours: Duration, other: Duration) -> String {
    let (ours, other) = (ours.as_secs_f64(), other.as_secs_f64());
    if ours < other {
        format!("1/{:.1}", other / ours)
    } else {
        format!("{:.1}", ours / other)
    }
}
