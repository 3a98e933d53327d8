//! What a command works with.

use std::cell::OnceCell;
use std::path::PathBuf;

use layer::Form;
use registry::{Client, CredentialsError};
use store::{Purpose, Store, UndoWindow};
use strata::{Engine, EngineOptions, Hindrance};

use super::environment::Environment;
use super::error::{CommandError, Exit, Voice};
use super::output::Output;
use super::purpose;

/// One run of the program.
#[derive(Debug)]
pub(crate) struct Session {
    /// The name that the program was called by: `strata` or `docker`.
    pub(crate) program: &'static str,
    pub(crate) environment: Environment,
    pub(crate) out: Output,
    /// What the command is remembered as; `None` when what it changes cannot be undone.
    pub(crate) purpose: Option<Purpose>,
    engine: OnceCell<Engine>,
}

impl Session {
    pub(crate) fn new(program: &'static str, environment: Environment) -> Self {
        Self {
            program,
            environment,
            out: Output,
            purpose: None,
            engine: OnceCell::new(),
        }
    }

    /// Returns the engine; the first call opens the store.
    pub(crate) fn engine(&self) -> Result<&Engine, CommandError> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let environment = &self.environment;
        let form = environment.layer_form.as_deref();
        let window = self.undo_window()?;
        let purpose = self.purpose.clone();
        let engine = Engine::open(EngineOptions {
            root: environment.root.clone(),
            run: environment.run.clone(),
            form: form.map(Form::parse).transpose()?,
            purpose: purpose.map(|purpose| Purpose { window, ..purpose }),
            registries: environment.registries.clone(),
        })?;
        if engine.store().is_new()
            && let Some(hindrance) = Hindrance::of(engine.store())?
        {
            Output.talk(&format!("WARNING: {hindrance}"));
        }
        Ok(self.engine.get_or_init(|| engine))
    }

    /// Returns how long what is removed stays, so that it can be undone.
    pub(crate) fn undo_window(&self) -> Result<UndoWindow, CommandError> {
        purpose::window(self.environment.undo_window.as_deref())
    }

    /// Tells whether the store has been opened.
    pub(crate) fn has_store(&self) -> bool {
        self.engine.get().is_some()
    }

    /// Returns the store; the first call opens it.
    pub(crate) fn store(&self) -> Result<&Store, CommandError> {
        Ok(self.engine()?.store())
    }

    /// Returns a client for registries, for commands that need no store.
    pub(crate) fn client(&self) -> Result<Client, CommandError> {
        Ok(self.environment.registries.client()?)
    }

    /// Returns the directory of docker's `config.json`.
    pub(crate) fn docker_config(&self) -> Result<PathBuf, CommandError> {
        let directory = self.environment.registries.docker_config.clone();
        Ok(directory.ok_or(CredentialsError::NoDirectory)?)
    }

    /// Does `work` for each of `words`, goes on after an error, and tells whether all went well.
    pub(crate) fn each(
        &mut self,
        words: &[String],
        mut work: impl FnMut(&str, &mut Self) -> Result<(), CommandError>,
    ) -> Exit {
        let mut exit = Exit::SUCCESS;
        for word in words {
            if let Err(error) = work(word, self) {
                let (text, code) = error.report(Voice::Plain, self.program, "");
                if !text.is_empty() {
                    self.out.talk(&text);
                }
                if code != Exit::SUCCESS {
                    exit = code;
                }
            }
        }
        exit
    }
}
