//! Expansion of variables in words, as BuildKit's shell lexer does it.

use std::collections::BTreeSet;

/// The result of an expansion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The text.
    pub text: String,
    /// The variables that were set.
    pub used: BTreeSet<String>,
    /// The variables that were not set, in order of appearance.
    pub unset: Vec<String>,
}

/// Why a word does not expand. `Display` is BuildKit's own text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// A quote is not closed.
    #[error("unexpected end of statement while looking for matching {0}-quote")]
    UnclosedQuote(&'static str),
}

/// Returns `text` with its variables replaced and its quotes and escapes removed.
pub fn word(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    escape: char,
) -> Result<String, ExpandError> {
    expand(text, variable, escape).map(|expansion| expansion.text)
}

/// As [`word`], and reports the variables that were used.
pub fn expand(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    escape: char,
) -> Result<Expansion, ExpandError> {
    unimplemented!("{text} {variable:p} {escape}")
}

/// As [`word`], and splits the result where unquoted white space stands.
pub fn words(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    escape: char,
) -> Result<Vec<String>, ExpandError> {
    unimplemented!("{text} {variable:p} {escape}")
}

/// Returns `text` with its variables replaced and its quotes and escapes kept: the contents of
/// a heredoc.
pub fn raw(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    escape: char,
) -> Result<String, ExpandError> {
    unimplemented!("{text} {variable:p} {escape}")
}
