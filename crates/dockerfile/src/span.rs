//! Where something stands in the text.

/// The lines of something, counted from 1, both included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first line.
    pub start: u32,
    /// The last line; a heredoc's terminator belongs to its instruction.
    pub end: u32,
}

/// A value with its place and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its lines.
    pub span: Span,
    /// Its text on one line: continuation lines joined, comments left out, trimmed, without the
    /// contents of heredocs.
    pub text: String,
    /// The comments right above it, without their `#`.
    pub comments: Vec<String>,
}
