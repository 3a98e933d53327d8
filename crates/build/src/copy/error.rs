//! Why files cannot be copied.

use std::io;

use dockerfile::matching::PatternError;
use layer::{ViewError, WriteError};
use oci::Digest;
use runtime::user::UserError;

use crate::BaseImageError;
use crate::context::ContextError;

/// Why files cannot be copied. `Display` is docker's words where docker has some.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source does not exist, or is hidden by `.dockerignore`.
    #[error(
        "failed to compute cache key: failed to calculate checksum of ref {from}: \"{path}\": \
         not found"
    )]
    NotFound {
        /// Where it was looked for.
        from: &'static str,
        /// The path, absolute.
        path: String,
    },
    /// A source or an exclusion is no pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The context cannot be read.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The layers of a stage or image cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The new layer cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The owner is not known in the image.
    #[error(transparent)]
    Owner(#[from] UserError),
    /// A directory would replace something else.
    #[error("cannot copy to non-directory: {0}")]
    NonDirectory(String),
    /// A file would replace a directory.
    #[error("cannot replace to directory {0} with file")]
    Directory(String),
    /// Something on the way to the destination is no directory.
    #[error("mkdir {0}: not a directory")]
    ParentNotDirectory(String),
    /// Symbolic links of the destination lead in a circle.
    #[error("{0}: too many links")]
    TooManyLinks(String),
    /// A layer cannot hold a file of this name: it would delete another one.
    #[error(
        "cannot copy `{0}`: names that begin with `.wh.` mark deleted files in layers: rename it, or leave it out with `.dockerignore` or `--exclude`"
    )]
    WhiteoutName(String),
    /// An archive is damaged.
    #[error("failed to unpack `{path}`: {source}")]
    Archive {
        /// The path of the archive.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A URL cannot be read.
    #[error("failed to load `{url}`: {source}")]
    Download {
        /// The URL.
        url: String,
        /// Why.
        #[source]
        source: BaseImageError,
    },
    /// A git repository does not give what is wanted.
    #[error("failed to load `{source_name}`: {source}")]
    Git {
        /// The repository.
        source_name: String,
        /// Why.
        #[source]
        source: BaseImageError,
    },
    /// A download is not what `--checksum` says.
    #[error("digest mismatch {found}: {expected}")]
    Checksum {
        /// What was downloaded.
        found: Digest,
        /// What `--checksum` says.
        expected: Digest,
    },
    /// The user, or another step that failed, ended the build.
    #[error("{}", crate::CANCELED)]
    Canceled,
    /// A temporary file cannot be written.
    #[error("failed to write a temporary file: {0}")]
    Scratch(#[source] io::Error),
}

/// Returns a path of an image as messages show it.
pub(super) fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path).trim_start_matches('/'))
}
