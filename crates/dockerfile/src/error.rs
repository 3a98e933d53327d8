//! Why a text is not a Dockerfile.

use std::fmt;
use std::num::ParseIntError;

use crate::device::DeviceError;
use crate::duration::DurationError;
use crate::expand::ExpandError;
use crate::lines::MAX_LINE;
use crate::mount::MountError;
use crate::place::place;
use crate::{Frontend, Span};

/// Why and where a text is not a Dockerfile. `Display` is BuildKit's own text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    pub kind: Box<ParseErrorKind>,
    /// The lines of the instruction, when it is about one.
    pub span: Option<Span>,
    /// The line of the fault, counted from 1.
    pub line: u32,
    /// The column of the fault, counted in characters from 1.
    pub column: u32,
    /// What to do about it.
    pub hint: String,
}

/// What is wrong with a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// The file has no bytes.
    #[error("the Dockerfile cannot be empty")]
    Empty,
    /// The file has only comments.
    #[error("file with no instructions")]
    NoInstructions,
    /// There is no `FROM`.
    #[error("dockerfile contains no stages to build")]
    NoStages,
    /// An instruction stands before the first `FROM`.
    #[error("no build stage in current context")]
    NoCurrentStage,
    /// A line is too long.
    #[error("dockerfile line greater than max allowed size of {MAX_LINE}")]
    LineTooLong,
    /// A line is not UTF-8, and no comment.
    #[error("line is not valid UTF-8")]
    NotUtf8,
    /// A parser directive is given twice.
    #[error("only one {0} parser directive can be used")]
    RepeatedDirective(String),
    /// The escape directive names another character.
    #[error("invalid escape token '{0}' does not match ` or \\")]
    InvalidEscape(String),
    /// The file ends in a heredoc.
    #[error("unterminated heredoc")]
    UnterminatedHeredoc(String),
    /// The name of a heredoc is malformed.
    #[error(transparent)]
    HeredocName(ExpandError),
    /// A JSON array holds something else than strings.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    NotStringArray,
    /// `ENV` or `LABEL` with a name only.
    #[error("{0} must have two arguments")]
    TwoArguments(&'static str),
    /// One of several pairs has no `=`.
    #[error("Syntax error - can't find = in {0:?}. Must be of the form: name=value")]
    MissingEquals(String),
    /// The instruction does not exist.
    #[error("unknown instruction: {name}{}", DidYouMean(.suggestion))]
    UnknownInstruction {
        /// What was written.
        name: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// The instruction has no such flag.
    #[error("unknown flag: {flag}{}", DidYouMean(.suggestion))]
    UnknownFlag {
        /// What was written.
        flag: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// A flag is given twice.
    #[error("duplicate flag specified: {0}")]
    DuplicateFlag(String),
    /// A flag lacks its value.
    #[error("missing a value on flag: {0}")]
    FlagWithoutValue(String),
    /// A flag is neither true nor false.
    #[error("expecting boolean value for flag {flag}, not: {value}")]
    FlagNotBoolean {
        /// The flag.
        flag: String,
        /// Its value.
        value: String,
    },
    /// Too few arguments.
    #[error("{0} requires at least one argument")]
    AtLeastOneArgument(&'static str),
    /// Too few or too many arguments.
    #[error("{0} requires exactly one argument")]
    ExactlyOneArgument(&'static str),
    /// `COPY` or `ADD` with one argument.
    #[error(
        "{0} requires at least two arguments, but only one was provided. Destination could not be determined"
    )]
    NoDestination(&'static str),
    /// `COPY` or `ADD` to a heredoc.
    #[error("{0} cannot accept a heredoc as a destination")]
    HeredocDestination(&'static str),
    /// A pair without a name.
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    /// `FROM` with a wrong number of words.
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    /// The name of a stage is malformed.
    #[error(
        "invalid name for build stage: {0:?}, name can't start with a number or contain symbols"
    )]
    StageName(String),
    /// `ONBUILD ONBUILD`.
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnBuildChain,
    /// `ONBUILD FROM` or `ONBUILD MAINTAINER`.
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    OnBuildTrigger(String),
    /// A trigger of an image is not one instruction.
    #[error("onbuild trigger should be a single expression")]
    TriggerCount,
    /// `HEALTHCHECK NONE` with more words.
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNone,
    /// `HEALTHCHECK CMD` without a command.
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthcheckCommand,
    /// `HEALTHCHECK` with neither `CMD` nor `NONE`.
    #[error("Unknown type {0:?} in HEALTHCHECK (try CMD)")]
    HealthcheckType(String),
    /// A duration is malformed.
    #[error(transparent)]
    Duration(DurationError),
    /// A duration is under a millisecond.
    #[error("Interval {0:?} cannot be less than 1ms")]
    Interval(&'static str),
    /// `--retries=` is no number.
    #[error("strconv.ParseInt: parsing {text:?}: {}", number_fault(.fault))]
    Retries {
        /// What was written.
        text: String,
        /// What is wrong with it; the message says it in Go's words, and it is no cause behind these.
        fault: ParseIntError,
    },
    /// `--retries=` is negative.
    #[error("--retries cannot be negative ({0})")]
    NegativeRetries(i32),
    /// An empty volume.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// `SHELL` that is no JSON array.
    #[error("SHELL requires the arguments to be in JSON form")]
    ShellForm,
    /// `RUN --network=` with another value.
    #[error("invalid network mode {0:?}")]
    Network(String),
    /// `RUN --security=` with another value.
    #[error("security {0:?} is not valid")]
    Security(String),
    /// `RUN --mount=` is wrong.
    #[error(transparent)]
    Mount(MountError),
    /// `RUN --device=` is wrong.
    #[error(transparent)]
    Device(DeviceError),
}

/// ` (did you mean X?)`, or nothing.
pub(crate) struct DidYouMean<'a>(pub(crate) &'a Option<String>);

impl fmt::Display for DidYouMean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(suggestion) => write!(f, " (did you mean {suggestion}?)"),
            None => Ok(()),
        }
    }
}

