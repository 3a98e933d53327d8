//! Connections: a small async runtime behind a synchronous interface, started by the first
//! request.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::http::{HeaderMap, StatusCode, Version};
use http_body::{Frame, SizeHint};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use rustls::crypto::CryptoProvider;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::error::{ClientError, NetworkError, Problem, SetupError, describe};
use super::options::Timeouts;
use super::registry::{authority_of, is_loopback};
use super::request::{Request, Stream};
use super::resolver::Resolver;
use super::settings::Settings;
use super::tls::HostTls;

/// The piece in which a body is sent.
const CHUNK: usize = 256 << 10;

/// Bodies of several layers arrive at once; decrypting is spread over this many threads.
const WORKERS: usize = 2;

/// Sends single requests. Knows nothing of registries.
#[derive(Debug)]
pub(crate) struct Transport {
    user_agent: String,
    timeouts: Timeouts,
    runtime: Slot<Arc<Engine>>,
    settings: Arc<Settings>,
    loopback: Slot<reqwest::Client>,
    outside: Slot<reqwest::Client>,
    /// By host, for all but plain HTTP to loopback: TLS may not be like TLS to others.
    hosts: Mutex<HashMap<String, Slot<reqwest::Client>>>,
}

/// A value that is made by its first use, and again if making it failed.
struct Slot<T>(Mutex<Option<T>>);

/// The runtime; it is never waited for, so it can be dropped anywhere.
#[derive(Debug)]
struct Engine(Option<Runtime>);

/// An answer whose body is read as it arrives.
#[derive(Debug)]
pub(crate) struct Response {
    engine: Arc<Engine>,
    inner: reqwest::Response,
    method: Method,
    stall: Duration,
    rest: Bytes,
}

/// A body fed by a blocking reader.
struct FedBody {
    receiver: mpsc::Receiver<Bytes>,
    remaining: u64,
}

impl Transport {
    pub(crate) fn new(user_agent: String, timeouts: Timeouts, settings: Arc<Settings>) -> Self {
        Self {
            user_agent,
            timeouts,
            settings,
            runtime: Slot::new(),
            loopback: Slot::new(),
            outside: Slot::new(),
            hosts: Mutex::default(),
        }
    }

    /// Sends `request` and returns the head of the answer, whatever its status.
    pub(crate) fn send(&self, request: &Request) -> Result<Response, ClientError> {
        let engine = self.engine()?;
        let mut call = self.prepare(request)?;
        if !request.body.is_empty() || request.method != Method::GET {
            call = call.body(request.body.clone());
        }
        let patience = match request.method {
            Method::GET | Method::HEAD => self.timeouts.stall,
            _ => self.timeouts.commit,
        };
        let answer = engine.block_on(async { tokio::time::timeout(patience, call.send()).await });
        let answer = match answer {
            Ok(answer) => answer.map_err(|error| NetworkError::classify(error, &request.url)),
            Err(_) => Err(NetworkError::Stalled(patience)),
        };
        let inner = answer.map_err(|cause| cause.during(&request.method, &request.url))?;
        Ok(self.response(engine, inner, &request.method))
    }

    /// Sends `request` with a body that is read meanwhile. An answer that comes before the
    /// whole body was taken (a refusal) is returned; the rest of the body is not read then.
    /// Errors of the reader are the outer ones.
    pub(crate) fn send_stream(
        &self,
        request: &Request,
        mut body: Stream<'_>,
    ) -> io::Result<Result<Response, ClientError>> {
        let (engine, call) = match self.engine().and_then(|e| Ok((e, self.prepare(request)?))) {
            Ok(ready) => ready,
            Err(error) => return Ok(Err(error)),
        };
        let (sender, receiver) = mpsc::channel(2);
        let fed = FedBody {
            receiver,
            remaining: body.length,
        };
        let call = call
            .header(CONTENT_LENGTH, body.length)
            .body(reqwest::Body::wrap(fed));
        let task = engine.spawn(call.send());
        let outcome = self.feed(&engine, &mut body, sender)?;
        let answer = match outcome {
            Err(cause) => {
                task.abort();
                Err(cause)
            }
            Ok(()) => {
                let commit = self.timeouts.commit;
                let joined = engine.block_on(async { tokio::time::timeout(commit, task).await });
                match joined {
                    Ok(Ok(answer)) => {
                        answer.map_err(|error| NetworkError::classify(error, &request.url))
                    }
                    Ok(Err(join)) => std::panic::resume_unwind(join.into_panic()),
                    Err(_) => Err(NetworkError::Stalled(commit)),
                }
            }
        };
        Ok(answer
            .map_err(|cause| cause.during(&request.method, &request.url))
            .map(|inner| self.response(engine, inner, &request.method)))
    }

