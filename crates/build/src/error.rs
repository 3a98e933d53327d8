//! Why a build failed, and where in the Dockerfile.

use dockerfile::ParseError;
use dockerfile::check::SettingsError;
use layer::{ViewError, WriteError};
use store::StoreError;

use crate::context::ContextError;
use crate::copy::CopyError;
use crate::lower::LowerError;
use crate::plan::PlanError;
use crate::run::RunError;

/// A build failed. `Display` is what docker prints after `failed to solve: `.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct BuildError {
    /// What happened.
    #[source]
    pub error: Box<SolveError>,
    /// The instruction at fault.
    pub location: Option<Location>,
    /// The name of the step that failed, as [`crate::Event::StepStarted`] gave it.
    pub step: Option<String>,
}

/// A place in the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The name of the Dockerfile.
    pub file: String,
    /// The first line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// docker's box: `file:line`, a ruler, the lines around it with those at fault marked
    /// `>>>`, a ruler. It ends with a newline.
    pub excerpt: String,
}

/// What can go wrong in a build. `Display` is docker's words where docker has some.
#[derive(Debug, thiserror::Error)]
pub enum SolveError {
    /// The Dockerfile does not parse.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The Dockerfile parses and makes no sense.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// An instruction, or a base image, cannot be used.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// The `check` directive of the Dockerfile is malformed.
    #[error(transparent)]
    CheckDirective(SettingsError),
    /// The Dockerfile makes warnings errors, and there are some; docker's message.
    #[error("{0}")]
    Check(String),
    /// The build context cannot be read.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// `COPY`, `ADD` or `WORKDIR` failed.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// `RUN` failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Layers cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A layer cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The user, or another step that failed, ended the build.
    #[error("{}", crate::CANCELED)]
    Canceled,
}

/// A failure that is about no instruction.
impl From<SolveError> for BuildError {
    fn from(error: SolveError) -> Self {
        Self {
            error: Box::new(error),
            location: None,
            step: None,
        }
    }
}

impl SolveError {
    /// Returns what docker shows at the step; the end of the build says a little more.
    pub(crate) fn step_message(&self) -> String {
        let text = self.to_string();
        match text.strip_prefix("failed to compute cache key: ") {
            Some(rest) => rest.to_owned(),
            None => text,
        }
    }
}
