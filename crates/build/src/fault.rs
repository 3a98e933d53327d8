//! Errors to build errors with a place in the Dockerfile.

use dockerfile::{ParseError, Span};

use crate::located::Located;
use crate::lower::Graph;
use crate::solve::Failure;
use crate::{BuildError, BuildOptions, CopyError, Location, SolveError};

/// Turns errors into build errors with a place in the Dockerfile.
pub(crate) struct Faults<'a> {
    pub(crate) options: &'a BuildOptions,
}

impl Faults<'_> {
    /// The Dockerfile does not parse.
    pub(crate) fn parse(&self, error: ParseError) -> BuildError {
        let (span, line, column) = (error.span, error.line, error.column);
        let location = span.map(|span| Location {
            line: usize::try_from(line).unwrap_or_default(),
            column: usize::try_from(column).unwrap_or_default(),
            ..self.location(span, None)
        });
        BuildError {
            error: Box::new(error.into()),
            location,
            step: None,
        }
    }

    /// Something is wrong with an instruction.
    pub(crate) fn located(&self, located: Located<SolveError>) -> BuildError {
        let word = located.error.culprit().or(located.word.as_deref());
        BuildError {
            location: located.span.map(|span| self.location(span, word)),
            error: located.error,
            step: None,
        }
    }

    /// A step failed.
    pub(crate) fn failure(&self, graph: &Graph, failure: Failure) -> BuildError {
        let vertex = &graph.vertices[failure.vertex];
        let word = match &failure.error {
            SolveError::Copy(CopyError::NotFound { path, .. }) => {
                Some(path.trim_start_matches('/').to_owned())
            }
            _ => None,
        };
        BuildError {
            location: Some(self.location(vertex.span, word.as_deref())),
            error: Box::new(failure.error),
            step: Some(vertex.name.clone()),
        }
    }

    /// Returns the place of a word in the lines of `span`, or of the instruction.
    fn location(&self, span: Span, word: Option<&str>) -> Location {
        let (name, text) = (&self.options.dockerfile_name, &self.options.dockerfile);
        let (line, column) = dockerfile::place(text, span, word);
        Location {
            file: name.clone(),
            line: usize::try_from(line).unwrap_or_default(),
            column: usize::try_from(column).unwrap_or_default(),
            excerpt: dockerfile::excerpt(name, text, span),
        }
    }
}