    /// Waits, off the processor.
    pub(crate) fn pause(&self, duration: Duration) -> Result<(), ClientError> {
        if !duration.is_zero() {
            let engine = self.engine()?;
            engine.block_on(async { tokio::time::sleep(duration).await });
        }
        Ok(())
    }

    fn feed(
        &self,
        engine: &Engine,
        body: &mut Stream<'_>,
        sender: mpsc::Sender<Bytes>,
    ) -> io::Result<Result<(), NetworkError>> {
        let stall = self.timeouts.stall;
        let mut remaining = body.length;
        while remaining > 0 {
            let wanted = usize::try_from(remaining).map_or(CHUNK, |rest| rest.min(CHUNK));
            let mut chunk = vec![0; wanted];
            body.reader.read_exact(&mut chunk)?;
            let length = u64::try_from(wanted).expect("a chunk is short");
            let chunk = Bytes::from(chunk);
            let sent =
                engine.block_on(async { tokio::time::timeout(stall, sender.send(chunk)).await });
            match sent {
                Ok(Ok(())) => {}
                // The request is over: its answer says why.
                Ok(Err(_)) => return Ok(Ok(())),
                Err(_) => return Ok(Err(NetworkError::Stalled(stall))),
            }
            remaining -= length;
            (body.sent)(length);
        }
        Ok(Ok(()))
    }

    fn prepare(&self, request: &Request) -> Result<reqwest::RequestBuilder, ClientError> {
        let is_local = is_loopback(&request.url);
        let client = match is_local && request.url.scheme() == "http" {
            true => self.loopback.get(|| self.build(Way::Loopback))?,
            false => self.to_host(&request.url, is_local)?,
        };
        Ok(client
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone())
            // A blob is its bytes: a proxy must not wrap them in another compression.
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity")))
    }

    fn response(&self, engine: Arc<Engine>, inner: reqwest::Response, method: &Method) -> Response {
        Response {
            engine,
            inner,
            method: method.clone(),
            stall: self.timeouts.stall,
            rest: Bytes::new(),
        }
    }

    fn engine(&self) -> Result<Arc<Engine>, ClientError> {
        self.runtime.get(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(WORKERS)
                .thread_name("registry-client")
                .enable_io()
                .enable_time()
                .build()
                .map(|runtime| Arc::new(Engine(Some(runtime))))
                .map_err(|source| ClientError::Setup(SetupError::Runtime(source)))
        })
    }

    /// Returns the client for the host of `url`.
    fn to_host(&self, url: &Url, is_local: bool) -> Result<reqwest::Client, ClientError> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = hosts.entry(authority_of(url)).or_insert_with(Slot::new);
        slot.get(|| match (self.settings.tls(url)?, is_local) {
            (None, false) => self.outside.get(|| self.build(Way::Outside)),
            (tls, is_local) => self.build(Way::Special { tls, is_local }),
        })
    }

    fn build(&self, way: Way) -> Result<reqwest::Client, ClientError> {
        let provider = provider();
        let builder = reqwest::Client::builder()
            .user_agent(&self.user_agent)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .dns_resolver(Resolver::default())
            .connect_timeout(self.timeouts.connect);
        let builder = match way {
            // Reading the system's root certificates takes longer than a whole local pull.
            Way::Loopback => builder.no_proxy().tls_certs_only([]),
            Way::Outside => builder,
            Way::Special { tls, is_local } => {
                let builder = match is_local {
                    true => builder.no_proxy(),
                    false => builder,
                };
                match tls {
                    Some(tls) => builder.tls_backend_preconfigured(tls.config(&provider)?),
                    None => builder,
                }
            }
        };
        builder
            .build()
            .map_err(|source| ClientError::Setup(SetupError::Tls(source)))
    }
}

