//! The `WWW-Authenticate` header.

use axum::http::HeaderMap;
use reqwest::Url;
use reqwest::header::WWW_AUTHENTICATE;

/// The longest header that is parsed.
const MAX_HEADER_SIZE: usize = 16 << 10;

/// How a registry wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token from `realm`.
    /// [Token authentication](https://distribution.github.io/distribution/spec/auth/token/)
    Bearer {
        realm: Url,
        service: Option<String>,
        /// Why the token that was sent is not good enough, as `insufficient_scope`.
        error: Option<String>,
    },
}

#[derive(Debug, PartialEq, Eq)]
struct Scheme {
    name: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Returns the challenge to answer: a bearer one before a basic one.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let schemes: Vec<Scheme> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .filter(|text| text.len() <= MAX_HEADER_SIZE)
            .flat_map(parse)
            .collect();
        let bearer = schemes.iter().find_map(Scheme::bearer);
        bearer.or_else(|| {
            schemes
                .iter()
                .any(|scheme| scheme.name.eq_ignore_ascii_case("basic"))
                .then_some(Self::Basic)
        })
    }
}

impl Scheme {
    fn bearer(&self) -> Option<Challenge> {
        if !self.name.eq_ignore_ascii_case("bearer") {
            return None;
        }
        Some(Challenge::Bearer {
            realm: Url::parse(self.parameter("realm")?).ok()?,
            service: self.parameter("service").map(str::to_owned),
            error: self.parameter("error").map(str::to_owned),
        })
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(have, _)| have.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// Parses a list of challenges. A word that is followed by `=` belongs to the challenge before
/// it; any other word begins one ([RFC 9110, 11.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1)).
fn parse(text: &str) -> Vec<Scheme> {
    let mut schemes: Vec<Scheme> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let word = take_token(&mut rest);
        if word.is_empty() {
            return schemes;
        }
        let after = rest.trim_start_matches([' ', '\t']);
        let Some(value) = after.strip_prefix('=') else {
            schemes.push(Scheme {
                name: word.to_owned(),
                parameters: Vec::new(),
            });
            continue;
        };
        rest = value.trim_start_matches([' ', '\t']);
        let value = match rest.strip_prefix('"') {
            Some(quoted) => {
                let Some((value, after)) = unquote(quoted) else {
                    return schemes;
                };
                rest = after;
                value
            }
            None => take_token(&mut rest).to_owned(),
        };
        rest = rest.trim_start_matches('=');
        if let Some(scheme) = schemes.last_mut() {
            scheme.parameters.push((word.to_owned(), value));
        }
    }
}

fn take_token<'a>(rest: &mut &'a str) -> &'a str {
    let is_token = |c: char| c.is_ascii_graphic() && !"()<>@,;\"=?{}".contains(c);
    let end = rest.find(|c| !is_token(c)).unwrap_or(rest.len());
    let (token, after) = rest.split_at(end);
    *rest = after;
    token
}

/// Reads up to the closing quote; returns the value and what follows.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().expect("valid"));
        }
        Challenge::of(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, error: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: Url::parse(realm).expect("valid"),
            service: service.map(str::to_owned),
            error: error.map(str::to_owned),
        })
    }

    #[test]
    fn challenges_of_registries_are_understood() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull,push""#;
        assert_eq!(
            challenge(&[hub]),
            bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                None
            )
        );
        assert_eq!(
            challenge(&[r#"bearer  realm = "https://a/t" , error="insufficient_scope""#]),
            bearer("https://a/t", None, Some("insufficient_scope"))
        );
        assert_eq!(
            challenge(&[r#"Basic realm="a \"b\", c", Bearer realm="https://a/t""#]),
            bearer("https://a/t", None, None)
        );
        assert_eq!(
            challenge(&[r#"Basic realm="x""#, "Negotiate abc=="]),
            Some(Challenge::Basic)
        );
        assert_eq!(challenge(&["Basic"]), Some(Challenge::Basic));
    }

    #[test]
    fn what_cannot_be_answered_is_no_challenge() {
        for text in [
            "",
            ",,,",
            "Bearer",
            "Bearer realm=\"",
            "Bearer realm=\"not a url\"",
            "Digest realm=\"x\"",
            "=,=\"",
        ] {
            assert_eq!(challenge(&[text]), None, "{text}");
        }
        assert_eq!(challenge(&[]), None);
    }
}
