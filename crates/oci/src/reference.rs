//! Image names: `[registry/]path[:tag][@digest]`.

use std::fmt;

use crate::{Digest, PastName};

/// The registry of names without one.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of names without tag and digest.
pub const DEFAULT_TAG: &str = "latest";

const MAX_PATH: usize = 255;
const MAX_TAG: usize = 128;

/// A normalized image name. It always has a registry and a path; `ubuntu` is
/// `docker.io/library/ubuntu`. It has a tag, a digest, both, or (a repository) neither.
/// [distribution/reference](https://github.com/distribution/reference)
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not an image name. `Display` is docker's own text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The text does not match the grammar.
    #[error("invalid reference format")]
    InvalidFormat,
    /// The path has upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    UpperCase(String),
    /// The path is too long.
    #[error("repository name must not be more than {MAX_PATH} characters")]
    PathTooLong,
    /// 64 hex digits can only be an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// A [`PastName`](crate::PastName) stands where only a name may.
    #[error(
        "invalid reference format: {0} is from the history of this store's tags, and can only name an image that is here"
    )]
    Past(String),
}

impl Reference {
    /// Parses a name as people write it, filling in docker's default registry and namespace
    /// but no tag.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        if text.contains(PastName::MARK) {
            return Err(ReferenceError::Past(text.to_owned()));
        }
        let (registry, remainder) = split_registry(text);
        let (rest, digest) = match remainder.split_once('@') {
            None => (remainder.as_str(), None),
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| ReferenceError::InvalidFormat)?;
                (rest, Some(digest))
            }
        };
        let (path, tag) = match rest.split_once(':') {
            None => (rest, None),
            Some((path, tag)) => (path, Some(tag)),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::UpperCase(path.to_owned()));
        }
        if !is_registry(&registry) || !path.split('/').all(is_path_component) {
            return Err(ReferenceError::InvalidFormat);
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ReferenceError::InvalidFormat);
        }
        if path.len() > MAX_PATH {
            return Err(ReferenceError::PathTooLong);
        }
        let (path, tag) = (path.to_owned(), tag.map(str::to_owned));
        Ok(Self {
            registry,
            path,
            tag,
            digest,
        })
    }

    /// Returns the registry, with its port: `docker.io`, `127.0.0.1:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the path in the registry: `library/ubuntu`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns the registry and path, without tag and digest, in full form.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.registry, self.path)
    }

    /// Returns the registry and path as people write them: `ubuntu`. Where that would read as
    /// another name, as `docker.io/evil.example/a` would without its registry, it is the full form.
    pub fn familiar_repository(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.repository();
        }
        let short = match self.path.strip_prefix("library/") {
            Some(name) if !name.contains('/') => name,
            _ => &self.path,
        };
        match Self::parse(short) {
            Ok(read) if read.registry == self.registry && read.path == self.path => {
                short.to_owned()
            }
            _ => self.repository(),
        }
    }

    /// Returns the whole name as people write it: `ubuntu:18.04`.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_repository())
    }

    /// Returns the name with `latest` when it has neither tag nor digest.
    pub fn or_latest(self) -> Self {
        if self.tag.is_some() || self.digest.is_some() {
            return self;
        }
        Self {
            tag: Some(DEFAULT_TAG.to_owned()),
            ..self
        }
    }

    /// Returns the name with `tag` and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::InvalidFormat);
        }
        Ok(Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// Returns the name with `digest` and no tag.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// Returns the name without tag and digest.
    pub fn without_tag(&self) -> Self {
        Self {
            tag: None,
            digest: None,
            ..self.clone()
        }
    }

    fn suffixed(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

/// The full form: `docker.io/library/ubuntu:18.04`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.repository()))
    }
}

fn split_registry(text: &str) -> (String, String) {
    let (registry, remainder) = match text.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, text),
    };
    let registry = if registry == "index.docker.io" {
        DEFAULT_REGISTRY
    } else {
        registry
    };
    if registry == DEFAULT_REGISTRY && !remainder.contains('/') {
        return (registry.to_owned(), format!("library/{remainder}"));
    }
    (registry.to_owned(), remainder.to_owned())
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => return is_ipv6(address),
            Some((address, port)) => match port.strip_prefix(':') {
                Some(port) => return is_ipv6(address) && is_port(port),
                None => return false,
            },
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(is_port)
}