enum Way {
    Loopback,
    Outside,
    Special {
        tls: Option<HostTls>,
        is_local: bool,
    },
}

/// Returns what does the cryptography of all connections.
fn provider() -> Arc<CryptoProvider> {
    if CryptoProvider::get_default().is_none() {
        // Losing a race to another thread is as good: the provider is the same.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
    let provider = CryptoProvider::get_default().expect("invariant: just installed");
    Arc::clone(provider)
}

impl<T: Clone> Slot<T> {
    const fn new() -> Self {
        Self(Mutex::new(None))
    }

    fn get<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = slot.as_ref() {
            return Ok(value.clone());
        }
        Ok(slot.insert(make()?).clone())
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

impl Engine {
    fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("invariant: taken only by drop")
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime().block_on(future)
    }

    fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.runtime().spawn(future)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Response {
    pub(crate) fn status(&self) -> StatusCode {
        self.inner.status()
    }

    pub(crate) fn version(&self) -> Version {
        self.inner.version()
    }

    /// Tells whether the request was for the head of the answer only.
    pub(crate) fn is_to_head(&self) -> bool {
        self.method == Method::HEAD
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// Returns a header that is text.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// Returns where the answer came from, after redirects.
    pub(crate) fn url(&self) -> &Url {
        self.inner.url()
    }

    /// Returns what was asked, for messages.
    pub(crate) fn request(&self) -> String {
        describe(&self.method, self.url())
    }

    /// Returns the length that the server announced.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(&CONTENT_LENGTH)?.parse().ok()
    }

    /// Returns an error about this answer.
    pub(crate) fn invalid(&self, problem: Problem) -> ClientError {
        ClientError::InvalidAnswer {
            request: self.request(),
            problem,
        }
    }

    /// Reads the whole body, of at most `limit` bytes.
    pub(crate) fn read_all(&mut self, limit: u64) -> Result<Vec<u8>, ClientError> {
        if self.content_length().is_some_and(|length| length > limit) {
            return Err(self.invalid(Problem::TooLarge(limit)));
        }
        let mut body = Vec::new();
        let room = usize::try_from(limit).unwrap_or(usize::MAX);
        while let Some(chunk) = self
            .chunk()
            .map_err(|cause| cause.during(&self.method, self.inner.url()))?
        {
            if chunk.len() > room - body.len() {
                return Err(self.invalid(Problem::TooLarge(limit)));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Reads what has arrived, waiting when nothing has; 0 at the end of the body.
    pub(crate) fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, NetworkError> {
        while self.rest.is_empty() {
            match self.chunk()? {
                Some(chunk) => self.rest = chunk,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.rest.len());
        buffer[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }

    fn chunk(&mut self) -> Result<Option<Bytes>, NetworkError> {
        let (stall, inner) = (self.stall, &mut self.inner);
        let chunk = self
            .engine
            .block_on(async { tokio::time::timeout(stall, inner.chunk()).await });
        match chunk {
            Ok(chunk) => chunk.map_err(|error| NetworkError::classify(error, self.inner.url())),
            Err(_) => Err(NetworkError::Stalled(stall)),
        }
    }
}

impl Read for Response {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_some(buffer).map_err(io::Error::other)
    }
}

impl HttpBody for FedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.receiver.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(chunk)) => {
                let length = u64::try_from(chunk.len()).expect("a chunk is short");
                self.remaining = self.remaining.saturating_sub(length);
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Poll::Ready(None) if self.remaining == 0 => Poll::Ready(None),
            Poll::Ready(None) => Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
