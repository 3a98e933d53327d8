//! `cargo xtask test`: every test, with what it needs installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::demo::unmount_below;
use crate::{command, packages};

/// Runs the tests; `args` are given to the test runner.
///
/// Tests say by name what they need beyond a user and a loopback interface. What cannot run
/// here is left out by that name, so that the runner counts it as skipped:
/// `privileged_*` need root, `shared_cases_*` need the public test tables in `../shared/cases`.
pub fn run(args: &[String]) -> Result<()> {
    packages::ensure(packages::TEST)?;
    let mut left_out = Vec::new();
    if !command::is_root() {
        println!("Not root: tests named privileged_* are skipped.");
        left_out.push("privileged_");
    }
    if !command::root().join("../shared/cases").is_dir() {
        println!("No ../shared/cases: tests named shared_cases_* are skipped.");
        left_out.push("shared_cases_");
    }
    let mut cargo = Command::new("cargo");
    cargo.current_dir(command::root());
    if command::exists("cargo-nextest") {
        cargo.args([
            "nextest",
            "run",
            "--workspace",
            "--locked",
            "--no-fail-fast",
        ]);
        if !left_out.is_empty() {
            let filter: Vec<String> = left_out
                .iter()
                .map(|prefix| format!("not test(/(^|::){prefix}/)"))
                .collect();
            cargo.args(["-E", &filter.join(" & ")]);
        }
        cargo.args(args);
    } else {
        cargo.args(["test", "--workspace", "--locked", "--no-fail-fast", "--"]);
        for prefix in left_out {
            cargo.args(["--skip", prefix]);
        }
        cargo.args(args);
    }
    let temporary = temporary_directory()?;
    cargo.env("TMPDIR", &temporary);
    let result = command::run_command(&mut cargo);
    let leftover = leftover_mounts(&temporary)?;
    unmount_below(&temporary)?;
    std::fs::remove_dir_all(&temporary)
        .with_context(|| format!("cannot remove {}", temporary.display()))?;
    result?;
    if !leftover.is_empty() {
        bail!(
            "tests left {} mounts behind:\n{}",
            leftover.len(),
            leftover.join("\n")
        );
    }
    Ok(())
}

/// Makes the directory in which the tests make theirs, so that what they leave is found.
fn temporary_directory() -> Result<PathBuf> {
    let name = format!("strata-test.{}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

fn leftover_mounts(directory: &Path) -> Result<Vec<String>> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let below = points.filter(|point| Path::new(point).starts_with(directory));
    Ok(below.map(str::to_owned).collect())
}
