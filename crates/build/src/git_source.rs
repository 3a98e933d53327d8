//! Git repositories as `ADD` and `docker build` name them.

use std::fmt;

/// A repository, and what of it is meant: `https://host/repo.git#ref:directory`, or
/// `https://host/repo.git?ref=ref&subdir=directory`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GitSource {
    /// What git fetches.
    pub remote: String,
    /// The branch, tag or commit; `None` is the default branch.
    pub reference: Option<String>,
    /// The directory in it, without slashes around it; empty for all.
    pub subdirectory: String,
    /// The hex digits that the name of the commit, or of its tag, begins with.
    pub checksum: Option<String>,
    /// Whether `.git` is kept, when that was said.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched.
    pub submodules: bool,
}

/// Why the name of a repository is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitSourceError {
    /// A part of the query that means nothing.
    #[error("unexpected query {0:?}")]
    UnknownKey(String),
    /// A part of the query without its value.
    #[error("query {0:?} has no value")]
    NoValue(String),
    /// A part of the query that comes twice.
    #[error("query {0:?} has multiple values")]
    Twice(String),
    /// A part of the query that must be true or false.
    #[error("invalid {key} value: {value:?}")]
    NoBoolean {
        /// The name.
        key: String,
        /// What it says.
        value: String,
    },
    /// Two parts that contradict each other.
    #[error("{key} conflicts: {one:?} vs {other:?}")]
    Conflict {
        /// What they are about.
        key: &'static str,
        /// What one says.
        one: String,
        /// What the other says.
        other: String,
    },
    /// A branch, tag or commit that cannot be one.
    #[error("invalid git reference {0:?}")]
    Reference(String),
    /// What the commit shall begin with is no hexadecimal number.
    #[error("invalid checksum {0} for Git URL, expected hex commit hash")]
    Checksum(String),
}

impl GitSourceError {
    /// Returns what to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::UnknownKey(_) => {
                "it may have ref, tag, branch, subdir, commit, checksum, keep-git-dir, submodules"
            }
            Self::NoValue(_) => "write its value, or leave it out",
            Self::Twice(_) | Self::Conflict { .. } => "say it once",
            Self::NoBoolean { .. } => "write true or false",
            Self::Reference(_) => "write the name of a branch, a tag or a commit",
            Self::Checksum(_) => "write the first hex digits of the commit, or all of them",
        }
    }

    /// Returns the word to point at.
    pub(crate) fn culprit(&self) -> Option<&str> {
        match self {
            Self::UnknownKey(word)
            | Self::NoValue(word)
            | Self::Twice(word)
            | Self::NoBoolean { value: word, .. }
            | Self::Conflict { other: word, .. }
            | Self::Reference(word)
            | Self::Checksum(word) => Some(word),
        }
    }
}

