//! `cargo xtask dist`: the release binary.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{command, packages};

/// Builds the release binary and returns its path, `target/dist/strata`.
///
/// It is linked statically against glibc. A target has to be named for that: without one the
/// flag would reach build scripts and procedural macros too.
pub fn build() -> Result<PathBuf> {
    packages::ensure(packages::BUILD)?;
    let release = release(&["--bin", "strata"])?;
    let dist = command::target().join("dist");
    std::fs::create_dir_all(&dist).with_context(|| format!("cannot make {}", dist.display()))?;
    let binary = dist.join("strata");
    let partial = dist.join("strata.partial");
    std::fs::copy(release.join("strata"), &partial)
        .and_then(|_| std::fs::rename(&partial, &binary))
        .with_context(|| format!("cannot write {}", binary.display()))?;
    Ok(binary)
}

/// Builds a program of the package `strata` as [`build`] does, and returns the directory of what
/// was built.
pub fn release(program: &[&str]) -> Result<PathBuf> {
    let host = host_triple()?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(command::root());
    cargo.args(["build", "--release", "--locked", "--package", "strata"]);
    cargo.args(program).args(["--target", &host]);
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    command::run_command(&mut cargo)?;
    Ok(command::target().join(host).join("release"))
}

fn host_triple() -> Result<String> {
    let version = command::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}
