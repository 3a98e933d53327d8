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
    #[error("target stage \"{0}\" could not be found")]
    TargetNotFound(String),
    /// `--from` is a number that no stage has.
    #[error("invalid stage index {0}")]
    InvalidStageIndex(String),
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
