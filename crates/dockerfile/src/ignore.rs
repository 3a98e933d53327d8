//! `.dockerignore`: which paths of a context a build does not see.

use crate::matching::PatternError;

/// The patterns of a `.dockerignore`, in order.
#[derive(Debug, Clone, Default)]
pub struct Patterns {}

/// Whether a walker goes into a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descend {
    /// Nothing below it can be seen.
    Skip,
    /// Something below it may be seen, even if it is excluded itself.
    Enter,
}

impl Patterns {
    /// Parses the text of a `.dockerignore`.
    pub fn parse(text: &[u8]) -> Result<Self, PatternError> {
        unimplemented!("{text:?}")
    }

    /// Returns whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
    }

    /// Returns whether `path`, relative to the context, is excluded, by itself or by a parent.
    pub fn excludes(&self, path: &[u8]) -> bool {
        unimplemented!("{path:?}")
    }

    /// Returns whether anything below the directory `path` may be seen.
    pub fn descend(&self, path: &[u8]) -> Descend {
        unimplemented!("{path:?}")
    }
}
