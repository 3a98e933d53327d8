//! One store of the engine under test.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::place::{Place, output, unmount_below};

/// The engine, with a store of its own.
pub(crate) struct Strata<'a> {
    place: &'a Place,
    directory: PathBuf,
    form: Option<&'static str>,
}

impl<'a> Strata<'a> {
    pub(crate) fn new(place: &'a Place, name: &str) -> Self {
        let directory = place.path(name);
        Self {
            place,
            directory,
            form: None,
        }
    }

    /// Forces the form in which layers are mounted.
    pub(crate) fn with_form(self, form: &'static str) -> Self {
        Self {
            form: Some(form),
            ..self
        }
    }

    /// Returns a command of strata.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(env!("CARGO_BIN_EXE_strata"), args);
        command
            .env("STRATA_ROOT", self.directory.join("root"))
            .env("STRATA_RUN", self.directory.join("run"))
            .env("STRATA_UNDO_WINDOW", "0")
            .envs(self.form.map(|form| ("STRATA_LAYER_FORM", form)));
        command
    }

    /// Runs strata and returns what it printed.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        output(self.command(args))
    }

    /// Returns the value of `template` for `image`.
    pub(crate) fn inspect(&self, template: &str, image: &str) -> String {
        self.run(&["image", "inspect", "--format", template, image])
    }

    /// Returns the id of `image`.
    pub(crate) fn id(&self, image: &str) -> String {
        self.inspect("{{.Id}}", image)
    }

    /// Returns the `repository@digest` names of `image`.
    pub(crate) fn repo_digests(&self, image: &str) -> Vec<String> {
        let text = self.inspect("{{json .RepoDigests}}", image);
        serde_json::from_str(&text).unwrap()
    }

    /// Returns the digests of the layers of `image`, uncompressed, the lowest first.
    pub(crate) fn layers(&self, image: &str) -> Value {
        let text = self.inspect("{{json .RootFS.Layers}}", image);
        serde_json::from_str(&text).unwrap()
    }

    /// Takes the store away: the next command begins an empty one.
    pub(crate) fn remove(&self) {
        unmount_below(&self.directory);
        fs::rename(&self.directory, self.directory.with_extension("removed")).unwrap();
    }
}