impl GitSource {
    /// Reads the name of a repository; `None` when it names something else.
    pub fn parse(text: &str) -> Option<Result<Self, GitSourceError>> {
        let (rest, fragment) = match text.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (text, None),
        };
        let (remote, query) = rest.split_once('?').unwrap_or((rest, ""));
        let scheme = remote.split_once("://").map(|(scheme, _)| scheme);
        let is_git = match scheme {
            Some("http" | "https") => remote.ends_with(".git"),
            Some("git" | "ssh") => true,
            Some(_) => false,
            None => is_scp(remote),
        };
        is_git.then(|| Self::read(remote.to_owned(), query, fragment))
    }

    /// As [`GitSource::parse`], for the context of a build: `github.com/owner/repo` is a
    /// repository there.
    pub fn parse_context(text: &str) -> Option<Result<Self, GitSourceError>> {
        let Some(path) = text.strip_prefix("github.com/") else {
            return Self::parse(text);
        };
        let (path, fragment) = match path.split_once('#') {
            Some((path, fragment)) => (path, Some(fragment)),
            None => (path, None),
        };
        Some(Self::read(
            format!("https://github.com/{path}"),
            "",
            fragment,
        ))
    }

    fn read(remote: String, query: &str, fragment: Option<&str>) -> Result<Self, GitSourceError> {
        let (reference, directory) = fragment
            .unwrap_or_default()
            .split_once(':')
            .unwrap_or((fragment.unwrap_or_default(), ""));
        let mut source = Self {
            remote,
            reference: Some(reference.to_owned()).filter(|text| !text.is_empty()),
            subdirectory: directory.trim_matches('/').to_owned(),
            checksum: None,
            keep_git_dir: None,
            submodules: true,
        };
        source.read_query(query)?;
        let is_wrong = |text: &String| text.starts_with('-') || text.contains(char::is_control);
        if let Some(reference) = source.reference.as_ref().filter(|it| is_wrong(it)) {
            return Err(GitSourceError::Reference(reference.clone()));
        }
        if let Some(checksum) = &source.checksum {
            check_hex(checksum)?;
        }
        Ok(source)
    }

    fn read_query(&mut self, query: &str) -> Result<(), GitSourceError> {
        let mut seen: Vec<&str> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = match pair.split_once('=') {
                Some((key, value)) => (key, Some(decode(value)).filter(|text| !text.is_empty())),
                None => (pair, None),
            };
            if seen.contains(&key) {
                return Err(GitSourceError::Twice(key.to_owned()));
            }
            seen.push(key);
            let text = || {
                value
                    .clone()
                    .ok_or_else(|| GitSourceError::NoValue(key.to_owned()))
            };
            match key {
                "ref" => self.set_reference(text()?)?,
                "tag" => self.set_reference(full("refs/tags/", text()?))?,
                "branch" => self.set_reference(full("refs/heads/", text()?))?,
                "subdir" => {
                    let directory = text()?.trim_matches('/').to_owned();
                    if !self.subdirectory.is_empty() && self.subdirectory != directory {
                        return Err(conflict("subdir", &self.subdirectory, &directory));
                    }
                    self.subdirectory = directory;
                }
                "checksum" | "commit" => self.checksum = Some(text()?),
                "keep-git-dir" => self.keep_git_dir = Some(boolean(key, value.as_deref())?),
                "submodules" => self.submodules = boolean(key, value.as_deref())?,
                _ => return Err(GitSourceError::UnknownKey(key.to_owned())),
            }
        }
        Ok(())
    }

    fn set_reference(&mut self, reference: String) -> Result<(), GitSourceError> {
        match &self.reference {
            Some(other) if *other != reference => Err(conflict("ref", other, &reference)),
            _ => {
                self.reference = Some(reference);
                Ok(())
            }
        }
    }

    /// Demands that the commit begins with `checksum`, as `ADD --checksum` does.
    pub fn with_checksum(mut self, checksum: String) -> Result<Self, GitSourceError> {
        check_hex(&checksum)?;
        match &self.checksum {
            Some(other) if *other != checksum => Err(conflict("checksum", &checksum, other)),
            _ => {
                self.checksum = Some(checksum);
                Ok(self)
            }
        }
    }

    /// Says whether `.git` is kept, as `ADD --keep-git-dir` does.
    pub fn keeping_git_dir(mut self, keep: bool) -> Result<Self, GitSourceError> {
        match self.keep_git_dir {
            Some(other) if other != keep => Err(conflict(
                "keep-git-dir",
                &keep.to_string(),
                &other.to_string(),
            )),
            _ => {
                self.keep_git_dir = Some(keep);
                Ok(self)
            }
        }
    }

    /// Returns the commit when the reference is the full name of one.
    pub fn commit(&self) -> Option<&str> {
        let is_hex = |text: &&str| text.len() == 40 && check_hex(text).is_ok();
        self.reference.as_deref().filter(is_hex)
    }
}

impl fmt::Display for GitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.remote)?;
        let reference = self.reference.as_deref().unwrap_or_default();
        match (reference, self.subdirectory.as_str()) {
            ("", "") => Ok(()),
            (reference, "") => write!(f, "#{reference}"),
            (reference, directory) => write!(f, "#{reference}:{directory}"),
        }
    }
}

/// `user@host:path`.
fn is_scp(remote: &str) -> bool {
    let Some((user, rest)) = remote.split_once('@') else {
        return false;
    };
    let Some((host, _)) = rest.split_once(':') else {
        return false;
    };
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let all =
        |text: &str, other| !text.is_empty() && text.chars().all(|c| is_word(c) || c == other);
    all(user, '_') && all(host, '.')
}

