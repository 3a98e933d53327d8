//! The command line: docker's words in, docker's text and exit codes out.

mod attach;
mod background;
mod command;
mod confirm;
mod container_flags;
mod environment;
mod error;
mod flags;
mod history;
mod image_prune;
mod images;
mod import;
mod inspect;
mod listing;
mod load;
mod monitor;
mod name;
mod output;
mod progress;
mod pull;
mod push;
mod reference_hint;
mod rmi;
mod run;
mod save;
mod session;
mod start;
mod table;
mod tag;
mod template;
mod tree;
mod units;
mod version;

pub(crate) use start::start;