fn is_ipv6(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut rest = text.as_bytes();
    loop {
        let word = rest.iter().take_while(|b| alphanumeric(b)).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        if rest.is_empty() {
            return true;
        }
        let joint = rest.iter().take_while(|b| !alphanumeric(b)).count();
        let valid = match &rest[..joint] {
            b"." | b"_" | b"__" => true,
            dashes => dashes.iter().all(|b| *b == b'-'),
        };
        if !valid {
            return false;
        }
        rest = &rest[joint..];
    }
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=MAX_TAG).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let found = Reference::parse(text).map(|name| name.to_string());
        assert_eq!(
            found.as_deref().map_err(ToString::to_string),
            expected.map_err(str::to_owned),
            "{text}"
        );
    }

    #[test]
    fn a_familiar_name_never_reads_as_another_one() {
        let id = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        for name in [
            "docker.io/evil.example/a:1",
            "docker.io/localhost/a",
            &format!("docker.io/library/{id}"),
        ] {
            let reference = Reference::parse(name).expect("valid");
            assert_eq!(reference.familiar(), name);
            assert_eq!(Reference::parse(&reference.familiar()), Ok(reference));
        }
        let short = Reference::parse("docker.io/team/a").expect("valid");
        assert_eq!(short.familiar(), "team/a");
    }

    #[test]
    fn names_are_normalized_as_docker_does() {
        check("debian", Ok("docker.io/library/debian"));
        check("library/debian", Ok("docker.io/library/debian"));
        check("docker.io/debian", Ok("docker.io/library/debian"));
        check(
            "index.docker.io/library/debian",
            Ok("docker.io/library/debian"),
        );
        check("team/app:1", Ok("docker.io/team/app:1"));
        check("localhost/x", Ok("localhost/x"));
        check("localhost:5000/x", Ok("localhost:5000/x"));
        check("127.0.0.1:5000/x:y", Ok("127.0.0.1:5000/x:y"));
        check("[::1]:5000/x", Ok("[::1]:5000/x"));
        check("host.only:80/x", Ok("host.only:80/x"));
        check("a/b/c/d:e", Ok("docker.io/a/b/c/d:e"));
        check("a_b", Ok("docker.io/library/a_b"));
        check("a__b", Ok("docker.io/library/a__b"));
        check("a.b", Ok("docker.io/library/a.b"));
        check("LOCALHOST/x", Ok("LOCALHOST/x"));
    }

    #[test]
    fn what_is_no_name_is_refused_in_dockers_words() {
        let invalid = Err("invalid reference format");
        for text in [
            "",
            "a___b",
            "a..b",
            "a-",
            "-a",
            "debian:",
            ":18.04",
            "debian:18:04",
            "x@sha256:abc",
            "https://example.com/x",
            "a b",
            "a/",
            "/a",
            "a//b",
            "[::1/x",
            "[]:1/x",
            "a.b:/x",
        ] {
            check(text, invalid);
        }
        check(
            "app:1@{1}",
            Err(
                "invalid reference format: app:1@{1} is from the history of this store's tags, and can only name an image that is here",
            ),
        );
        check(&format!("x:{}", "a".repeat(129)), invalid);
        check(
            "DEBIAN",
            Err("invalid reference format: repository name (library/DEBIAN) must be lowercase"),
        );
        check(
            &format!("a/{}", "a".repeat(254)),
            Err("repository name must not be more than 255 characters"),
        );
    }

    #[test]
    fn the_familiar_form_drops_what_is_default() {
        for (text, expected) in [
            ("docker.io/library/debian:12", "debian:12"),
            ("docker.io/team/app", "team/app"),
            ("quay.io/library/app", "quay.io/library/app"),
            ("docker.io/library/a/b", "library/a/b"),
        ] {
            assert_eq!(
                Reference::parse(text).map(|name| name.familiar()),
                Ok(expected.to_owned())
            );
        }
    }

    #[test]
    fn latest_is_added_only_when_nothing_else_is_named() {
        let name = |text: &str| {
            Reference::parse(text)
                .expect("valid")
                .or_latest()
                .familiar()
        };
        assert_eq!(name("a"), "a:latest");
        assert_eq!(name("a:1"), "a:1");
        let digest = Digest::of(b"");
        assert_eq!(name(&format!("a@{digest}")), format!("a@{digest}"));
    }
}
