//! One Dockerfile, and how it is built.

use std::path::PathBuf;

/// What both engines build.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// Names the case in the report.
    pub name: String,
    /// The Dockerfile's text. Every image that it names is one of the stand-ins.
    pub dockerfile: String,
    /// Text of a `.dockerignore` for this Dockerfile alone.
    pub ignore: Option<String>,
    /// The context.
    pub context: PathBuf,
    /// More words for the command line.
    pub args: Vec<String>,
    /// Variables of the command's environment.
    pub env: Vec<(&'static str, &'static str)>,
    /// Paths in the image whose contents differ from one build to the next.
    pub unstable: Vec<&'static str>,
}
