//! Why an archive cannot be read or written.

use std::io;

use oci::{ConfigError, DigestError, ManifestError, ReferenceError};

use crate::StoreError;

/// Returns the names, after `lead`; nothing when there are none.
fn listed(lead: &str, names: &[String]) -> String {
    match names.is_empty() {
        true => String::new(),
        false => format!("{lead}{}", names.join(", ")),
    }
}

/// Why an archive cannot be read or written. Nothing in an archive is trusted; what is wrong with
/// layers is found when they are copied.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be read, or is no tar.
    #[error("cannot read archive")]
    Read(#[source] io::Error),
    /// A file of a layout cannot be read.
    #[error("cannot read `{name}`")]
    ReadFile {
        /// The file, below the layout's directory.
        name: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The output cannot be written.
    #[error("cannot write archive")]
    Write(#[source] io::Error),
    /// The archive ends before its content does. The text is docker's.
    #[error("unexpected EOF")]
    Truncated,
    /// The archive has no image in a known form.
    #[error("no images: there is neither `manifest.json` nor `index.json`")]
    NoImages,
    /// It is a pipe or a device.
    #[error("neither a file nor a directory")]
    NoFile,
    /// The list of images is empty.
    #[error("no images are listed")]
    Empty,
    /// The archive has no image of that name.
    #[error("no image `{name}`{}", listed(": there are ", known))]
    NoSuchImage {
        /// The name.
        name: String,
        /// The names that it has.
        known: Vec<String>,
    },
    /// The archive has several images, and none was named.
    #[error("several images: name one{}", listed(" of ", .0))]
    ManyImages(Vec<String>),
    /// The archive was written by docker before version 1.10.
    #[error("archive is in docker's format before version 1.10, which is not supported")]
    TooOld,
    /// An entry's name leads out of the archive or is not text.
    #[error("an entry has the unsafe name `{0}`")]
    UnsafeName(String),
    /// The archive has too many entries.
    #[error("more than {0} entries")]
    TooManyEntries(usize),
    /// The headers that describe an entry are too long.
    #[error("more than {0} bytes of headers for one entry")]
    LongHeaders(u64),
    /// The documents that lists lead to are too many, or one is named too often.
    #[error("more than {0} bytes of manifests and configurations")]
    ManyDocuments(u64),
    /// An image has more layers than any tool makes.
    #[error("`{name}` names {found} layers, limit {limit}")]
    TooManyLayers {
        /// The document.
        name: String,
        /// How many it names.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A file that another one names is not there.
    #[error("no file `{0}`")]
    Missing(String),
    /// Links lead in a circle.
    #[error("a circle of links at `{0}`")]
    LinkLoop(String),
    /// A document is longer than it may be.
    #[error("`{name}` has {size} bytes, limit {limit}")]
    TooLarge {
        /// The document.
        name: String,
        /// Its length.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A document is not JSON of the expected shape.
    #[error("malformed `{name}`")]
    Malformed {
        /// The document.
        name: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A layout has a version that is not known.
    #[error("an OCI layout of version `{0}`, expected 1")]
    UnsupportedLayout(String),
    /// A name in the archive is no image name.
    #[error("an image is named `{name}`")]
    InvalidName {
        /// The name.
        name: String,
        /// What is wrong.
        #[source]
        source: ReferenceError,
    },
    /// A digest in the archive is none.
    #[error("no digest where one is expected")]
    InvalidDigest(#[from] DigestError),
    /// A configuration in the archive is none.
    #[error("`{name}`")]
    Config {
        /// The document.
        name: String,
        /// What is wrong.
        #[source]
        source: ConfigError,
    },
    /// A manifest in the archive is none.
    #[error("`{name}`")]
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
