//! Dockerfile text to stages of typed instructions.
//!
//! This crate does no I/O and knows no image. [`parse`] keeps words unexpanded, because what a
//! variable is worth depends on the build; [`expand`] expands one word when its value is known.
//! Language and messages follow BuildKit, so that a text which builds there builds here and a
//! text which fails there fails here in the same words.
//! [Dockerfile reference](https://docs.docker.com/reference/dockerfile/)
//!
//! ```
//! let text = b"FROM alpine AS base\nENV HOME=/root\nRUN make \\\n  install\n";
//! let dockerfile = dockerfile::parse(text)?;
//! let stage = &dockerfile.stages[0];
//! assert_eq!((stage.base.as_str(), stage.name.as_deref()), ("alpine", Some("base")));
//! assert_eq!(stage.instructions[1].text, "RUN make   install");
//! let error = dockerfile::parse(b"FROM a\nRUNN x\n").unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)"
//! );
//! # Ok::<(), dockerfile::ParseError>(())
//! ```

mod ast;
mod device;
mod directive;
mod duration;
mod error;
mod excerpt;
mod flags;
mod glob;
mod heredoc;
mod hint;
mod instruction;
mod json;
mod lines;
mod mount;
mod parse;
mod place;
mod span;
mod suggest;
mod words;

pub mod check;
pub mod expand;
pub mod ignore;
pub mod matching;
pub mod node;
pub mod port;

pub use ast::{
    Add, Arg, ArgDefinition, Command, Copy, Directives, Dockerfile, FileContent, Form, Healthcheck,
    HealthcheckTest, Heredoc, Instruction, KeyValue, Program, Run, RunNetwork, RunSecurity, Stage,
    Warning,
};
pub use device::{Device, DeviceError};
pub use directive::Frontend;
pub use duration::DurationError;
pub use error::{ParseError, ParseErrorKind};
pub use excerpt::excerpt;
pub use glob::ShellPatternError;
pub use mount::{
    CacheSharing, Mount, MountError, MountFlag, MountKind, Ownership, fields, parse_size,
};
pub use parse::{parse, parse_trigger};
pub use place::place;
pub use span::{Span, Spanned};
pub use suggest::nearest;
