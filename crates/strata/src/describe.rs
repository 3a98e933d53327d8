//! An error and its causes in one line.

use std::error::Error;
use std::fmt::Write as _;

/// Returns the message of `error` and of everything that caused it.
pub fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Transparent wrappers repeat the text of what they wrap.
        if !text.ends_with(&cause_text) {
            write!(text, ": {cause_text}").expect("writing to a String cannot fail");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_the_message_without_repetition() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read `x`")]
        struct Outer(#[source] std::io::Error);
        #[derive(Debug, thiserror::Error)]
        #[error(transparent)]
        struct Wrapper(#[from] Outer);
        let error = Wrapper(Outer(std::io::Error::from_raw_os_error(2)));
        assert_eq!(
            describe(&error),
            "cannot read `x`: No such file or directory (os error 2)"
        );
    }
}
