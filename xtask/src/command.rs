//! Running other programs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Returns the project's root directory. Cargo names it when it runs this program, which may have
/// been built in another clone with the same target directory.
#[expect(clippy::disallowed_methods, reason = "xtask is a binary of its own")]
pub fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR");
    let package = package.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package
        .parent()
        .expect("invariant: xtask lies in the root")
        .to_owned()
}

/// Returns the directory that cargo builds in.
#[expect(clippy::disallowed_methods, reason = "xtask is a binary of its own")]
pub fn target() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR");
    root().join(named.map_or_else(|| "target".into(), PathBuf::from))
}

/// Runs a program in the project's root after printing its command line.
pub fn run(program: &str, args: &[impl AsRef<OsStr>]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    run_command(&mut command)
}

/// Runs `command` after printing its command line; fails when it does.
pub fn run_command(command: &mut Command) -> Result<()> {
    let line = line_of(command);
    println!("+ {line}");
    let status = command
        .status()
        .with_context(|| format!("cannot run `{line}`"))?;
    if !status.success() {
        bail!("`{line}`: {status}");
    }
    Ok(())
}

/// Runs `command` and returns its standard output, trimmed.
pub fn output(command: &mut Command) -> Result<String> {
    let line = line_of(command);
    let output = command
        .output()
        .with_context(|| format!("cannot run `{line}`"))?;
    if !output.status.success() {
        bail!(
            "`{line}`: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Tells whether `program` is on the PATH.
#[expect(clippy::disallowed_methods, reason = "xtask is a binary of its own")]
pub fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Tells whether this process is root.
pub fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|uid| uid == "0")
}

/// Returns the command line as a person would type it.
pub fn line_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut line = program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    for arg in command.get_args() {
        let arg = arg.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
        line.push(' ');
        if !arg.is_empty() && arg.chars().all(plain) {
            line.push_str(&arg);
        } else {
            line.push_str(&format!("'{}'", arg.replace('\'', r"'\''")));
        }
    }
    line
}
