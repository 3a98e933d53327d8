//! Why a registry, or the way to it, did not do what was asked.

use std::io;
use std::time::Duration;

use oci::{Digest, MediaType};
use reqwest::{Method, StatusCode};
use store::StoreError;

use super::credentials::CredentialsError;
use super::refusal::Refusal;
use super::resolver::NoNameServer;
use super::settings_error::SettingsError;
use super::tls::is_ca;

/// Why a registry did not do what was asked. Printed with its sources, joined by `: `, it reads
/// as docker's message.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The registry has no such tag or digest.
    #[error("manifest for {name} not found")]
    ManifestUnknown {
        /// What was asked for, as people write it.
        name: String,
        /// The registry's answer.
        #[source]
        answer: Refusal,
    },
    /// The registry has no such repository.
    #[error("repository {name} not found")]
    RepositoryUnknown {
        /// The repository, as people write it.
        name: String,
        /// The registry's answer.
        #[source]
        answer: Refusal,
    },
    /// The repository does not exist, or is private.
    #[error(
        "pull access denied for {name}, repository does not exist or may require 'docker login'"
    )]
    PullDenied {
        /// The repository, as people write it.
        name: String,
        /// The registry's answer.
        #[source]
        answer: Refusal,
    },
    /// The server said why it refused: `toomanyrequests: …`, `denied: …`.
    #[error("{answer}")]
    Refused {
        /// The status of the answer.
        status: u16,
        /// The server's words.
        answer: Refusal,
    },
    /// The registry did not take the credentials.
    #[error("login attempt to {url} failed with status: {status}")]
    LoginRefused {
        /// What was asked for.
        url: String,
        /// The status of the answer.
        status: StatusCode,
    },
    /// The server answered with a status that says all there is to know.
    #[error("received unexpected HTTP status: {status}")]
    UnexpectedStatus {
        /// What was asked.
        request: String,
        /// The status.
        status: StatusCode,
    },
    /// The registry does not give a blob away.
    #[error("blob {digest}")]
    Blob {
        /// The blob.
        digest: Digest,
        /// The registry's answer.
        #[source]
        answer: Box<ClientError>,
    },
    /// The server wants TLS where it was spoken to without.
    #[error(
        "{request}: the server wants HTTPS: set `http = false` for `{host}` in `registries.toml`"
    )]
    WantsTls {
        /// What was asked.
        request: String,
        /// The server, as the settings write it.
        host: String,
    },
    /// The server was not reached, or the connection broke.
    #[error("{request}")]
    Network {
        /// What was asked, as `Get "https://host/v2/"`.
        request: String,
        /// What went wrong.
        #[source]
        cause: NetworkError,
    },
    /// The answer breaks the protocol.
    #[error("invalid answer to {request}: {problem}")]
    InvalidAnswer {
        /// What was asked.
        request: String,
        /// What is wrong with the answer.
        problem: Problem,
    },
    /// The content is not what its digest says.
    #[error("content of {request} has digest {found}, expected {expected}")]
    DigestMismatch {
        /// What was asked.
        request: String,
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// The content is not as long as its descriptor says.
    #[error("content of {request} has {found} bytes, expected {expected}")]
    SizeMismatch {
        /// What was asked.
        request: String,
        /// The length in the descriptor.
        expected: u64,
        /// The length of what the registry has.
        found: u64,
    },
    /// The credentials for the registry cannot be read.
    #[error("failed to read the credentials for {registry}")]
    Credentials {
        /// The registry.
        registry: String,
        /// The cause.
        #[source]
        source: CredentialsError,
    },
    /// The content to upload cannot be read.
    #[error("failed to read the blob {digest} to push")]
    ReadBlob {
        /// The blob.
        digest: Digest,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store does not remember what was begun.
    #[error("failed to remember the upload")]
    Sessions(#[from] StoreError),
    /// A text is not a URL that can be fetched.
    #[error("invalid URL `{0}`: expected http:// or https://")]
    InvalidUrl(String),
    /// A media type cannot be sent.
    #[error("invalid media type `{0}`")]
    InvalidMediaType(MediaType),
    /// The registry is blocked by the settings.
    #[error("registry {0} is blocked by the settings of registries")]
    Blocked(String),
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The machinery for requests cannot be set up.
    #[error("failed to set up HTTP")]
    Setup(#[source] SetupError),
}

/// Why no request can be made at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The async runtime did not start.
    #[error("failed to start worker threads")]
    Runtime(#[source] io::Error),
    /// TLS did not start; most often no root certificates were found.
    #[error("failed to start TLS")]
    Tls(#[source] reqwest::Error),
    /// TLS did not start for a host with certificates of its own.
    #[error("failed to start TLS")]
    Certificates(#[source] rustls::Error),
}

/// How an answer breaks the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A header that must be there is missing or not text.
    #[error("missing or malformed header `{0}`")]
    Header(&'static str),
    /// A redirect or upload location that is not followed.
    #[error("unusable location `{0}`")]
    Location(String),
    /// A redirect or token server would carry an `https` exchange over plain HTTP.
    #[error("`{0}` would leave https")]
    Downgrade(String),
    /// Too many redirects.
    #[error("more than {0} redirects")]
    Redirects(usize),
    /// The pages of a list lead in a circle, or are too many.
    #[error("a list whose pages have no end")]
    Pages,
    /// The document is not of the expected shape.
    #[error("malformed document")]
    Document,
    /// The body is longer than is read.
    #[error("longer than {0} bytes")]
    TooLarge(u64),
    /// Another part of the content than was asked for.
    #[error("sent bytes from {found}, expected from {expected}")]
    Range {
        /// The offset that was asked for.
        expected: u64,
        /// The offset that came.
        found: u64,
    },
    /// The registry stored the content under another digest.
    #[error("stored as {found}, expected {expected}")]
    StoredAs {
        /// The digest of what was sent.
        expected: Digest,
        /// The digest that the registry names.
        found: String,
    },
}

/// What went wrong on the way to a server. The texts are those of docker.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Nothing listens there.
    #[error("dial tcp {address}: connect: connection refused")]
    Refused {
        /// The host and port.
        address: String,
    },
    /// No connection in time.
    #[error("dial tcp {address}: i/o timeout")]
    ConnectTimeout {
        /// The host and port.
        address: String,
    },
    /// The network has no way there.
    #[error("dial tcp {address}: connect: {reason}")]
    Unreachable {
        /// The host and port.
        address: String,
        /// What the system says.
        reason: io::ErrorKind,
    },
    /// The machine names no name server.
    #[error("dial tcp: lookup {host}: no name server in `/etc/resolv.conf`, and none at 127.0.0.1")]
    NoNameServer {
        /// The host.
        host: String,
    },
    /// The host name has no address.
    #[error("dial tcp: lookup {host}: no such host")]
    UnknownHost {
        /// The host.
        host: String,
    },
    /// The server does not speak TLS.
    #[error("http: server gave HTTP response to HTTPS client")]
    NotTls,
    /// Nobody that this machine trusts vouches for the server.
    #[error("tls: failed to verify certificate: x509: certificate signed by unknown authority")]
    UnknownAuthority,
    /// The certificate is not good for this server or time.
    #[error("tls: failed to verify certificate")]
    Certificate(#[source] rustls::Error),
    /// The TLS handshake failed.
    #[error("tls: handshake failed")]
    Tls(#[source] rustls::Error),
    /// The server fell silent.
    #[error("no data for {} seconds", .0.as_secs())]
    Stalled(Duration),
    /// The connection broke.
    #[error("connection broken")]
    Broken(#[source] reqwest::Error),
    /// The body ended before its announced length.
    #[error("unexpected EOF after {received} of {expected} bytes")]
    Truncated {
        /// Bytes received.
        received: u64,
        /// Bytes announced.
        expected: u64,
    },
}

impl NetworkError {
    /// Sorts what the HTTP library reports about a request to `url`.
    pub(crate) fn classify(error: reqwest::Error, url: &reqwest::Url) -> Self {
        let error = error.without_url();
        let host = url.host_str().unwrap_or_default().to_owned();
        let address = format!("{host}:{}", url.port_or_known_default().unwrap_or(0));
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(cause) = source {
            if let Some(cause) = cause.downcast_ref::<io::Error>() {
                if let Some(tls) = tls_error(cause) {
                    return Self::tls(tls.clone());
                }
                match cause.kind() {
                    io::ErrorKind::ConnectionRefused => return Self::Refused { address },
                    reason @ (io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable) => {
                        return Self::Unreachable { address, reason };
                    }
                    _ => {}
                }
            }
            // The connector's error type is private; its text is the only mark of a failed lookup.
            if error.is_connect() && cause.to_string() == "dns error" {
                let mut causes = std::iter::successors(cause.source(), |cause| cause.source());
                return match causes.any(|cause| cause.is::<NoNameServer>()) {
                    true => Self::NoNameServer { host },
                    false => Self::UnknownHost { host },
                };
            }
            source = cause.source();
        }
        if error.is_connect() && error.is_timeout() {
            return Self::ConnectTimeout { address };
        }
        Self::Broken(error)
    }

    fn tls(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
                Self::NotTls
            }
            rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer) => {
                Self::UnknownAuthority
            }
            // Of a self-signed certificate; that it is not listed is what matters.
            error if is_ca(&error) => Self::UnknownAuthority,
            rustls::Error::InvalidCertificate(_) => Self::Certificate(error),
            error => Self::Tls(error),
        }
    }

    /// Tells whether the same request may succeed when sent again.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Stalled(_) | Self::Broken(_) | Self::Truncated { .. } => true,
            Self::Refused { .. }
            | Self::ConnectTimeout { .. }
            | Self::Unreachable { .. }
            | Self::UnknownHost { .. }
            | Self::NoNameServer { .. }
            | Self::NotTls
            | Self::UnknownAuthority
            | Self::Certificate(_)
            | Self::Tls(_) => false,
        }
    }

    /// Tells whether the server was never spoken to.
    fn before_request(&self) -> bool {
        !self.may_pass()
    }

    /// Adds what was asked.
    pub(crate) fn during(self, method: &Method, url: &reqwest::Url) -> ClientError {
        let request = if self.before_request() && url.path().starts_with("/v2/") {
            // Docker greets a registry with a request for `/v2/` and reports that one.
            let mut base = url.clone();
            base.set_path("/v2/");
            describe(&Method::GET, &base)
        } else {
            describe(method, url)
        };
        ClientError::Network {
            request,
            cause: self,
        }
    }
}

impl ClientError {
    /// Tells whether the whole exchange may succeed when begun again.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Network { cause, .. } => cause.may_pass(),
            Self::Blob { answer, .. } => answer.may_pass(),
            Self::Refused { status, .. } => matches!(*status, 408 | 429 | 500..),
            Self::UnexpectedStatus { status, .. } => matches!(status.as_u16(), 408 | 429 | 500..),
            _ => false,
        }
    }
}

/// Every layer of the connector wraps the error of TLS in one more of I/O.
fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    inner
        .downcast_ref::<rustls::Error>()
        .or_else(|| tls_error(inner.downcast_ref::<io::Error>()?))
}

/// Writes a request as Go does, without the query: it may hold a signature.
pub(crate) fn describe(method: &Method, url: &reqwest::Url) -> String {
    let name = method.as_str();
    let (first, rest) = name.split_at(1);
    let mut shown = url.clone();
    shown.set_query(None);
    format!("{first}{} \"{shown}\"", rest.to_ascii_lowercase())
}
