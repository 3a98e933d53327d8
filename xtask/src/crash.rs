//! `cargo xtask crash`: the long versions of the tests in `crates/strata/tests/crash`; see
//! docs/crash-safety.md.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{command, packages};

const USAGE: &str = "usage: cargo xtask crash [ROUNDS [SEED [TEST]]]

ROUNDS kills, 200 without it; a minute of many commands at once for each 40 of them.
TEST is a part of the names of the tests that run.";

/// Runs the tests with variables that only they read.
pub fn run(args: &[String]) -> Result<()> {
    if !command::is_root() {
        bail!("the tests mount and run containers: run them as root");
    }
    packages::ensure(packages::TEST)?;
    let number = |index: usize, default: u64| match args.get(index) {
        Some(text) => text.parse::<u64>().context(USAGE),
        None => Ok(default),
    };
    let (rounds, seed) = (number(0, 200)?, number(1, 1)?);
    let mut cargo = Command::new("cargo");
    cargo.args([
        "test",
        "--locked",
        "--package",
        "strata",
        "--test",
        "crash",
        "--",
    ]);
    // One after the other: the moments of kills are parts of how long a command takes.
    cargo.args(["--test-threads", "1", "--nocapture"]);
    cargo.args(args.get(2));
    cargo
        .current_dir(command::root())
        .env("STRATA_CRASH_ROUNDS", rounds.to_string())
        .env("STRATA_CRASH_SEED", seed.to_string());
    command::run_command(&mut cargo)
}
