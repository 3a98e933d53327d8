//! Delivers a request: redirects are followed, failures that may pass are tried again.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, LOCATION, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};

use super::error::{ClientError, Problem};
use super::options::Retry;
use super::registry::authority_of;
use super::request::{Request, same_origin};
use super::settings::Settings;
use super::transport::{Response, Transport};

const MAX_REDIRECTS: usize = 10;

/// Sends requests until there is a final answer.
#[derive(Debug)]
pub(crate) struct Courier {
    pub(crate) transport: Transport,
    pub(crate) retry: Retry,
    pub(crate) settings: Arc<Settings>,
}

impl Courier {
    /// Returns the final answer, whatever its status. Statuses that may pass (429, 5xx) are
    /// final only after the last attempt, or when the server wants a longer pause than allowed.
    pub(crate) fn deliver(&self, request: &Request) -> Result<Response, ClientError> {
        let mut pauses = self.retry.pauses();
        loop {
            let outcome = self.follow(request);
            let asked = match &outcome {
                Ok(response) if may_pass(response.status()) => retry_after(response),
                Err(error) if error.may_pass() => None,
                _ => return outcome,
            };
            let Some(pause) = pauses.next() else {
                return outcome;
            };
            if asked.is_some_and(|asked| asked > self.retry.longest_pause) {
                return outcome;
            }
            self.transport.pause(asked.unwrap_or(pause))?;
        }
    }

    /// Returns `location`, as an answer from `base` gives it, when it may be used.
    pub(crate) fn locate(&self, base: &Url, location: &str) -> Result<Url, Problem> {
        let unusable = || Problem::Location(location.to_owned());
        let url = base.join(location).map_err(|_| unusable())?;
        let named = url.host_str().is_some_and(|host| !host.is_empty());
        if !named || !url.username().is_empty() || url.password().is_some() {
            return Err(unusable());
        }
        match url.scheme() {
            "https" => Ok(url),
            "http" if base.scheme() == "http" || self.settings.speaks_plain_http(&url) => Ok(url),
            "http" => Err(Problem::Downgrade(format!("http://{}", authority_of(&url)))),
            _ => Err(unusable()),
        }
    }

    fn follow(&self, request: &Request) -> Result<Response, ClientError> {
        let mut request = request.clone();
        let mut redirects = 0;
        loop {
            let response = self.transport.send(&request)?;
            if !is_followed(&request.method, response.status()) {
                return Ok(response);
            }
            redirects += 1;
            if redirects > MAX_REDIRECTS {
                return Err(response.invalid(Problem::Redirects(MAX_REDIRECTS)));
            }
            let location = response
                .header(&LOCATION)
                .ok_or_else(|| response.invalid(Problem::Header("Location")))?;
            let target = self
                .locate(&request.url, location)
                .map_err(|problem| response.invalid(problem))?;
            if !same_origin(&request.url, &target) {
                request.headers.remove(AUTHORIZATION);
            }
            request.url = target;
        }
    }
}

fn is_followed(method: &Method, status: StatusCode) -> bool {
    match status.as_u16() {
        307 | 308 => true,
        301..=303 => method == Method::GET || method == Method::HEAD,
        _ => false,
    }
}

fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// Returns the pause that an answer asks for.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    parse_retry_after(response.header(&RETRY_AFTER)?, Timestamp::now())
}

/// Reads seconds or a date.
fn parse_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::client::options::Timeouts;

    fn courier(settings: &str) -> Courier {
        let settings = Settings::parse(settings, Path::new("r.toml")).expect("valid");
        let settings = Arc::new(settings);
        Courier {
            transport: Transport::new(String::new(), Timeouts::default(), settings.clone()),
            retry: Retry::default(),
            settings,
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = "2026-11-23T12:00:00Z".parse().expect("valid");
        for (text, expected) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Mon, 23 Nov 2026 12:00:30 GMT", Some(30)),
            ("Mon, 23 Nov 2026 11:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            let expected = expected.map(Duration::from_secs);
            assert_eq!(parse_retry_after(text, now), expected, "{text}");
        }
    }

    #[test]
    fn a_location_is_used_only_when_it_stays_safe() {
        let check = |base: &str, location: &str, expected: Option<&str>| {
            let base = Url::parse(base).expect("valid");
            let found =
                courier("[registry.\"plain.example:80\"]\nhttp = true").locate(&base, location);
            assert_eq!(
                found.as_ref().ok().map(Url::as_str),
                expected,
                "{location}: {found:?}"
            );
        };
        let base = "https://r.example/v2/a/blobs/uploads/";
        check(
            base,
            "/v2/a/blobs/uploads/1?x=y",
            Some("https://r.example/v2/a/blobs/uploads/1?x=y"),
        );
        check(base, "https://cdn.example/z", Some("https://cdn.example/z"));
        check(base, "http://cdn.example/z", None);
        check(base, "http://127.0.0.1:5/z", Some("http://127.0.0.1:5/z"));
        check(
            base,
            "http://plain.example/z",
            Some("http://plain.example/z"),
        );
        check(base, "file:///etc/passwd", None);
        check(base, "unix:/run/x", None);
        check(base, "https://user:secret@cdn.example/", None);
        check(
            "http://10.0.0.1/v2/",
            "http://10.0.0.2/z",
            Some("http://10.0.0.2/z"),
        );
    }
}
