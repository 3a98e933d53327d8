//! What a name was: `name[:tag]@{changes}`.

use std::fmt;

use crate::{Reference, ReferenceError};

/// A tag as it was some changes ago: `app:1@{2}` is what `app:1` was before its last two
/// changes, `app:1@{0}` what it is. Only a store that saw the changes can tell; no registry can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastName {
    /// The name, with a tag and without a digest.
    pub name: Reference,
    /// How many changes ago.
    pub back: usize,
}

/// Why a text with `@{` is not a name as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PastNameError {
    /// The text does not end with a number in braces.
    #[error(
        "invalid entry of a name's history `{0}`: expected NAME[:TAG]@{{N}}, as in `app:1@{{1}}`"
    )]
    Malformed(String),
    /// What stands before `@{` is no name.
    #[error(transparent)]
    Name(#[from] ReferenceError),
}

impl PastName {
    /// What follows a name in the form with a number. It occurs in no image name.
    pub const MARK: &'static str = "@{";

    /// Parses a text. `None` when it has no `@{`: then it is something else.
    pub fn parse(text: &str) -> Result<Option<Self>, PastNameError> {
        let Some((name, rest)) = text.split_once(Self::MARK) else {
            return Ok(None);
        };
        let malformed = || PastNameError::Malformed(text.to_owned());
        let number = rest.strip_suffix('}').ok_or_else(malformed)?;
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed());
        }
        let back = number.parse().map_err(|_| malformed())?;
        let name = Reference::parse(name)?;
        if name.digest().is_some() {
            return Err(malformed());
        }
        let name = name.or_latest();
        Ok(Some(Self { name, back }))
    }
}

/// As people write it: `app:1@{2}`.
impl fmt::Display for PastName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{{{}}}", self.name.familiar(), self.back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    #[test]
    fn the_number_stands_after_the_whole_name() {
        for (text, name, back) in [
            ("app@{0}", "docker.io/library/app:latest", 0),
            ("app:1@{12}", "docker.io/library/app:1", 12),
            ("localhost:5000/a/b@{1}", "localhost:5000/a/b:latest", 1),
            ("[::1]:5000/x:y@{1}", "[::1]:5000/x:y", 1),
        ] {
            let past = PastName::parse(text).expect("valid").expect("has a number");
            assert_eq!((past.name.to_string().as_str(), past.back), (name, back));
        }
        let short = PastName::parse("docker.io/library/app@{3}").expect("valid");
        assert_eq!(short.expect("there").to_string(), "app:latest@{3}");
    }

    #[test]
    fn what_is_malformed_is_refused_and_what_has_no_brace_is_something_else() {
        let digest = format!("a@{}@{{1}}", Digest::of(b""));
        for text in [
            "a@{}",
            "a@{-1}",
            "a@{+1}",
            "a@{1",
            "a@{1}:tag",
            "a@{1}@{2}",
            "a@{yesterday}",
            "a@{99999999999999999999}",
            &digest,
        ] {
            let malformed = PastNameError::Malformed(text.to_owned());
            assert_eq!(PastName::parse(text), Err(malformed));
        }
        for text in ["@{1}", "A@{1}", "a b@{1}"] {
            let error = PastName::parse(text).expect_err("no name");
            assert!(matches!(error, PastNameError::Name(_)), "{text}: {error}");
        }
        for text in ["app", "app:1", "a@sha256:12", "{1}", ""] {
            assert_eq!(PastName::parse(text), Ok(None));
        }
    }
}
