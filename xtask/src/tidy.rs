//! `cargo xtask tidy`: the rules of architecture and style that a program can check.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command;

/// Which crate may depend on which: down only. ARCHITECTURE.md draws it.
const EDGES: &[(&str, &[&str])] = &[
    ("oci", &[]),
    ("dockerfile", &[]),
    ("sys", &[]),
    ("store", &["oci", "sys"]),
    ("layer", &["oci", "sys"]),
    ("runtime", &["oci", "sys"]),
    ("registry", &["oci", "store"]),
    ("build", &["oci", "dockerfile", "store", "layer", "runtime"]),
    (
        "strata",
        &[
            "oci",
            "dockerfile",
            "sys",
            "store",
            "layer",
            "runtime",
            "registry",
            "build",
        ],
    ),
    ("testkit", &["oci", "store", "layer", "registry"]),
    (
        "fuzz",
        &[
            "oci",
            "dockerfile",
            "sys",
            "store",
            "layer",
            "registry",
            "testkit",
        ],
    ),
    ("xtask", &["dockerfile", "testkit"]),
];

/// Lines of code after which a file has to be split, tests apart.
const FILE_LIMIT: usize = 800;

/// Module names that say nothing.
const EMPTY_NAMES: &[&str] = &[
    "util", "utils", "helper", "helpers", "common", "misc", "manager", "service", "data", "info2",
];

/// The largest file that is checked in, apart from the lock file.
const CHECKED_IN_LIMIT: u64 = 512 << 10;

/// Checks everything and lists all findings before failing.
pub fn run() -> Result<()> {
    let mut findings = Vec::new();
    check_edges(&mut findings)?;
    let files = tracked_files()?;
    for file in &files {
        check_file(file, &mut findings)?;
    }
    check_named_tests(&files, &mut findings)?;
    if findings.is_empty() {
        println!("tidy: no findings");
        return Ok(());
    }
    for finding in &findings {
        println!("{finding}");
    }
    bail!("tidy: {} findings", findings.len())
}

fn check_edges(findings: &mut Vec<String>) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--locked"]);
    let metadata: Value =
        serde_json::from_str(&command::output(cargo.current_dir(command::root()))?)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    for package in packages {
        let name = short_name(package["name"].as_str().unwrap_or_default());
        let Some(targets) = allowed.get(name) else {
            findings.push(format!("crate `{name}` is not in tidy's list of crates"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            let is_ours = dependency["path"].is_string();
            let is_dev = dependency["kind"] == "dev";
            let on = short_name(on);
            if is_ours && !is_dev && !targets.contains(&on) {
                findings.push(format!("crate `{name}` may not depend on `{on}`"));
            }
        }
    }
    Ok(())
}

fn short_name(package: &str) -> &str {
    package.strip_prefix("strata-").unwrap_or(package)
}

fn tracked_files() -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let listing = command::output(git.current_dir(command::root()))?;
    let files = listing.lines().map(|line| command::root().join(line));
    Ok(files.filter(|file| file.is_file()).collect())
}

fn check_file(file: &Path, findings: &mut Vec<String>) -> Result<()> {
    let name = file.strip_prefix(command::root()).unwrap_or(file).display();
    let size = file.metadata()?.len();
    if size > CHECKED_IN_LIMIT && !file.ends_with("Cargo.lock") {
        findings.push(format!(
            "{name}: {size} bytes checked in, at most {CHECKED_IN_LIMIT}"
        ));
    }
    if file.extension().is_none_or(|extension| extension != "rs") {
        return Ok(());
    }
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    if EMPTY_NAMES.contains(&stem.as_ref()) {
        findings.push(format!("{name}: `{stem}` says nothing about the content"));
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    check_text(&name.to_string(), &text, findings);
    Ok(())
}

/// The page of attacks names the test of each: words in backticks with two underscores or more.
fn check_named_tests(files: &[PathBuf], findings: &mut Vec<String>) -> Result<()> {
    const PAGE: &str = "docs/hostile-input.md";
    let page = std::fs::read_to_string(command::root().join(PAGE))?;
    let mut code = String::new();
    for file in files {
        if file.extension().is_some_and(|extension| extension == "rs") {
            code.push_str(&std::fs::read_to_string(file)?);
        }
    }
    let is_name = |word: &&str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        word.matches('_').count() > 1 && word.chars().all(plain)
    };
    for word in page.split('`').skip(1).step_by(2).filter(is_name) {
        if !code.contains(&format!("fn {word}(")) {
            findings.push(format!("{PAGE}: there is no test `{word}`"));
        }
    }
    Ok(())
}

fn check_text(name: &str, text: &str, findings: &mut Vec<String>) {
    let is_test = name.contains("/tests/") || name.ends_with("/tests.rs");
    let code = text.split("\n#[cfg(test)]").next().unwrap_or(text);
    let lines = code
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//"))
        .count();
    let exempt = text.contains("\n// tidy: data table: ");
    if !is_test && !exempt && lines > FILE_LIMIT {
        findings.push(format!(
            "{name}: {lines} lines of code, at most {FILE_LIMIT}"
        ));
    }
    if name.starts_with("crates/") && !text.starts_with("//!") {
        findings.push(format!("{name}: no module documentation at its head"));
    }
    let is_list = name.ends_with("/lib.rs") || name.ends_with("/mod.rs");
    if is_list
        && code
            .lines()
            .any(|line| line.trim_start().contains("fn ") && !line.trim_start().starts_with("//"))
    {
        findings.push(format!("{name}: logic in a module list"));
    }
    if name.starts_with("crates/") && !name.starts_with("crates/sys/") {
        for (number, line) in text.lines().enumerate() {
            if line.contains("unsafe {")
                || line.contains("unsafe fn")
                || line.contains("unsafe impl")
            {
                findings.push(format!("{name}:{}: unsafe outside crates/sys", number + 1));
            }
        }
    }
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.starts_with("#[ignore") {
            findings.push(format!("{name}:{}: ignored test", number + 1));
        }
        if line.starts_with("// TODO") || line.starts_with("// FIXME") {
            findings.push(format!("{name}:{}: open end in a comment", number + 1));
        }
    }
}
