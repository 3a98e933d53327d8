//! The registry client.

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use oci::Reference;

use crate::{ClientError, Remote};

/// How the client reaches registries.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// The directory of docker's `config.json`, where credentials are read.
    pub docker_config: Option<PathBuf>,
    /// Registries, as `host[:port]`, that speak plain HTTP. Loopback hosts always do.
    pub plain_http: Vec<String>,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// What happens after a failure that may pass.
    pub retry: Retry,
}

/// How often and how patiently a request is repeated.
#[derive(Debug, Clone)]
pub struct Retry {
    /// How often one request is sent at most.
    pub attempts: usize,
    /// The pause before the second attempt; it doubles with each.
    pub pause: Duration,
    /// The longest pause, also when the server asks for a longer one.
    pub longest_pause: Duration,
}

/// A client for registries and plain downloads. Cheap to clone; clones share connections,
/// tokens and what was learnt about each registry.
#[derive(Debug, Clone)]
pub struct Client;

/// The body of a download, read as it arrives.
#[derive(Debug)]
pub struct Download;

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(30),
        }
    }
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            docker_config: None,
            plain_http: Vec::new(),
            user_agent: concat!("strata/", env!("CARGO_PKG_VERSION")).to_owned(),
            retry: Retry::default(),
        }
    }
}

impl Client {
    /// Returns a client; nothing is opened or read before the first request.
    pub fn new(_options: ClientOptions) -> Self {
        unimplemented!()
    }

    /// Returns the repository of `reference`, to pull what the reference names or to push to it.
    pub fn repository(&self, _reference: &Reference) -> Remote {
        unimplemented!()
    }

    /// Fetches `url` (`http` or `https`), following redirects, without credentials.
    pub fn download(&self, _url: &str) -> Result<Download, ClientError> {
        unimplemented!()
    }
}

impl Download {
    /// Returns the length that the server announced.
    pub fn size(&self) -> Option<u64> {
        unimplemented!()
    }

    /// Returns the `Last-Modified` header.
    pub fn last_modified(&self) -> Option<&str> {
        unimplemented!()
    }

    /// Returns the file name that the server gave in `Content-Disposition`, without directories.
    pub fn file_name(&self) -> Option<&str> {
        unimplemented!()
    }
}

impl Read for Download {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        unimplemented!()
    }
}
