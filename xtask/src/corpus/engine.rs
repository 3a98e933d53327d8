//! docker and strata, asked the same.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use testkit::flat::{self, Image};

use super::case::Case;
use crate::command;

/// How a build ended.
#[derive(Debug)]
pub enum Built {
    /// With an image.
    Image(Box<Image>),
    /// With this error.
    Failed(String),
}

/// Gives both engines the archives in `images`.
pub fn load(images: &Path) -> Result<()> {
    let entries = std::fs::read_dir(images);
    let entries = entries.with_context(|| format!("cannot list {}", images.display()))?;
    for entry in entries {
        let path = entry?.path();
        for engine in ["docker", "strata"] {
            command::output(Command::new(engine).args(["load", "-q", "-i"]).arg(&path))?;
        }
    }
    Ok(())
}

/// Builds `case` with `engine`; `place` is a directory for files.
pub fn build(engine: &str, case: &Case, place: &Path) -> Result<Built> {
    let name = case.name.to_lowercase().replace('/', "-");
    let dockerfile = place.join(format!("{name}.Dockerfile"));
    std::fs::write(&dockerfile, &case.dockerfile)?;
    if let Some(ignore) = &case.ignore {
        let path = place.join(format!("{name}.Dockerfile.dockerignore"));
        std::fs::write(path, ignore)?;
    }
    let tag = format!("corpus/{name}:t");
    let mut build = Command::new(engine);
    build.args(["build", "--progress", "plain", "--network", "none"]);
    build.args(["-t", &tag, "-f"]).arg(&dockerfile);
    build.args(&case.args).arg(&case.context);
    build
        .envs(case.env.iter().copied())
        .env("DOCKER_BUILDKIT", "1");
    let output = build
        .output()
        .with_context(|| format!("cannot run {engine}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let error = said.lines().rfind(|line| line.starts_with("ERROR:"));
        let error = error.or_else(|| said.lines().last()).unwrap_or_default();
        return Ok(Built::Failed(error.to_owned()));
    }
    let saved = place.join(format!("{engine}.tar"));
    let mut save = Command::new(engine);
    let saving = command::output(save.args(["save", "-o"]).arg(&saved).arg(&tag));
    let image = match saving {
        Ok(_) => flat::read(&saved),
        // docker does not save an image without layers.
        Err(_) => Image {
            config: inspect(engine, &tag)?,
            files: std::collections::BTreeMap::new(),
        },
    };
    command::output(Command::new(engine).args(["rmi", "-f", &tag]))?;
    Ok(Built::Image(Box::new(image)))
}

/// Returns the configuration as far as an engine shows it without saving.
fn inspect(engine: &str, tag: &str) -> Result<serde_json::Value> {
    let mut inspect = Command::new(engine);
    let said = command::output(inspect.args(["image", "inspect", tag]))?;
    let mut shown: serde_json::Value = serde_json::from_str(&said)?;
    let mut config = serde_json::Map::new();
    for (name, shown_as) in [
        ("config", "Config"),
        ("os", "Os"),
        ("architecture", "Architecture"),
    ] {
        config.insert(name.to_owned(), shown[0][shown_as].take());
    }
    Ok(config.into())
}
