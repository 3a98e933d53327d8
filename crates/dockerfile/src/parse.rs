//! The parser.

use crate::{Dockerfile, Instruction, ParseError, Spanned};

/// Parses a Dockerfile.
pub fn parse(text: &[u8]) -> Result<Dockerfile, ParseError> {
    unimplemented!("{text:?}")
}

/// Parses one instruction that an image keeps for builds on top of it (`ONBUILD`).
pub fn parse_trigger(text: &str) -> Result<Spanned<Instruction>, ParseError> {
    unimplemented!("{text:?}")
}
