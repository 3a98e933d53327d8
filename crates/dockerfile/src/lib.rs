//! Dockerfile text to stages of typed instructions.
//!
//! This crate does no I/O and knows no image. [`parse`] keeps words unexpanded, because what a
//! variable is worth depends on the build; [`expand`] expands one word when its value is known.
//! Languages and messages follow BuildKit, so that a text which builds there builds here and a
//! text which fails there fails here in the same words.
//! [Dockerfile reference](https://docs.docker.com/reference/dockerfile/)

mod ast;
mod error;
mod excerpt;
mod mount;
mod parse;
mod span;

pub mod expand;
pub mod ignore;
pub mod matching;
pub mod port;

pub use ast::{
    Add, Arg, ArgDefinition, Command, Copy, Directives, Dockerfile, FileContent, Form, Healthcheck,
    HealthcheckTest, Heredoc, Instruction, KeyValue, OnBuild, Run, RunNetwork, RunSecurity, Stage,
    Warning,
};
pub use error::{ParseError, ParseErrorKind};
pub use excerpt::excerpt;
pub use mount::{CacheSharing, Mount, MountError, MountFlag, MountKind};
pub use parse::{parse, parse_trigger};
pub use span::{Span, Spanned};
