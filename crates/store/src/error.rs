//! What can go wrong with the store itself.

use std::io;
use std::path::{Path, PathBuf};

use oci::{ConfigError, DiffId, Digest, ImageId, ManifestError};

/// Why the store could not do what was asked. An error leaves the store as it was, apart from
/// scratch files, which the next sweep removes.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory of the store could not be used.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel gave no random bytes.
    #[error("cannot read random bytes")]
    Random(#[source] io::Error),
    /// What is to come does not fit on the disk.
    #[error("not enough space in `{}`: at least {} are needed, {} are free", root.display(), megabytes(*needed), megabytes(*free))]
    NoRoom {
        /// The root of the store.
        root: PathBuf,
        /// Bytes that will be written.
        needed: u64,
        /// Bytes that can be written.
        free: u64,
    },
    /// The database refused.
    #[error("store database")]
    Database(#[source] rusqlite::Error),
    /// The database is not what was written.
    #[error("the store's database is damaged: run `strata system fsck --repair`")]
    DamagedDatabase(#[source] rusqlite::Error),
    /// The store was written by a newer strata.
    #[error("store `{}` has format {found}, this strata reads up to {supported}: use a newer strata", root.display())]
    NewerFormat {
        /// The root of the store.
        root: PathBuf,
        /// The format on disk.
        found: u32,
        /// The newest format that is understood.
        supported: u32,
    },
    /// The store uses features that this program must not ignore.
    #[error("store `{}` needs features that this strata does not have: {}", root.display(), features.join(", "))]
    UnknownFeatures {
        /// The root of the store.
        root: PathBuf,
        /// Their names.
        features: Vec<String>,
    },
    /// The store uses features that allow only reading.
    #[error("store can only be read: it uses features that this strata does not have: {}", features.join(", "))]
    ReadOnly {
        /// Their names.
        features: Vec<String>,
    },
    /// The `format` file is not one.
    #[error("malformed store format file `{}`", path.display())]
    MalformedFormat {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The directory holds files but no store.
    #[error("`{}` is not empty and not a strata store", root.display())]
    NotAStore {
        /// The directory.
        root: PathBuf,
    },
    /// The directory holds files but no OCI layout.
    #[error("`{}` is not empty and not an OCI layout", path.display())]
    NotALayout {
        /// The directory.
        path: PathBuf,
    },
    /// A file is there already.
    #[error("`{}` is there already: remove it, or write to another file", path.display())]
    FileExists {
        /// The file.
        path: PathBuf,
    },
    /// The layout is of a version that is not known.
    #[error("`{}` is no OCI layout of version 1", path.display())]
    UnknownLayout {
        /// The directory.
        path: PathBuf,
    },
    /// The list of a layout's images cannot be read.
    #[error("cannot read the images that `{}` lists: {source}", path.display())]
    LayoutIndex {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ManifestError,
    },
    /// Content does not have the digest that its name promises.
    #[error("content digest is {found}, expected {expected}")]
    DigestMismatch {
        /// The digest that was promised.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// Content does not have the promised length.
    #[error("content of {digest} has {found} bytes, expected {expected}")]
    SizeMismatch {
        /// The name of the content.
        digest: Digest,
        /// The promised length.
        expected: u64,
        /// The length of what came.
        found: u64,
    },
    /// A layer's uncompressed content is not what the image's configuration promises.
    #[error("layer unpacks to {found}, image configuration expects {expected}")]
    DiffIdMismatch {
        /// What the configuration names.
        expected: DiffId,
        /// What was unpacked.
        found: DiffId,
    },
    /// A layer cannot be decompressed.
    #[error("cannot decompress the layer")]
    Undone(#[source] io::Error),
    /// A file of the store is not what was written.
    #[error("`{}` is damaged: run `strata system fsck --repair`", path.display())]
    DamagedBlob {
        /// The file.
        path: PathBuf,
    },
    /// There is no such blob.
    #[error("blob {0} is not in the store")]
    BlobNotFound(Digest),
    /// A document is longer than it may be.
    #[error("blob {digest} has {size} bytes, limit {limit}")]
    BlobTooLarge {
        /// The blob.
        digest: Digest,
        /// Its length.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// There is no such layer.
    #[error("layer {0} is not in the store")]
    LayerNotFound(DiffId),
    /// There is no such image.
    #[error("image {0} is not in the store")]
    ImageNotFound(ImageId),
    /// A name has no tag where one is needed.
    #[error("name `{0}` has no tag")]
    NoTag(String),
    /// A document is not an image configuration.
    #[error("image configuration")]
    Config(#[from] ConfigError),
    /// A document is not a manifest.
    #[error("image manifest")]
    Manifest(#[from] ManifestError),
    /// A manifest names another configuration than the one it came with.
    #[error("manifest names configuration {found}, expected {expected}")]
    ManifestConfigMismatch {
        /// The digest of the configuration.
        expected: Digest,
        /// The digest in the manifest.
        found: Digest,
    },
    /// A row of the database cannot be read.
    #[error("malformed record in table `{table}`")]
    MalformedRecord {
        /// The table.
        table: &'static str,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match is_damage(&error) {
            true => Self::DamagedDatabase(error),
            false => Self::Database(error),
        }
    }
}

/// Tells whether SQLite says that a database is none, or that its parts contradict each other.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error {
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => true,
        error => matches!(
            error.sqlite_error_code(),
            Some(DatabaseCorrupt | NotADatabase)
        ),
    }
}

/// Returns the message of an error and of what caused it.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Rounds up: what is needed and what is free differ then whenever they do.
fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

/// Tells whether an error, or what caused it, is that the disk is full, or too full for what was
/// to come.
pub fn is_disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && matches!(
                io.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        {
            return true;
        }
        if let Some(rusqlite::Error::SqliteFailure(error, _)) = error.downcast_ref()
            && (error.code == rusqlite::ErrorCode::DiskFull
                || error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
        {
            return true;
        }
        if let Some(StoreError::NoRoom { .. }) = error.downcast_ref() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Adds the action and the path to an I/O error.
pub(crate) fn at<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
