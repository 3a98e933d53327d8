//! The store as a registry.

use std::net::SocketAddr;

/// What clients may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Pull only: every write is refused.
    PullOnly,
    /// Pull and push.
    PullAndPush,
}

/// What to serve, and where. `store` and `unpack` follow with the store's types.
#[derive(Debug)]
pub struct ServerOptions {
    /// The address to listen on; port 0 chooses a free one.
    pub addr: SocketAddr,
    /// What clients may do.
    pub access: Access,
}

/// A running registry. Dropping it stops it.
#[derive(Debug)]
pub struct Server;

/// Why the server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("failed to listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl Server {
    /// Starts to serve; returns when the address accepts connections.
    pub fn start(_options: ServerOptions) -> Result<Self, ServerError> {
        unimplemented!()
    }

    /// Returns the address, with the port that was chosen.
    pub fn addr(&self) -> SocketAddr {
        unimplemented!()
    }

    /// Stops after the requests that are under way.
    pub fn stop(self) -> Result<(), ServerError> {
        unimplemented!()
    }

    /// Blocks until the server ends.
    pub fn wait(self) -> Result<(), ServerError> {
        unimplemented!()
    }
}