fn number_fault(error: &ParseIntError) -> &'static str {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    match error.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

impl std::error::Error for ParseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.kind)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.span {
            Some(span) if self.kind.is_about_an_instruction() => {
                write!(
                    f,
                    "dockerfile parse error on line {}: {}",
                    span.start, self.kind
                )
            }
            _ => self.kind.fmt(f),
        }
    }
}

impl ParseErrorKind {
    /// BuildKit names the line only for what it finds after it has cut the text into words.
    fn is_about_an_instruction(&self) -> bool {
        !matches!(
            self,
            Self::Empty
                | Self::NoInstructions
                | Self::NoStages
                | Self::NoCurrentStage
                | Self::LineTooLong
                | Self::NotUtf8
                | Self::RepeatedDirective(_)
                | Self::InvalidEscape(_)
                | Self::UnterminatedHeredoc(_)
                | Self::HeredocName(_)
                | Self::NotStringArray
                | Self::TwoArguments(_)
                | Self::MissingEquals(_)
                | Self::TriggerCount
        )
    }
}

/// An error whose column is not known yet.
#[derive(Debug)]
pub(crate) struct Fault {
    kind: ParseErrorKind,
    span: Option<Span>,
}

impl Fault {
    pub(crate) fn new(kind: ParseErrorKind, span: Span) -> Self {
        Self {
            kind,
            span: Some(span),
        }
    }

    pub(crate) fn at_line(kind: ParseErrorKind, line: u32) -> Self {
        Self::new(
            kind,
            Span {
                start: line,
                end: line,
            },
        )
    }

    pub(crate) fn of_file(kind: ParseErrorKind) -> Self {
        Self { kind, span: None }
    }

    /// Finds the place in `text`.
    pub(crate) fn locate(self, text: &[u8]) -> ParseError {
        let hint = match (&self.kind, Frontend::of_other_language(text)) {
            (ParseErrorKind::UnknownInstruction { .. }, Some(Frontend { image, .. })) => {
                format!(
                    "this text is for the frontend `{image}`, and strata reads Dockerfiles only"
                )
            }
            (kind, _) => kind.hint(),
        };
        let (line, column) = match self.span {
            Some(span) => place(text, span, self.kind.culprit()),
            None => (1, 1),
        };
        ParseError {
            kind: Box::new(self.kind),
            span: self.span,
            line,
            column,
            hint,
        }
    }
}

#[cfg(test)]
mod tests;
