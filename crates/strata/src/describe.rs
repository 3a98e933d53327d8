//! An error and its causes in one line.

use std::error::Error;
use std::fmt::Write as _;

/// Returns the message of `error` and of everything that caused it, without control characters.
pub fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Transparent wrappers repeat the text of what they wrap; others go on behind it.
        if !text.ends_with(&cause_text) && !text.contains(&format!(": {cause_text}")) {
            write!(text, ": {cause_text}").expect("writing to a String cannot fail");
        }
        source = cause.source();
    }
    // Texts from outside must not steer the terminal.
    text.replace(
        |sign: char| sign.is_control() && !matches!(sign, '\n' | '\t'),
        "\u{fffd}",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced() {
        let error = std::io::Error::other("a\u{1b}[2Jb\nc");
        assert_eq!(describe(&error), "a\u{fffd}[2Jb\nc");
    }

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

    #[test]
    fn a_cause_within_the_message_is_not_told_again() {
        #[derive(Debug, thiserror::Error)]
        #[error("base: {0} (did you mean bases?)")]
        struct Suggestion(#[source] std::io::Error);
        let error = Suggestion(std::io::Error::from_raw_os_error(2));
        assert_eq!(
            describe(&error),
            "base: No such file or directory (os error 2) (did you mean bases?)"
        );
    }
}
