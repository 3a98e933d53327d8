//! Tar: ustar, GNU, PAX and v7 headers, read and written.

mod encode;
mod header;
mod pax;
mod reader;
mod sparse;
mod stream;

pub(crate) use encode::{BLOCK_PADDING, END_MARKER, EncodeError, encode};
pub use header::TarError;
pub(crate) use header::{BLOCK_SIZE, text};
pub(crate) use reader::{Content, Member, MemberKind, TarReader};
pub(crate) use stream::{StreamError, Tee, padding};
