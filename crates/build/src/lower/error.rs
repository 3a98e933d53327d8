//! Why an instruction cannot be lowered.

use dockerfile::expand::ExpandError;
use dockerfile::port::PortError;
use dockerfile::{MountError, ParseError};
use oci::DigestError;

use crate::plan::PlanError;
use crate::{BaseImageError, GitSourceError};

/// Why an instruction cannot be lowered. `Display` is docker's words.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// The plan of a stage fails: a trigger names a stage that it cannot use.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A word does not expand.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// A trigger of a base image does not parse.
    #[error(transparent)]
    Trigger(#[from] ParseError),
    /// A `--mount` is wrong.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A `--mount` in place of the whole root file system.
    #[error("invalid mount target {0:?}")]
    MountTarget(String),
    /// A port is wrong.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A base image cannot be had.
    #[error("{name}: failed to resolve source metadata for {reference}: {source}")]
    BaseImage {
        /// The name as people write it.
        name: String,
        /// The name in full.
        reference: String,
        /// Why.
        #[source]
        source: BaseImageError,
    },
    /// `--chmod` is no mode.
    #[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
    InvalidMode(String),
    /// `--checksum` with several sources.
    #[error("checksum can't be specified for multiple sources")]
    ChecksumOfMany,
    /// `--checksum` of a local source.
    #[error("checksum requires HTTP(S) or Git sources")]
    ChecksumOfLocal,
    /// `--checksum` is no digest.
    #[error("invalid checksum digest format: {0}")]
    InvalidChecksum(#[source] DigestError),
    /// A URL in `COPY`.
    #[error("source can't be a URL for COPY")]
    UrlInCopy,
    /// A git repository in `COPY`.
    #[error("source can't be a git ref for COPY")]
    GitInCopy,
    /// The name of a git repository is wrong.
    #[error(transparent)]
    Git(#[from] GitSourceError),
    /// `VOLUME ""`.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// `STOPSIGNAL` is no signal.
    #[error("invalid signal: {0}")]
    InvalidSignal(String),
    /// Valid, but not built yet; refused rather than ignored.
    #[error("{0} is not supported by strata build")]
    Unsupported(String),
}
