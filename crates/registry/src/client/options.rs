//! What the caller decides about the client.

use std::path::PathBuf;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};

use super::settings::Settings;

/// How the client reaches registries.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// The directory of docker's `config.json`, where credentials are read.
    pub docker_config: Option<PathBuf>,
    /// How each registry is reached.
    pub settings: Settings,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// What happens after a failure that may pass.
    pub retry: Retry,
    /// How long the client waits for a silent server.
    pub timeouts: Timeouts,
}

/// How often and how patiently a request is repeated.
#[derive(Debug, Clone)]
pub struct Retry {
    /// How often one request is sent at most.
    pub attempts: usize,
    /// The pause before the second attempt; it doubles with each.
    pub pause: Duration,
    /// The longest pause. A server that asks for a longer one (`Retry-After`) is not asked again.
    pub longest_pause: Duration,
}

/// How long the client waits for a silent server.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For the next byte in either direction, and for the head of an answer.
    pub stall: Duration,
    /// For the answer after an upload, while the registry verifies and stores what it got.
    pub commit: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            docker_config: None,
            settings: Settings::default(),
            user_agent: concat!("strata/", env!("CARGO_PKG_VERSION")).to_owned(),
            retry: Retry::default(),
            timeouts: Timeouts::default(),
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(30),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            stall: Duration::from_secs(60),
            commit: Duration::from_secs(600),
        }
    }
}

impl Retry {
    /// Returns the pauses between the attempts: one fewer than attempts.
    pub(crate) fn pauses(&self) -> impl Iterator<Item = Duration> + use<> {
        ExponentialBuilder::new()
            .with_min_delay(self.pause)
            .with_max_delay(self.longest_pause)
            .with_max_times(self.attempts.saturating_sub(1))
            .with_jitter()
            .build()
    }
}
