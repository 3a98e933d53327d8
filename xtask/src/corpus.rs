//! `cargo xtask corpus`: the same Dockerfiles built by docker and by strata, and the images compared.
//!
//! It runs where a docker daemon answers and `strata` is on the PATH; it fetches nothing. Compared
//! are what the configuration says, the history (texts and which steps are empty) and every file,
//! times apart. docs/dockerfile.md lists the differences that are meant.

mod case;
mod context;
mod engine;
mod kaniko;
mod own;
mod web;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use testkit::flat::{self, Image};

use case::Case;
use engine::Built;
use web::Web;

const USAGE: &str = "usage: cargo xtask corpus IMAGES [KANIKO [PART]]

IMAGES is a directory of archives for `docker load` that stand in for the images which the
Dockerfiles name. KANIKO is a checkout of GoogleContainerTools/kaniko, or `-` for the project's own
cases alone. PART is a part of the names of the cases to build.";

/// Members of `config` that are compared.
const SETTINGS: [&str; 13] = [
    "Env",
    "Cmd",
    "Entrypoint",
    "WorkingDir",
    "User",
    "ExposedPorts",
    "Volumes",
    "Labels",
    "Shell",
    "StopSignal",
    "Healthcheck",
    "OnBuild",
    "ArgsEscaped",
];

/// How many differences of one case are shown.
const SHOWN: usize = 12;

/// Builds all cases and lists what differs.
pub fn run(args: &[String]) -> Result<()> {
    let images = PathBuf::from(args.first().context(USAGE)?);
    let part = args.get(2).map_or("", String::as_str);
    let name = format!("strata-corpus.{}", std::process::id());
    let place = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&place)?;
    let web = Web::start()?;
    let mut cases = Vec::new();
    if let Some(kaniko) = args.get(1).filter(|path| *path != "-") {
        cases.extend(kaniko::cases(Path::new(kaniko), &web)?);
    }
    cases.extend(own::cases(&place, &web)?);
    cases.retain(|case| case.name.contains(part));
    engine::load(&images)?;
    let mut equal = 0;
    for case in &cases {
        let differences = compare(case, &place)?;
        if differences.is_empty() {
            equal += 1;
        }
        for line in differences.iter().take(SHOWN) {
            println!("    {line}");
        }
        if differences.len() > SHOWN {
            println!("    … {} differences", differences.len());
        }
    }
    std::fs::remove_dir_all(&place)?;
    println!("{equal} of {} equal", cases.len());
    match equal == cases.len() {
        true => Ok(()),
        false => bail!("{} cases differ", cases.len() - equal),
    }
}

/// Builds one case with both engines and lists what differs.
fn compare(case: &Case, place: &Path) -> Result<Vec<String>> {
    let [ours, theirs] = ["strata", "docker"].map(|engine| engine::build(engine, case, place));
    let (word, differences) = match (ours?, theirs?) {
        (Built::Failed(ours), Built::Failed(theirs)) => {
            println!(
                "both fail  {}\n    ours:   {ours}\n    theirs: {theirs}",
                case.name
            );
            return Ok(Vec::new());
        }
        (Built::Failed(error), _) => ("ours fails", vec![error]),
        (_, Built::Failed(error)) => ("docker fails", vec![error]),
        (Built::Image(ours), Built::Image(theirs)) => {
            let [ours, theirs] = [*ours, *theirs].map(|image| forgetful(case, image));
            let differences = differences(&ours, &theirs);
            let word = if differences.is_empty() {
                "equal"
            } else {
                "differs"
            };
            (word, differences)
        }
    };
    println!("{word:10} {}", case.name);
    Ok(differences)
}

/// Takes out of `image` the contents that are not the same twice.
fn forgetful(case: &Case, mut image: Image) -> Image {
    for path in &case.unstable {
        if let Some(node) = image.files.get_mut(*path) {
            node.forget_content();
        }
    }
    image
}

fn differences(ours: &Image, theirs: &Image) -> Vec<String> {
    let mut lines = Vec::new();
    for key in SETTINGS {
        let [our, their] = [ours, theirs].map(|image| present(&image.config["config"][key]));
        if our != their {
            lines.push(format!("{key}: ours {our:?}, theirs {their:?}"));
        }
    }
    for key in ["architecture", "os", "author"] {
        let [our, their] = [ours, theirs].map(|image| present(&image.config[key]));
        if our != their {
            lines.push(format!("{key}: ours {our:?}, theirs {their:?}"));
        }
    }
    let [our, their] = [ours, theirs].map(|image| history(&image.config));
    // docker shows none of an image that it cannot save.
    if our.is_empty() || their.is_empty() {
        return lines;
    }
    for index in 0..our.len().max(their.len()) {
        let (our, their) = (our.get(index), their.get(index));
        if our != their {
            lines.push(format!(
                "history {index}: ours {our:?}\n    theirs {their:?}"
            ));
        }
    }
    lines.extend(flat::differences(ours, theirs));
    lines
}

/// What is absent, null and empty means the same.
fn present(value: &Value) -> Option<&Value> {
    let is_empty = match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        Value::Bool(value) => !value,
        Value::Number(_) => false,
    };
    (!is_empty).then_some(value)
}

/// Returns text, comment and emptiness of each entry.
fn history(config: &Value) -> Vec<(&Value, &Value, bool)> {
    let entries = config["history"].as_array();
    let told = |entry| -> (&Value, &Value, bool) {
        let entry: &Value = entry;
        let is_empty = entry["empty_layer"] == true;
        (&entry["created_by"], &entry["comment"], is_empty)
    };
    entries.into_iter().flatten().map(told).collect()
}
