//! The errors that a registry or token server names in its answer.

use std::fmt;

use serde::Deserialize;

/// The longest error body that is read.
pub(crate) const MAX_REFUSAL_SIZE: u64 = 64 << 10;

/// The longest message that is shown; servers choose its text.
const MAX_MESSAGE_CHARS: usize = 2000;

/// What a server says about why it refused.
/// [OCI distribution-spec, error codes](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The errors; at least one.
    pub errors: Vec<ApiError>,
}

/// One error of a [`Refusal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The code, as `MANIFEST_UNKNOWN`.
    pub code: String,
    /// The server's words, without control characters.
    pub message: String,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    errors: Option<Vec<Entry>>,
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

impl Refusal {
    /// Returns a refusal with one error.
    pub fn new(code: &str, message: &str) -> Self {
        let errors = vec![ApiError {
            code: printable(code),
            message: printable(message),
        }];
        Self { errors }
    }

    /// Parses the body of an answer with `status`; `None` when it says nothing of use.
    pub(crate) fn parse(status: u16, body: &[u8]) -> Option<Self> {
        let document: Document = serde_json::from_slice(body).ok()?;
        let errors: Vec<ApiError> = document
            .errors
            .unwrap_or_default()
            .into_iter()
            .map(Entry::into_error)
            .collect();
        if !errors.is_empty() {
            return Some(Self { errors });
        }
        let message = document.details.or(document.message)?;
        let code = match status {
            401 => "UNAUTHORIZED",
            403 => "DENIED",
            429 => "TOOMANYREQUESTS",
            _ => "UNKNOWN",
        };
        Some(Self::new(code, &message))
    }

    /// Returns the first error's code.
    pub fn code(&self) -> &str {
        self.errors.first().map_or("", |error| error.code.as_str())
    }
}

impl Entry {
    fn into_error(self) -> ApiError {
        let code = printable(&self.code.unwrap_or_else(|| "UNKNOWN".to_owned()));
        let message = printable(&self.message.unwrap_or_default());
        let message = if message.is_empty() {
            default_message(&code)
        } else {
            message
        };
        ApiError { code, message }
    }
}

/// Docker's own words for codes that come without a message.
fn default_message(code: &str) -> String {
    match code {
        "DENIED" => "requested access to the resource is denied".to_owned(),
        "UNAUTHORIZED" => "authentication required".to_owned(),
        "TOOMANYREQUESTS" => "too many requests".to_owned(),
        "UNKNOWN" => "unknown error".to_owned(),
        code => code.to_ascii_lowercase().replace('_', " "),
    }
}

/// A server must not move the cursor or recolour the terminal of whoever reads its message.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_MESSAGE_CHARS)
        .collect()
}

/// `manifest unknown: manifest unknown`, as docker prints it.
impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.to_ascii_lowercase().replace('_', " ");
        write!(f, "{code}: {}", self.message)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errors.as_slice() {
            [error] => error.fmt(f),
            errors => {
                f.write_str("errors:")?;
                errors.iter().try_for_each(|error| write!(f, "\n{error}"))
            }
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str, expected: Option<&str>) {
        let found = Refusal::parse(status, body.as_bytes()).map(|refusal| refusal.to_string());
        assert_eq!(found.as_deref(), expected, "{body}");
    }

    #[test]
    fn a_refusal_reads_as_docker_prints_it() {
        check(
            404,
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#,
            Some("manifest unknown: manifest unknown"),
        );
        check(
            429,
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your limit"}]}"#,
            Some("toomanyrequests: You have reached your limit"),
        );
        check(
            401,
            r#"{"details":"incorrect username or password"}"#,
            Some("unauthorized: incorrect username or password"),
        );
        check(
            403,
            r#"{"errors":[{"code":"DENIED"}]}"#,
            Some("denied: requested access to the resource is denied"),
        );
        check(
            400,
            r#"{"errors":[{"code":"A_B","message":"x"},{"code":"C","message":"y"}]}"#,
            Some("errors:\na b: x\nc: y"),
        );
    }

    #[test]
    fn what_is_no_error_document_says_nothing() {
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"errors":[]}"#,
            r#"{"errors":null}"#,
        ] {
            check(500, body, None);
        }
    }

    #[test]
    fn control_characters_of_a_server_never_reach_the_terminal() {
        check(
            403,
            "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"a\\u001b[2Jb\\u009bc\"}]}",
            Some("denied: a [2Jb c"),
        );
    }
}
