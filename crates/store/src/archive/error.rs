//! Why an archive cannot be read or written.

use std::io;

use oci::{ConfigError, DigestError, ManifestError, ReferenceError};

use crate::StoreError;

fn listed(names: &[String]) -> String {
    match names.is_empty() {
        true => String::new(),
        false => format!(" of {}", names.join(", ")),
    }
}

/// Why an archive cannot be read or written. Nothing in an archive is trusted; what is wrong with
/// layers is found when they are copied.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be read, or is no tar.
    #[error("cannot read archive")]
    Read(#[source] io::Error),
    /// The output cannot be written.
    #[error("cannot write archive")]
    Write(#[source] io::Error),
    /// The archive ends before its content does. The text is docker's.
    #[error("unexpected EOF")]
    Truncated,
    /// The archive has no image in a known form.
    #[error("archive holds no images: it has neither `manifest.json` nor `index.json`")]
    NoImages,
    /// The archive is compressed as a whole, or no file.
    #[error("archive is compressed or a pipe: write it to a file, decompressed")]
    Compressed,
    /// The archive has no image of that name.
    #[error("archive has no image `{name}`{}", listed(known))]
    NoSuchImage {
        /// The name.
        name: String,
        /// The names that it has.
        known: Vec<String>,
    },
    /// The archive has several images, and none was named.
    #[error("archive has several images: name one{}", listed(.0))]
    ManyImages(Vec<String>),
    /// The archive was written by docker before version 1.10.
    #[error("archive is in docker's format before version 1.10, which is not supported")]
    TooOld,
    /// An entry's name leads out of the archive or is not text.
    #[error("archive has an entry with the unsafe name `{0}`")]
    UnsafeName(String),
    /// The archive has too many entries.
    #[error("archive has more than {0} entries")]
    TooManyEntries(usize),
    /// A file that another one names is not there.
    #[error("archive has no file `{0}`")]
    Missing(String),
    /// Links lead in a circle.
    #[error("archive has a circle of links at `{0}`")]
    LinkLoop(String),
    /// A document is longer than it may be.
    #[error("`{name}` in the archive has {size} bytes, limit {limit}")]
    TooLarge {
        /// The document.
        name: String,
        /// Its length.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A document is not JSON of the expected shape.
    #[error("malformed `{name}` in the archive")]
    Malformed {
        /// The document.
        name: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A layout has a version that is not known.
    #[error("archive is an OCI layout of version `{0}`, expected 1")]
    UnsupportedLayout(String),
    /// A name in the archive is no image name.
    #[error("archive names an image `{name}`")]
    InvalidName {
        /// The name.
        name: String,
        /// What is wrong.
        #[source]
        source: ReferenceError,
    },
    /// A digest in the archive is none.
    #[error("digest in the archive")]
    InvalidDigest(#[from] DigestError),
    /// A configuration in the archive is none.
    #[error("`{name}` in the archive")]
    Config {
        /// The document.
        name: String,
        /// What is wrong.
        #[source]
        source: ConfigError,
    },
    /// A manifest in the archive is none.
    #[error("`{name}` in the archive")]
    Manifest {
        /// The document.
        name: String,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
