//! Why a build failed, and where in the Dockerfile.

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
    /// The lines around it, those at fault marked `>>>`, between docker's rulers.
    pub excerpt: String,
}

/// What can go wrong in a build.
#[derive(Debug, thiserror::Error)]
pub enum SolveError {
    /// The user ended the build.
    #[error("context canceled")]
    Canceled,
}
