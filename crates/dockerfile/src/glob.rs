//! Patterns over text: those of shell substitutions, and those over paths.

use regex::{NoExpand, Regex};

/// How much a `*` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Greed {
    Shortest,
    Longest,
}

/// Which occurrences are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    First,
    All,
}

/// Why a pattern of a substitution is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShellPatternError {
    /// A backslash stands before something that needs none.
    #[error("invalid escape '\\{0}'")]
    InvalidEscape(String),
    /// The pattern is too large.
    #[error("pattern of {0} bytes is too large")]
    TooLarge(usize),
}

enum Piece {
    Star,
    Any,
    Literal(char),
}

/// Removes what `pattern` matches at the start of `value`.
pub(crate) fn trim_prefix(
    pattern: &str,
    value: &str,
    greed: Greed,
) -> Result<String, ShellPatternError> {
    let regex = compile(pieces(pattern)?.iter(), greed, Anchor::Start)?;
    let end = regex.find(value).map_or(0, |found| found.end());
    Ok(value[end..].to_owned())
}

/// Removes what `pattern` matches at the end of `value`.
pub(crate) fn trim_suffix(
    pattern: &str,
    value: &str,
    greed: Greed,
) -> Result<String, ShellPatternError> {
    // A regular expression finds the leftmost match, and the wanted one is the rightmost: both
    // sides are reversed.
    let regex = compile(pieces(pattern)?.iter().rev(), greed, Anchor::Start)?;
    let reversed: String = value.chars().rev().collect();
    let end = regex.find(&reversed).map_or(0, |found| found.end());
    Ok(reversed[end..].chars().rev().collect())
}

/// Replaces what `pattern` matches in `value`.
pub(crate) fn replace(
    pattern: &str,
    value: &str,
    replacement: &str,
    which: Which,
) -> Result<String, ShellPatternError> {
    let regex = compile(pieces(pattern)?.iter(), Greed::Longest, Anchor::None)?;
    let replacement = NoExpand(replacement);
    let replaced = match which {
        Which::First => regex.replace(value, replacement),
        Which::All => regex.replace_all(value, replacement),
    };
    Ok(replaced.into_owned())
}

enum Anchor {
    Start,
    None,
}

fn pieces(pattern: &str) -> Result<Vec<Piece>, ShellPatternError> {
    let mut pieces = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '*' => Piece::Star,
            '?' => Piece::Any,
            // `}` and `/` are escaped to be part of `${…}`; the escape is not the pattern's.
            '\\' => match chars.next() {
                Some(escaped @ ('}' | '/' | '*' | '?' | '\\')) => Piece::Literal(escaped),
                other => {
                    let escaped = other.map(String::from).unwrap_or_default();
                    return Err(ShellPatternError::InvalidEscape(escaped));
                }
            },
            _ => Piece::Literal(c),
        });
    }
    Ok(pieces)
}

fn compile<'a>(
    pieces: impl Iterator<Item = &'a Piece>,
    greed: Greed,
    anchor: Anchor,
) -> Result<Regex, ShellPatternError> {
    let mut source = match anchor {
        Anchor::Start => String::from("^"),
        Anchor::None => String::new(),
    };
    for piece in pieces {
        match (piece, greed) {
            (Piece::Star, Greed::Shortest) => source.push_str(".*?"),
            (Piece::Star, Greed::Longest) => source.push_str(".*"),
            (Piece::Any, _) => source.push('.'),
            (Piece::Literal(c), _) => source.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    Regex::new(&source).map_err(|_| ShellPatternError::TooLarge(source.len()))
}
