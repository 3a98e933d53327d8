//! Why a build context cannot be read.

use std::io;
use std::path::PathBuf;

use dockerfile::matching::PatternError;

/// Why a build context cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The directory cannot be opened.
    #[error("unable to prepare context: `{}`: {source}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file in it cannot be read.
    #[error("failed to read `{path}` of the build context: {source}")]
    Read {
        /// Its path in the context.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file was written to while the build read it.
    #[error("`{0}` of the build context changed while it was read")]
    Changed(String),
    /// Symbolic links lead in a circle.
    #[error("too many symbolic links in `{0}` of the build context")]
    TooManyLinks(String),
    /// The user ended the build.
    #[error("context canceled")]
    Canceled,
    /// A pattern of `.dockerignore` is malformed.
    #[error("failed to parse {name}: {source}")]
    Ignore {
        /// The name of the file.
        name: String,
        /// The line of the pattern, counted from 1.
        line: usize,
        /// Why.
        #[source]
        source: PatternError,
    },
}

impl ContextError {
    /// Returns what to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Ignore { line, source, .. } => Some(format!("line {line}: {}", source.hint())),
            Self::Open { .. }
            | Self::Read { .. }
            | Self::Changed(_)
            | Self::TooManyLinks(_)
            | Self::Canceled => None,
        }
    }

    /// An error about `path` of the context.
    pub(crate) fn read(path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Read {
            path: String::from_utf8_lossy(path).into_owned(),
            source: source.into(),
        }
    }
}
