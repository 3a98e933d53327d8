//! The command line: docker's words in, docker's text and exit codes out.

mod command;
mod environment;
mod error;
mod flags;
mod listing;
mod output;
mod progress;
mod reference_hint;
mod session;
mod start;
mod table;
mod template;
mod tree;
mod units;
mod version;

pub(crate) use start::start;