fn full(prefix: &str, name: String) -> String {
    match name.starts_with(prefix) {
        true => name,
        false => format!("{prefix}{name}"),
    }
}

fn boolean(key: &str, value: Option<&str>) -> Result<bool, GitSourceError> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(GitSourceError::NoBoolean {
            key: key.to_owned(),
            value: other.to_owned(),
        }),
    }
}

fn conflict(key: &'static str, one: &str, other: &str) -> GitSourceError {
    GitSourceError::Conflict {
        key,
        one: one.to_owned(),
        other: other.to_owned(),
    }
}

fn check_hex(text: &str) -> Result<(), GitSourceError> {
    match !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit()) {
        true => Ok(()),
        false => Err(GitSourceError::Checksum(text.to_owned())),
    }
}

/// Decodes `%xx` and `+`; what is no text then stays as it was.
fn decode(text: &str) -> String {
    let plain = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&plain).decode_utf8();
    decoded.map_or_else(|_| text.to_owned(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        match GitSource::parse(text) {
            None => Ok("no repository".to_owned()),
            Some(Err(error)) => Err(error.to_string()),
            Some(Ok(source)) => Ok(format!(
                "{} {} {} {} {:?} {}",
                source.remote,
                source.reference.as_deref().unwrap_or("-"),
                source.subdirectory,
                source.checksum.as_deref().unwrap_or("-"),
                source.keep_git_dir,
                source.submodules
            )),
        }
    }

    #[test]
    fn repositories_are_told_from_other_sources() {
        for (text, expected) in [
            ("https://h/r.git", "https://h/r.git -  - None true"),
            ("http://h/r.git#v1", "http://h/r.git v1  - None true"),
            (
                "https://h/r.git#v1:/a/b/",
                "https://h/r.git v1 a/b - None true",
            ),
            ("https://h/r.git#:a", "https://h/r.git - a - None true"),
            ("git@h:o/r", "git@h:o/r -  - None true"),
            ("me_1@h.x:o/r#x", "me_1@h.x:o/r x  - None true"),
            ("ssh://git@h/r", "ssh://git@h/r -  - None true"),
            ("git://h/r#x", "git://h/r x  - None true"),
            (
                "https://h/r.git?tag=v1&subdir=a%2Fb&checksum=0af&keep-git-dir=1&submodules=false",
                "https://h/r.git refs/tags/v1 a/b 0af Some(true) false",
            ),
            (
                "https://h/r.git?keep-git-dir#x",
                "https://h/r.git x  - Some(true) true",
            ),
            (
                "https://h/r.git?branch=x",
                "https://h/r.git refs/heads/x  - None true",
            ),
            ("https://h/context.tar.gz", "no repository"),
            ("https://h/a.git/b", "no repository"),
            ("github.com/o/r", "no repository"),
            ("dir", "no repository"),
            ("/srv/r.git", "no repository"),
            ("a@b", "no repository"),
            ("@h:x", "no repository"),
            ("ftp://h/r.git", "no repository"),
        ] {
            assert_eq!(parse(text), Ok(expected.to_owned()), "{text}");
        }
        let short = GitSource::parse_context("github.com/o/r#x:d")
            .expect("one")
            .expect("right");
        assert_eq!(short.to_string(), "https://github.com/o/r#x:d");
    }

    #[test]
    fn wrong_repositories_are_refused() {
        for (text, expected) in [
            ("git://h/r?x=1", "unexpected query \"x\""),
            ("git://h/r?ref=", "query \"ref\" has no value"),
            ("git://h/r?ref=a&ref=b", "query \"ref\" has multiple values"),
            ("git://h/r?ref=a#b", "ref conflicts: \"b\" vs \"a\""),
            ("git://h/r?subdir=a#:b", "subdir conflicts: \"b\" vs \"a\""),
            ("git://h/r?submodules=2", "invalid submodules value: \"2\""),
            (
                "git://h/r#--upload-pack=x",
                "invalid git reference \"--upload-pack=x\"",
            ),
            ("git://h/r#a\u{1b}", "invalid git reference \"a\\u{1b}\""),
            (
                "git://h/r?commit=xyz",
                "invalid checksum xyz for Git URL, expected hex commit hash",
            ),
        ] {
            assert_eq!(parse(text), Err(expected.to_owned()), "{text}");
        }
    }
}
