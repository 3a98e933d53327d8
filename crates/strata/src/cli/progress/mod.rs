//! Progress of long work, drawn from the events that the libraries report.

mod build_plain;
mod build_terminal;

pub(crate) use build_plain::BuildPlain;
pub(crate) use build_terminal::BuildTerminal;
