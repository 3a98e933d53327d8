//! `cargo xtask fuzz`: one fuzz target for some time; see docs/fuzzing.md.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

const USAGE: &str = "usage: cargo xtask fuzz TARGET [SECONDS]
       cargo xtask fuzz minimize TARGET

Targets: tar_ingest erofs_writer manifest config reference docker_archive http_answers dockerfile
         expansion ignore";

/// The compiler that can instrument code, and the version of cargo-fuzz that is known to work.
const TOOLCHAIN: &str = "+nightly";
const CARGO_FUZZ: &str = "0.13.2";

/// The longest input. What is behind the limits of sizes has tests of its own.
const MAX_LENGTH: u32 = 16 << 10;
/// The most that all kept inputs of a target may have.
const MAX_CORPUS: u64 = 28 << 10;
/// The most that one of them may have.
const MAX_KEPT: u64 = 1 << 10;

/// Runs or minimizes a target.
pub fn run(args: &[String]) -> Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["minimize", target] => minimize(target),
        [target] => fuzz(target, 60),
        [target, seconds] => fuzz(target, seconds.parse().context(USAGE)?),
        _ => bail!("{USAGE}"),
    }
}

/// Runs a target in a mount namespace of its own. New inputs go to `fuzz/work/TARGET`, beside the
/// kept ones; one that breaks a law to `fuzz/artifacts/TARGET`.
fn fuzz(target: &str, seconds: u32) -> Result<()> {
    let root = command::root().join("fuzz");
    let (work, kept) = (
        root.join("work").join(target),
        root.join("corpus").join(target),
    );
    if !kept.is_dir() {
        bail!("no target `{target}`\n\n{USAGE}");
    }
    std::fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let mut run = cargo_fuzz("run")?;
    run.arg(target).args([&work, &kept]).arg("--");
    run.arg(format!("-max_total_time={seconds}"));
    run.arg(format!("-max_len={MAX_LENGTH}"));
    run.args(["-detect_leaks=0", "-timeout=25", "-rss_limit_mb=4096"]);
    run.arg("-print_final_stats=1");
    command::run_command(&mut run)
}

/// Keeps, of the inputs that differ in what they reach, as many small ones as fit beside those that
/// are kept already.
fn minimize(target: &str) -> Result<()> {
    let root = command::root().join("fuzz");
    let (work, kept) = (
        root.join("work").join(target),
        root.join("corpus").join(target),
    );
    let mut reduce = cargo_fuzz("cmin")?;
    reduce
        .arg(target)
        .arg(&work)
        .args(["--", "-detect_leaks=0"]);
    command::run_command(&mut reduce)?;
    let size = |path: &Path| -> Result<u64> { Ok(path.metadata()?.len()) };
    let files = |directory: &Path| -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path()));
        entries.collect()
    };
    let mut total = 0;
    for path in files(&kept)? {
        total += size(&path)?;
    }
    // They are named by their SHA-1: this order is as good as a random one.
    let mut found = files(&work)?;
    found.sort();
    for path in found {
        let length = size(&path)?;
        let place = kept.join(path.file_name().context("a file without a name")?);
        if length > MAX_KEPT || total + length > MAX_CORPUS || place.exists() {
            continue;
        }
        std::fs::copy(&path, place)?;
        total += length;
    }
    Ok(())
}

/// Returns `cargo fuzz`, installed below the target directory when it is not there.
fn cargo_fuzz(task: &str) -> Result<Command> {
    let tools = command::target().join("tools");
    if !command::exists("cargo-fuzz") && !tools.join("bin/cargo-fuzz").is_file() {
        let mut install = Command::new("cargo");
        install.args(["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ]);
        command::run_command(install.arg("--root").arg(&tools))?;
    }
    let mut cargo = Command::new("unshare");
    if !command::is_root() {
        cargo.args(["--user", "--map-root-user"]);
    }
    cargo.args(["--mount", "--propagation", "private"]);
    cargo.args(["cargo", TOOLCHAIN, "fuzz", task]);
    cargo.current_dir(command::root().join("fuzz"));
    cargo.env("PATH", path_with(&tools.join("bin"))?);
    // Threads that live as long as the process look like leaks, and are looked for at every input.
    cargo.env("ASAN_OPTIONS", "detect_leaks=0");
    // Cargo sets these for its own child; another toolchain must not see them.
    cargo.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
    Ok(cargo)
}

#[expect(clippy::disallowed_methods, reason = "xtask is a binary of its own")]
fn path_with(directory: &Path) -> Result<std::ffi::OsString> {
    let known = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::split_paths(&known).chain([directory.to_owned()]);
    Ok(std::env::join_paths(all)?)
}
