//! An error and the place in the Dockerfile that it is about.

use dockerfile::Span;

/// An error and the instruction that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<E> {
    /// What happened.
    pub error: Box<E>,
    /// The lines of the instruction; `None` when it is about the whole file.
    pub span: Option<Span>,
    /// The word at fault as it is written there; it gives the column.
    pub word: Option<String>,
}

impl<E> Located<E> {
    /// An error about the instruction at `span`.
    pub(crate) fn at(span: Span, error: impl Into<E>) -> Self {
        Self {
            error: Box::new(error.into()),
            span: Some(span),
            word: None,
        }
    }

    /// An error about one word of the instruction at `span`.
    pub(crate) fn at_word(span: Span, word: &str, error: impl Into<E>) -> Self {
        Self {
            word: Some(word.to_owned()),
            ..Self::at(span, error)
        }
    }

    /// An error without a place.
    pub(crate) fn nowhere(error: impl Into<E>) -> Self {
        Self {
            error: Box::new(error.into()),
            span: None,
            word: None,
        }
    }

    /// Changes the error and keeps the place.
    pub(crate) fn map<F>(self, change: impl FnOnce(E) -> F) -> Located<F> {
        Located {
            error: Box::new(change(*self.error)),
            span: self.span,
            word: self.word,
        }
    }
}
