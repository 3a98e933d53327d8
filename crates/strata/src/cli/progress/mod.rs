//! Progress of long work, drawn from the events that the libraries report.

mod build_plain;
mod build_raw;
mod build_terminal;
mod transfer;

pub(crate) use build_plain::BuildPlain;
pub(crate) use build_raw::BuildRaw;
pub(crate) use build_terminal::{BuildTerminal, Colour, Size};
pub(crate) use transfer::{Direction, Transfer};
