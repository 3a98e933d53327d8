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
        let word = located.word.as_deref();
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
        let text = String::from_utf8_lossy(&self.options.dockerfile);
        let number = |line: u32| usize::try_from(line).unwrap_or_default();
        let (first, last) = (number(span.start), number(span.end));
        let lines = text.lines().enumerate().map(|(at, text)| (at + 1, text));
        let mut lines = lines.filter(|(line, _)| (first..=last).contains(line));
        let word = word.filter(|word| !word.is_empty());
        let found = word.and_then(|word| {
            lines.find_map(|(line, text)| {
                let at = text.find(word)?;
                Some((line, text[..at].chars().count() + 1))
            })
        });
        let (line, column) = found.unwrap_or((first, 1));
        Location {
            file: self.options.dockerfile_name.clone(),
            line,
            column,
            excerpt: dockerfile::excerpt(
                &self.options.dockerfile_name,
                &self.options.dockerfile,
                span,
            ),
        }
    }
}
