//! Why a build failed, and where in the Dockerfile.

use dockerfile::ParseError;
use dockerfile::check::SettingsError;
use layer::{ViewError, WriteError};
use store::{CopyError as TransferError, StoreError};

use crate::base::BaseImageError;
use crate::context::ContextError;
use crate::copy::CopyError;
use crate::emulation::MissingEmulation;
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
    #[error("failed to parse check options: {0}")]
    CheckDirective(#[source] SettingsError),
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
    /// `RUN` for a platform whose programs this machine does not run.
    #[error(transparent)]
    NoEmulation(Box<MissingEmulation>),
    /// The index of several platforms was not made.
    #[error("cannot make the index of the images")]
    Index(#[source] Box<TransferError>),
    /// The cache was not exported.
    #[error("{0}")]
    CacheExport(#[source] BaseImageError),
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

impl BuildError {
    /// Returns what to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        self.error.hint()
    }
}

impl SolveError {
    /// Returns what to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Parse(error) => Some(error.hint.clone()),
            Self::Plan(error) => Some(error.hint()),
            Self::Lower(error) => Some(error.hint()),
            Self::CheckDirective(error) => Some(error.hint().to_owned()),
            Self::Context(error) => error.hint(),
            Self::CacheExport(_)
            | Self::NoEmulation(_)
            | Self::Index(_)
            | Self::Check(_)
            | Self::Copy(_)
            | Self::Run(_)
            | Self::Store(_)
            | Self::View(_)
            | Self::Write(_)
            | Self::Canceled => None,
        }
    }

    /// Returns the word of the instruction to point at, where the error knows it.
    pub(crate) fn culprit(&self) -> Option<&str> {
        match self {
            Self::Plan(error) => error.culprit(),
            Self::Lower(error) => error.culprit(),
            _ => None,
        }
    }

    /// Returns what docker shows at the step; the end of the build says a little more.
    pub(crate) fn step_message(&self) -> String {
        let text = self.to_string();
        match text.strip_prefix("failed to compute cache key: ") {
            Some(rest) => rest.to_owned(),
            None => text,
        }
    }
}
