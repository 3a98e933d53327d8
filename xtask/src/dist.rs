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
    let host = host_triple()?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(command::root());
    cargo.args([
        "build",
        "--release",
        "--locked",
        "--package",
        "strata",
        "--bin",
        "strata",
    ]);
    cargo.args(["--target", &host]);
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    command::run_command(&mut cargo)?;
    let target = command::target();
    let dist = target.join("dist");
    std::fs::create_dir_all(&dist).with_context(|| format!("cannot make {}", dist.display()))?;
    let binary = dist.join("strata");
    let partial = dist.join("strata.partial");
    std::fs::copy(target.join(&host).join("release/strata"), &partial)
        .and_then(|_| std::fs::rename(&partial, &binary))
        .with_context(|| format!("cannot write {}", binary.display()))?;
    Ok(binary)
}

fn host_triple() -> Result<String> {
    let version = command::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}
