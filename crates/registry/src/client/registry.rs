//! One registry: its address and what was learnt about it.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use axum::http::{StatusCode, Version};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderValue};

use super::authority::{Authority, Renewal, Scope};
use super::challenge::Challenge;
use super::courier::Courier;
use super::credentials::Credentials;
use super::error::ClientError;
use super::refusal::{MAX_REFUSAL_SIZE, Refusal};
use super::request::{Request, same_origin};
use super::transport::Response;

/// One registry, shared by all repositories of it.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) base: Url,
    pub(crate) authority: Authority,
    /// Set when the registry refused a blob in one piece.
    pub(crate) wants_chunks: AtomicBool,
}

impl Registry {
    /// Returns the registry `name`, as references write it.
    pub(crate) fn new(
        name: &str,
        courier: &Courier,
        docker_config: Option<PathBuf>,
    ) -> Result<Self, ClientError> {
        Self::of(name, courier, Authority::new(name, docker_config))
    }

    /// Returns the registry `name`, where we are known by `credentials`.
    pub(crate) fn with_credentials(
        name: &str,
        courier: &Courier,
        credentials: Credentials,
    ) -> Result<Self, ClientError> {
        Self::of(
            name,
            courier,
            Authority::with_credentials(name, credentials),
        )
    }

    fn of(name: &str, courier: &Courier, authority: Authority) -> Result<Self, ClientError> {
        let settings = &courier.settings;
        let place = settings.place(name);
        for name in [name, &place.registry] {
            if settings.of(name).is_some_and(|settings| settings.blocked) {
                return Err(ClientError::Blocked(name.to_owned()));
            }
        }
        let host = place.host();
        let invalid = |_| ClientError::InvalidUrl(name.to_owned());
        let plain = Url::parse(&format!("http://{host}/v2/")).map_err(invalid)?;
        let base = if settings.speaks_plain_http(&plain) {
            plain
        } else {
            Url::parse(&format!("https://{host}/v2/")).map_err(invalid)?
        };
        Ok(Self {
            base,
            authority,
            wants_chunks: AtomicBool::new(false),
        })
    }

    /// Returns the URL of `rest` in the repository at `path`. Both are of the grammar of
    /// references and digests, so nothing in them needs escaping.
    pub(crate) fn url(&self, path: &str, rest: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{path}/{rest}"));
        url
    }

    /// Returns the header to send to `url`, which may have come from an answer: other servers
    /// than the registry get none.
    pub(crate) fn authorization(
        &self,
        courier: &Courier,
        url: &Url,
        scopes: &[Scope],
    ) -> Result<Option<HeaderValue>, ClientError> {
        if !same_origin(url, &self.base) {
            return Ok(None);
        }
        self.authority.authorization(courier, scopes)
    }

    /// Delivers `request` with the right for `scopes`, fetching or renewing a token when the
    /// registry wants one. Returns the answer, whatever its status.
    pub(crate) fn call(
        &self,
        courier: &Courier,
        request: Request,
        scopes: &[Scope],
    ) -> Result<Response, ClientError> {
        let (response, header) = self.attempt(courier, &request, scopes)?;
        let response = match self.renew(courier, &response, scopes, header.as_ref())? {
            Renewal::Final => response,
            Renewal::Renewed => self.attempt(courier, &request, scopes)?.0,
        };
        let refused = matches!(
            response.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        );
        match self.authority.take_problem() {
            Some(problem) if refused => Err(problem),
            _ => Ok(response),
        }
    }

    /// Takes in an answer; `Renewed` when it is a 401 that a new token may turn.
    pub(crate) fn renew(
        &self,
        courier: &Courier,
        response: &Response,
        scopes: &[Scope],
        rejected: Option<&HeaderValue>,
    ) -> Result<Renewal, ClientError> {
        let ours = same_origin(response.url(), &self.base);
        if response.status() != StatusCode::UNAUTHORIZED || !ours {
            return Ok(Renewal::Final);
        }
        self.authority.renew(courier, response, scopes, rejected)
    }

