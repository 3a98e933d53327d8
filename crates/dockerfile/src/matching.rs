//! Wildcards of `COPY` and `ADD` sources: Go's `filepath.Match`, and `**` for any depth.

/// A wildcard pattern is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
}

/// Returns whether `text` has characters that are special in patterns.
pub fn has_wildcard(text: &str) -> bool {
    unimplemented!("{text}")
}

/// Returns whether the whole of `path` matches `pattern`. `*`, `?` and `[…]` stay within one
/// component; `**` spans any number of them.
pub fn matches(pattern: &str, path: &[u8]) -> Result<bool, PatternError> {
    unimplemented!("{pattern} {path:?}")
}
