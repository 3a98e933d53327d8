//! Why an instruction cannot be lowered.

use dockerfile::expand::ExpandError;
use dockerfile::port::PortError;
use dockerfile::{MountError, ParseError};
use oci::DigestError;

use crate::plan::{PlanError, did_you_mean};
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
    #[error(
        "{name}: failed to resolve source metadata for {reference}: {source}{}",
        did_you_mean(.suggestion.as_ref())
    )]
    BaseImage {
        /// The name as the Dockerfile has it.
        name: String,
        /// What was probably meant.
        suggestion: Option<String>,
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
    #[error("{}", checksum_fault(.0))]
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

/// Says it as docker does; the cause, with what was expected, follows.
fn checksum_fault(error: &DigestError) -> &'static str {
    match error {
        DigestError::UnsupportedAlgorithm(_) => "unsupported digest algorithm",
        DigestError::Malformed(text) => match text.split_once("sha256:") {
            Some(("", hex)) if hex.len() != 64 => "invalid checksum digest length",
            _ => "invalid checksum digest format",
        },
    }
}

impl LowerError {
    /// Returns what to do about it.
    pub fn hint(&self) -> String {
        let hint = match self {
            Self::Plan(error) => return error.hint(),
            Self::Expand(error) => return error.hint(),
            Self::Trigger(error) => {
                return format!("an `ONBUILD` of the base image is wrong: {}", error.hint);
            }
            Self::Mount(error) => return error.hint(),
            Self::MountTarget(_) => "mount at a directory below `/`",
            Self::Port(error) => return error.hint(),
            Self::BaseImage {
                suggestion: Some(name),
                ..
            } => return format!("write `{name}`, if that is what you mean"),
            Self::BaseImage { .. } => {
                "check the name, the network and `login`; `images` lists the images that are here"
            }
            Self::InvalidMode(_) => "write an octal mode such as 0644, or changes such as u+x,go-w",
            Self::ChecksumOfMany => "write one `ADD --checksum` for each source",
            Self::ChecksumOfLocal => "leave `--checksum` out: it is for what is downloaded",
            Self::InvalidChecksum(_) => "write `sha256:` and 64 hex digits",
            Self::UrlInCopy => "write `ADD` for a URL",
            Self::GitInCopy => "write `ADD` for a git repository",
            Self::Git(error) => error.hint(),
            Self::EmptyVolume => "write the directory, or give its variables values",
            Self::InvalidSignal(_) => "write a name such as SIGTERM, or a number from 1 to 64",
            Self::Unsupported(_) => "docs/dockerfile.md lists what is not supported yet",
        };
        hint.to_owned()
    }

    /// Returns the word to point at, where nobody said another one.
    pub(crate) fn culprit(&self) -> Option<&str> {
        match self {
            Self::Plan(error) => error.culprit(),
            Self::Expand(error) => Some(&error.word),
            Self::Mount(error) => error.culprit(),
            Self::Port(error) => Some(error.culprit()),
            Self::BaseImage { name: word, .. }
            | Self::InvalidMode(word)
            | Self::InvalidSignal(word) => Some(word),
            Self::ChecksumOfMany | Self::ChecksumOfLocal | Self::InvalidChecksum(_) => {
                Some("--checksum")
            }
            Self::Git(error) => error.culprit(),
            Self::Unsupported(what) => what.rsplit(' ').next(),
            Self::Trigger(_)
            | Self::MountTarget(_)
            | Self::UrlInCopy
            | Self::GitInCopy
            | Self::EmptyVolume => None,
        }
    }
}
