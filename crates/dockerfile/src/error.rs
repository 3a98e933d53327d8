//! Why a text is not a Dockerfile.

use std::fmt;

use crate::Span;

/// Why and where a text is not a Dockerfile. `Display` is docker's own text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// The lines of the instruction, when it is about one.
    pub span: Option<Span>,
    /// The line of the fault, counted from 1.
    pub line: u32,
    /// The column of the fault, counted in characters from 1.
    pub column: u32,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What is wrong with a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// The file has no bytes.
    #[error("the Dockerfile cannot be empty")]
    Empty,
}

impl std::error::Error for ParseError {}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.span {
            Some(span) => write!(
                f,
                "dockerfile parse error on line {}: {}",
                span.start, self.kind
            ),
            None => self.kind.fmt(f),
        }
    }
}
