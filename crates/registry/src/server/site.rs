//! What the server serves, and to whom.

use std::error::Error;
use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{HeaderName, HeaderValue};
use axum::http::{Method, Response};
use oci::Reference;
use store::{NewLayer, Purpose, Store};
use tokio::sync::RwLock;

use super::failure::Failure;
use super::route::Route;
use super::sessions::Sessions;
use super::{blobs, listing, manifests, uploads};

/// Reads a layer's blob, perhaps compressed, and writes the layer's directory: what
/// [`store::Unpack`] is, from any thread.
pub type UnpackLayer = dyn Fn(&mut (dyn Read + Send), &Path) -> Result<NewLayer, Box<dyn Error + Send + Sync>>
    + Send
    + Sync;

/// Is told of failures.
pub type Report = dyn Fn(&(dyn Error + 'static)) + Send + Sync;

/// What clients may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Pull only: every write is refused.
    PullOnly,
    /// Pull and push.
    PullAndPush,
}

/// What to serve, and where.
#[derive(Clone)]
pub struct ServerOptions {
    /// The address to listen on; port 0 chooses a free one.
    pub addr: SocketAddr,
    /// The store.
    pub store: Store,
    /// Unpacks the layers of images that are pushed.
    pub unpack: Arc<UnpackLayer>,
    /// What clients may do.
    pub access: Access,
    /// Is told of failures on this side; clients see only `internal error`.
    pub report: Arc<Report>,
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("addr", &self.addr)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

/// The state that all requests share.
pub(crate) struct Site {
    pub(crate) options: ServerOptions,
    pub(crate) sessions: Sessions,
    /// Read by every answer that is being made, so that a server that stops can wait for them.
    pub(crate) answering: Arc<RwLock<()>>,
}

impl Site {
    pub(crate) fn new(options: ServerOptions) -> Self {
        Self {
            options,
            sessions: Sessions::default(),
            answering: Arc::default(),
        }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.options.store
    }

    /// Returns the same place for one push of a client, of which all changes can be undone
    /// together.
    pub(crate) fn of_push(&self, name: &Reference) -> Self {
        let store = self.store().operation(Purpose {
            kind: "push".to_owned(),
            command: format!("push {} (from a client)", name.familiar()),
            window: self.store().undo_window(),
        });
        Self {
            options: ServerOptions {
                store,
                ..self.options.clone()
            },
            sessions: Sessions::default(),
            answering: self.answering.clone(),
        }
    }
}

/// Runs `work`, which blocks, off the async threads. It runs to its end even when the client
/// goes away meanwhile.
pub(crate) async fn blocking<T, F>(site: &Arc<Site>, work: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: FnOnce(&Site) -> Result<T, Failure> + Send + 'static,
{
    let site = site.clone();
    match tokio::task::spawn_blocking(move || work(&site)).await {
        Ok(outcome) => outcome,
        Err(join) => Err(Failure::internal(join)),
    }
}

/// Answers one request.
pub(crate) async fn answer(State(site): State<Arc<Site>>, request: Request) -> Response<Body> {
    // A task of its own goes on when the client goes away, so that an upload keeps what came.
    let work = {
        let (site, answering) = (site.clone(), site.answering.clone().read_owned().await);
        tokio::spawn(async move {
            let outcome = dispatch(&site, request).await;
            drop(answering);
            outcome
        })
    };
    let outcome = work.await.map_err(Failure::internal).flatten();
    let mut response = match outcome {
        Ok(response) => response,
        Err(failure) => {
            if let Some(cause) = &failure.cause {
                (site.options.report)(cause.as_ref());
            }
            failure.into_response()
        }
    };
    response.headers_mut().insert(
        HeaderName::from_static("docker-distribution-api-version"),
        HeaderValue::from_static("registry/2.0"),
    );
    response
}

async fn dispatch(site: &Arc<Site>, request: Request) -> Result<Response<Body>, Failure> {
    let route = Route::parse(request.uri().path())?;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads && site.options.access == Access::PullOnly {
        return Err(Failure::read_only());
    }
    match route {
        Route::Version => listing::version(&request),
        Route::Catalog => listing::catalog(site, request).await,
        Route::Tags(repository) => listing::tags(site, request, repository).await,
        Route::Manifest(name) => manifests::answer(site, request, name).await,
        Route::Blob(_, digest) => blobs::answer(site, request, digest).await,
        Route::Uploads(repository) => uploads::begin(site, request, repository).await,
        Route::Upload(repository, id) => uploads::go_on(site, request, repository, id).await,
    }
}

/// Returns the parameter `name` of a request's query.
pub(crate) fn query(request: &Request, name: &str) -> Option<String> {
    let query = request.uri().query()?;
    let parsed = reqwest::Url::parse(&format!("query:?{query}")).ok()?;
    parsed
        .query_pairs()
        .find(|(have, _)| have == name)
        .map(|(_, value)| value.into_owned())
}

/// Returns a header of a request, when it is text.
pub(crate) fn header<'a>(request: &'a Request, name: &HeaderName) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}