    fn attempt(
        &self,
        courier: &Courier,
        request: &Request,
        scopes: &[Scope],
    ) -> Result<(Response, Option<HeaderValue>), ClientError> {
        let header = self.authorization(courier, &request.url, scopes)?;
        let mut request = request.clone();
        if let Some(header) = &header {
            request.headers.insert(AUTHORIZATION, header.clone());
        }
        Ok((courier.deliver(&request)?, header))
    }
}

/// Turns an answer that is not a success into the error that it means.
pub(crate) fn refusal(mut response: Response) -> ClientError {
    let status = response.status();
    if status == StatusCode::UNAUTHORIZED
        && let Some(Challenge::Bearer { error, .. }) = Challenge::of(response.headers())
        && error.as_deref() == Some("insufficient_scope")
    {
        // The token is good, but not for this: docker calls that denied.
        let answer = Refusal::new("DENIED", "requested access to the resource is denied");
        return ClientError::Refused {
            status: status.as_u16(),
            answer,
        };
    }
    let request = response.request();
    let body = response.read_all(MAX_REFUSAL_SIZE).unwrap_or_default();
    if wants_tls(&response, &body) {
        let host = authority_of(response.url());
        return ClientError::WantsTls { request, host };
    }
    let answer = Refusal::parse(status.as_u16(), &body).or_else(|| match status.as_u16() {
        401 => Some(Refusal::new("UNAUTHORIZED", "authentication required")),
        403 => Some(Refusal::new(
            "DENIED",
            "requested access to the resource is denied",
        )),
        429 => Some(Refusal::new("TOOMANYREQUESTS", "too many requests")),
        _ => None,
    });
    match answer {
        Some(answer) => ClientError::Refused {
            status: status.as_u16(),
            answer,
        },
        None => ClientError::UnexpectedStatus { request, status },
    }
}

/// Tells whether a server says that it speaks TLS only, to a client that does not: Go's servers
/// and nginx do.
fn wants_tls(response: &Response, body: &[u8]) -> bool {
    if response.url().scheme() != "http" || response.status() != StatusCode::BAD_REQUEST {
        return false;
    }
    let text = String::from_utf8_lossy(body);
    let is_told = ["HTTPS server", "HTTPS port"]
        .iter()
        .any(|mark| text.contains(mark));
    // An answer to HEAD has no text; nobody else still answers by the protocol of 1996.
    is_told || (response.is_to_head() && response.version() == Version::HTTP_10)
}

/// Returns `host[:port]`, without a port that the scheme implies.
pub(crate) fn authority_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Tells whether the host of `url` is this machine by its very name.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::client::options::{Retry, Timeouts};
    use crate::client::settings::Settings;
    use crate::client::transport::Transport;

    #[test]
    fn a_registry_is_reached_by_https_unless_it_is_this_machine_or_listed() {
        let text = "[registry.\"plain.example:5000\"]\nhttp = true\n\
            [registry.\"10.1.2.3\"]\nhttp = true\n\
            [registry.\"old.example\"]\nlocation = \"new.example:5000/of/old\"\n\
            [registry.\"127.0.0.1:5001\"]\nhttp = false\n";
        let settings = Settings::parse(text, Path::new("r.toml")).expect("valid");
        let settings = Arc::new(settings);
        let courier = Courier {
            transport: Transport::new(String::new(), Timeouts::default(), settings.clone()),
            retry: Retry::default(),
            settings,
        };
        for (name, expected) in [
            ("docker.io", "https://registry-1.docker.io/v2/"),
            ("quay.io", "https://quay.io/v2/"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000/v2/"),
            ("127.9.9.9", "http://127.9.9.9/v2/"),
            ("[::1]:5000", "http://[::1]:5000/v2/"),
            ("localhost", "http://localhost/v2/"),
            ("localhost.example", "https://localhost.example/v2/"),
            ("plain.example:5000", "http://plain.example:5000/v2/"),
            ("plain.example:5001", "https://plain.example:5001/v2/"),
            ("10.1.2.3:80", "http://10.1.2.3/v2/"),
            ("10.1.2.4", "https://10.1.2.4/v2/"),
            ("old.example", "https://new.example:5000/v2/"),
            ("127.0.0.1:5001", "https://127.0.0.1:5001/v2/"),
        ] {
            let registry = Registry::new(name, &courier, None).expect("valid");
            assert_eq!(registry.base.as_str(), expected);
        }
    }
}
