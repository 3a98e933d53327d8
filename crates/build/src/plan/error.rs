//! Why a Dockerfile that parses cannot be planned.

use dockerfile::expand::ExpandError;
use oci::{PlatformError, ReferenceError};

/// Why a Dockerfile that parses cannot be planned. `Display` is docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A word does not expand.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// A base expands to nothing.
    #[error("base name ({0}) should not be blank")]
    BlankBase(String),
    /// A base is no image name.
    #[error("failed to parse stage name \"{base}\": {source}")]
    InvalidBase {
        /// The base after expansion.
        base: String,
        /// Why.
        #[source]
        source: ReferenceError,
    },
    /// `--platform` expands to nothing.
    #[error("empty platform value from expression {0}")]
    EmptyPlatform(String),
    /// `--platform` is no platform.
    #[error("failed to parse platform {expression}: {source}")]
    InvalidPlatform {
        /// The platform, unexpanded.
        expression: String,
        /// Why.
        #[source]
        source: PlatformError,
    },
    /// `--target` names no stage.
    #[error("target stage \"{target}\" could not be found{}", did_you_mean(.suggestion.as_ref()))]
    TargetNotFound {
        /// What was asked for.
        target: String,
        /// What was probably meant.
        suggestion: Option<String>,
        /// The names of all stages.
        names: Vec<String>,
    },
    /// `--from` is a number that no stage has.
    #[error("invalid stage index {index}")]
    InvalidStageIndex {
        /// The number.
        index: String,
        /// How many stages stand before the one that names it.
        earlier: usize,
    },
    /// `--from` holds a variable.
    #[error(
        "variable expansion is not supported for --from, define a new stage with FROM using ARG \
         from global scope as a workaround"
    )]
    VariableInFrom,
    /// `--from` names this stage or a later one.
    #[error(
        "cannot copy from stage \"{from}\", it needs to be defined before current stage \"{stage}\""
    )]
    LaterStage {
        /// The stage that is named.
        from: String,
        /// The stage that names it.
        stage: String,
    },
}

impl PlanError {
    /// Returns what to do about it.
    pub fn hint(&self) -> String {
        let hint = match self {
            Self::Expand(error) => return error.hint(),
            Self::BlankBase(_) => {
                "give its arguments values: `ARG <name>=<value>` before the first FROM, or \
                 `--build-arg`"
            }
            Self::InvalidBase { base, .. } if base.chars().any(char::is_uppercase) => {
                return format!(
                    "names have no capital letters: write `{}`",
                    base.to_lowercase()
                );
            }
            Self::InvalidBase { .. } => {
                "write `[<registry>/]<name>[:<tag>]`, or the name of a stage"
            }
            Self::EmptyPlatform(_) | Self::InvalidPlatform { .. } => {
                "write a platform such as linux/amd64 or linux/arm/v7, or leave it out"
            }
            Self::TargetNotFound { names, .. } if names.is_empty() => {
                "no stage has a name: write `FROM <image> AS <name>`, or a number from 0"
            }
            Self::TargetNotFound { names, .. } => {
                return format!("the stages are {}", names.join(", "));
            }
            Self::InvalidStageIndex { earlier: 0, .. } => {
                "stages are counted from 0, and none stands before this one"
            }
            Self::InvalidStageIndex { earlier, .. } => {
                return format!(
                    "stages are counted from 0: write at most {}, or the name of a stage",
                    earlier - 1
                );
            }
            Self::VariableInFrom => {
                "write `FROM $NAME AS source` above, with `ARG NAME` before the first FROM, and \
                 `source` here"
            }
            Self::LaterStage { from, .. } => {
                return format!("move the stage `{from}` above this one");
            }
        };
        hint.to_owned()
    }

    /// Returns the word to point at, where nobody said another one.
    pub(crate) fn culprit(&self) -> Option<&str> {
        match self {
            Self::Expand(error) => Some(&error.word),
            Self::BlankBase(word)
            | Self::EmptyPlatform(word)
            | Self::InvalidBase { base: word, .. }
            | Self::InvalidPlatform {
                expression: word, ..
            }
            | Self::InvalidStageIndex { index: word, .. }
            | Self::LaterStage { from: word, .. } => Some(word),
            Self::TargetNotFound { .. } | Self::VariableInFrom => None,
        }
    }
}

/// Returns docker's suggestion, or nothing.
pub(crate) fn did_you_mean(suggestion: Option<&String>) -> String {
    suggestion.map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}
