//! The box that shows the lines of an error.

use crate::Span;

/// Returns docker's box around the lines of `span`, each marked with `>>>`, headed by
/// `name:line` and ended by a newline.
pub fn excerpt(name: &str, text: &[u8], span: Span) -> String {
    unimplemented!("{name} {text:?} {span:?}")
}
