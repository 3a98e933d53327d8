//! The running server.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::runtime::Runtime;
use tokio::sync::{RwLock, oneshot};
use tokio::task::JoinHandle;

use super::site::{ServerOptions, Site, answer};

/// How long requests that are under way may take when the server stops.
const GRACE: Duration = Duration::from_secs(10);

/// A running registry. Dropping it ends it at once; [`Server::stop`] lets requests finish.
pub struct Server {
    addr: SocketAddr,
    runtime: Option<Runtime>,
    serving: JoinHandle<io::Result<()>>,
    stop: oneshot::Sender<()>,
    answering: Arc<RwLock<()>>,
}

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
        source: io::Error,
    },
    /// The async runtime did not start.
    #[error("failed to start worker threads")]
    Runtime(#[source] io::Error),
    /// Accepting connections failed.
    #[error("failed to serve")]
    Serve(#[source] io::Error),
    /// Requests were still under way some time after the server was asked to stop.
    #[error("requests did not end within {} seconds", GRACE.as_secs())]
    StillBusy,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Starts to serve, on threads of its own; returns when the address accepts connections.
    pub fn start(options: ServerOptions) -> Result<Self, ServerError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("registry-server")
            .enable_io()
            .enable_time()
            .build()
            .map_err(ServerError::Runtime)?;
        let wanted = options.addr;
        let failed = |source| ServerError::Listen {
            addr: wanted,
            source,
        };
        let listener = TcpListener::bind(wanted).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let listener = {
            let _context = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(failed)?
        };
        let (stop, stopped) = oneshot::channel();
        let site = Arc::new(Site::new(options));
        let answering = site.answering.clone();
        let router = Router::new().fallback(answer).with_state(site);
        let serving = runtime.spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(async {
                    // A dropped sender stops the server too.
                    drop(stopped.await);
                })
                .await
        });
        Ok(Self {
            addr,
            runtime: Some(runtime),
            serving,
            stop,
            answering,
        })
    }

    /// Returns the address, with the port that was chosen.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Accepts no more requests and waits for those under way, for some seconds.
    pub fn stop(mut self) -> Result<(), ServerError> {
        // The receiver is gone when the server failed; the join below says how.
        let _ = std::mem::replace(&mut self.stop, oneshot::channel().0).send(());
        let runtime = self.runtime.take().expect("invariant: taken only here");
        let serving = &mut self.serving;
        let answering = self.answering.clone();
        let ended = async {
            let outcome = serving.await;
            // Uploads whose client went away are still being written.
            drop(answering.write().await);
            outcome
        };
        let joined = runtime.block_on(async { tokio::time::timeout(GRACE, ended).await });
        runtime.shutdown_timeout(Duration::from_secs(1));
        match joined {
            Ok(Ok(outcome)) => outcome.map_err(ServerError::Serve),
            Ok(Err(join)) => Err(ServerError::Serve(io::Error::other(join))),
            Err(_) => Err(ServerError::StillBusy),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
