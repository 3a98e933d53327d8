//! `cargo xtask parser-cases DIR`: the public cases of BuildKit's Dockerfile packages and of moby's
//! pattern matcher, read from checkouts of their sources and compared with what we make of them.

mod go;
mod meaning;
mod paths;
mod trees;
mod variables;

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Runs what is found below `DIR/buildkit` and `DIR/patternmatcher`, and says how many cases agree.
pub fn run(args: &[String]) -> Result<()> {
    let [directory] = args else {
        bail!(
            "usage: cargo xtask parser-cases DIR\n\nDIR has checkouts of moby/buildkit as `buildkit` and of \
             moby/patternmatcher as `patternmatcher`, or one of them"
        );
    };
    let directory = Path::new(directory);
    let mut tally = Tally::default();
    let buildkit = Source(directory.join("buildkit/frontend/dockerfile"));
    let matcher = Source(directory.join("patternmatcher"));
    if !buildkit.0.is_dir() && !matcher.0.is_dir() {
        bail!(
            "there is neither `{}` nor `{}`",
            buildkit.0.display(),
            matcher.0.display()
        );
    }
    if buildkit.0.is_dir() {
        trees::run(&buildkit, &mut tally)?;
        meaning::run(&buildkit, &mut tally)?;
        variables::run(&buildkit, &mut tally)?;
        paths::ports(&buildkit, &mut tally)?;
    }
    if matcher.0.is_dir() {
        paths::patterns(&matcher, &mut tally)?;
    }
    tally.finish()
}

/// A directory of sources.
struct Source(PathBuf);

impl Source {
    fn read(&self, path: &str) -> Result<String> {
        let path = self.0.join(path);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Returns the names in a directory, sorted.
    fn names(&self, path: &str) -> Result<Vec<String>> {
        let path = self.0.join(path);
        let entries =
            fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))?;
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

/// The cases so far, by set.
#[derive(Default)]
struct Tally {
    sets: Vec<Set>,
}

struct Set {
    name: &'static str,
    cases: usize,
    differences: Vec<String>,
}

impl Tally {
    /// Begins a set of cases.
    fn set(&mut self, name: &'static str) {
        self.sets.push(Set {
            name,
            cases: 0,
            differences: Vec::new(),
        });
    }

    /// Counts a case of the last set.
    fn equal<T: PartialEq + Debug>(&mut self, case: &str, found: T, expected: T) {
        let Some(set) = self.sets.last_mut() else {
            return;
        };
        set.cases += 1;
        if found != expected {
            set.differences.push(format!(
                "{}: {case}\n    expected {expected:?}\n    found    {found:?}",
                set.name
            ));
        }
    }

    /// Counts a case that expects an error with `expected` in its text.
    fn fails<T: Debug, E: ToString>(&mut self, case: &str, found: Result<T, E>, expected: &str) {
        let found = match found {
            Ok(value) => format!("{value:?}"),
            Err(error) => error.to_string(),
        };
        if found.contains(expected) {
            self.equal(case, expected, expected);
        } else {
            self.equal(case, found.as_str(), expected);
        }
    }

    fn finish(self) -> Result<()> {
        let (mut agreed, mut all) = (0, 0);
        for set in &self.sets {
            let equal = set.cases - set.differences.len();
            println!("{:<40} {equal} of {}", set.name, set.cases);
            agreed += equal;
            all += set.cases;
        }
        println!("{:<40} {agreed} of {all}", "all");
        for difference in self.sets.iter().flat_map(|set| &set.differences) {
            println!("\n{difference}");
        }
        if agreed != all || all == 0 {
            bail!("{} cases differ", all - agreed);
        }
        Ok(())
    }
}

/// Returns a text, empty when there is none.
fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Returns the elements of a list, none when it is no list.
fn list(value: &serde_json::Value) -> &[serde_json::Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Returns the texts of a list.
fn texts(value: &serde_json::Value) -> Vec<String> {
    list(value)
        .iter()
        .map(|item| text(item).to_owned())
        .collect()
}
