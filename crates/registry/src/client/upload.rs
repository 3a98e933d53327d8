//! Putting a blob into a repository.

use std::error::Error;
use std::io::{self, Read};
use std::sync::atomic::Ordering;

use axum::body::Bytes;
use axum::http::StatusCode;
use oci::{Descriptor, Digest};
use reqwest::header::{
    AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RANGE,
};
use reqwest::{Method, Url};

use super::authority::{Actions, Renewal, Scope};
use super::error::{ClientError, Problem};
use super::registry::refusal;
use super::remote::{CONTENT_DIGEST, Remote};
use super::request::{Request, Stream};
use super::transport::Response;

/// The piece in which a blob is sent to a registry that refuses it whole.
const CHUNK: u64 = 16 << 20;
/// The largest piece that a registry may ask for: it is held in memory.
const LARGEST_CHUNK: u64 = 128 << 20;
/// How often an upload starts again at once: for a fresh token, and for chunks.
const QUICK_RESTARTS: usize = 3;

const CHUNK_MINIMUM: HeaderName = HeaderName::from_static("oci-chunk-min-length");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// How a blob came into the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Uploaded {
    /// Its bytes were sent.
    Sent,
    /// The registry had it in this repository.
    Mounted(String),
}

/// Opens the content of a blob at an offset.
pub(crate) type Open<'a> =
    dyn Fn(u64) -> Result<Box<dyn Read + Send>, Box<dyn Error + Send + Sync>> + 'a;

/// A blob to send.
pub(crate) struct Content<'a> {
    pub(crate) descriptor: &'a Descriptor,
    pub(crate) open: &'a Open<'a>,
    /// Called with the number of bytes that went out, from 0 again when the upload restarts.
    pub(crate) progress: &'a dyn Fn(u64),
}

struct Session {
    url: Url,
    chunk: u64,
}

enum Begun {
    Mounted(String),
    Session(Session),
}

/// An attempt that failed.
struct Setback {
    error: ClientError,
    again: Again,
}

enum Again {
    AtOnce,
    Later,
    Never,
}

impl From<ClientError> for Setback {
    fn from(error: ClientError) -> Self {
        let again = if error.may_pass() {
            Again::Later
        } else {
            Again::Never
        };
        Self { error, again }
    }
}

impl Remote {
    /// Sends a blob, or has the registry mount it. An upload that fails in a way that may pass
    /// starts again, with a new session.
    pub(crate) fn upload_blob(&self, content: &Content<'_>) -> Result<Uploaded, ClientError> {
        let mut pauses = self.courier.retry.pauses();
        let mut quick = QUICK_RESTARTS;
        let mut begun = self.mount(&content.descriptor.digest)?;
        loop {
            let outcome = match begun.take() {
                Some(Begun::Mounted(from)) => return Ok(Uploaded::Mounted(from)),
                Some(Begun::Session(session)) => self.fill(session, content),
                None => self
                    .begin()
                    .map_err(Setback::from)
                    .and_then(|session| self.fill(session, content)),
            };
            let Err(Setback { error, again }) = outcome else {
                return Ok(Uploaded::Sent);
            };
            match again {
                Again::AtOnce if quick > 0 => quick -= 1,
                Again::Later => match pauses.next() {
                    Some(pause) => self.courier.transport.pause(pause)?,
                    None => return Err(error),
                },
                Again::AtOnce | Again::Never => return Err(error),
            }
        }
    }

    /// Asks the registry to take the blob from another repository that may have it. Answers
    /// with a session when it does not, and with `None` when there is nobody to ask.
    fn mount(&self, digest: &Digest) -> Result<Option<Begun>, ClientError> {
        let Some(from) = self.mounts.get(digest).or(self.neighbour.as_ref()) else {
            return Ok(None);
        };
        let mut url = self.url("blobs/uploads/");
        url.query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", &self.path_of(from));
        let mut scopes = [
            self.scope(Actions::PullPush),
            Scope {
                repository: self.path_of(from),
                actions: Actions::Pull,
            },
        ];
        scopes.sort();
        let request = Request::new(Method::POST, url);
        let response = self.registry.call(&self.courier, request, &scopes)?;
        Ok(match response.status() {
            StatusCode::CREATED => Some(Begun::Mounted(from.clone())),
            StatusCode::ACCEPTED => Some(Begun::Session(self.session(&response)?)),
            // Not every registry lets its users mount; the upload says what is really wrong.
            _ => None,
        })
    }

    fn begin(&self) -> Result<Session, ClientError> {
        let url = self.url("blobs/uploads/");
        let response = self.call_to_push(Request::new(Method::POST, url))?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(refusal(response));
        }
        self.session(&response)
    }

    fn session(&self, response: &Response) -> Result<Session, ClientError> {
        let minimum = response
            .header(&CHUNK_MINIMUM)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        Ok(Session {
            url: self.next_location(response)?,
            chunk: CHUNK.max(minimum).min(LARGEST_CHUNK),
        })
    }

    fn next_location(&self, response: &Response) -> Result<Url, ClientError> {
        let location = response
            .header(&LOCATION)
            .ok_or_else(|| response.invalid(Problem::Header("Location")))?;
        self.courier
            .locate(response.url(), location)
            .map_err(|problem| response.invalid(problem))
    }

    fn fill(&self, session: Session, content: &Content<'_>) -> Result<(), Setback> {
        if self.registry.wants_chunks.load(Ordering::Relaxed) {
            self.send_in_chunks(session, content)
        } else {
            self.send_whole(&session, content)
        }
    }

    fn send_whole(&self, session: &Session, content: &Content<'_>) -> Result<(), Setback> {
        let descriptor = content.descriptor;
        let url = closing(&session.url, &descriptor.digest);
        let scopes = [self.scope(Actions::PullPush)];
        let header = self.registry.authorization(&self.courier, &url, &scopes)?;
        let mut request = Request::new(Method::PUT, url).header(CONTENT_TYPE, OCTETS);
        if let Some(header) = &header {
            request = request.header(AUTHORIZATION, header.clone());
        }
        let sent = std::cell::Cell::new(0);
        let stream = Stream {
            length: descriptor.size,
            reader: content.open_at(0)?,
            sent: &|bytes| {
                sent.set(sent.get() + bytes);
                (content.progress)(sent.get());
            },
        };
        let response = self
            .courier
            .transport
            .send_stream(&request, stream)
            .map_err(|source| content.unreadable(Box::new(source)))??;
        if response.status() == StatusCode::PAYLOAD_TOO_LARGE {
            self.registry.wants_chunks.store(true, Ordering::Relaxed);
            return Err(Setback {
                error: refusal(response),
                again: Again::AtOnce,
            });
        }
        let renewal = self
            .registry
            .renew(&self.courier, &response, &scopes, header.as_ref())?;
        if renewal == Renewal::Renewed {
            return Err(Setback {
                error: refusal(response),
                again: Again::AtOnce,
            });
        }
        stored(response, &descriptor.digest)
    }

    fn send_in_chunks(&self, session: Session, content: &Content<'_>) -> Result<(), Setback> {
        let size = content.descriptor.size;
        let mut reader = content.open_at(0)?;
        let mut url = session.url;
        let mut first = 0;
        while first < size {
            let length = session.chunk.min(size - first);
            let chunk = read_chunk(&mut reader, length)
                .map_err(|source| content.unreadable(Box::new(source)))?;
            let end = first + length;
            let range = HeaderValue::from_str(&format!("{first}-{}", end - 1))
                .expect("invariant: digits are header text");
            let request = Request::new(Method::PATCH, url)
                .header(CONTENT_TYPE, OCTETS)
                .header(CONTENT_RANGE, range)
                .body(chunk);
            let response = self.call_to_push(request)?;
            if !response.status().is_success() {
                return Err(session_lost(response));
            }
            expect_taken(&response, end)?;
            url = self.next_location(&response)?;
            first = end;
            (content.progress)(first);
        }
        let request = Request::new(Method::PUT, closing(&url, &content.descriptor.digest));
        stored(self.call_to_push(request)?, &content.descriptor.digest)
    }
}

impl<'a> Content<'a> {
    fn open_at(&self, offset: u64) -> Result<Box<dyn Read + Send + 'a>, ClientError> {
        (self.open)(offset).map_err(|source| self.unreadable(source))
    }

    fn unreadable(&self, source: Box<dyn Error + Send + Sync>) -> ClientError {
        ClientError::ReadBlob {
            digest: self.descriptor.digest,
            source,
        }
    }
}

/// Returns the URL that ends a session.
fn closing(session: &Url, digest: &Digest) -> Url {
    let mut url = session.clone();
    url.query_pairs_mut()
        .append_pair("digest", &digest.to_string());
    url
}

fn read_chunk(reader: &mut dyn Read, length: u64) -> io::Result<Bytes> {
    let mut chunk = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    reader.read_exact(&mut chunk)?;
    Ok(chunk.into())
}

fn stored(response: Response, digest: &Digest) -> Result<(), Setback> {
    if !response.status().is_success() {
        return Err(session_lost(response));
    }
    match response.header(&CONTENT_DIGEST) {
        Some(told) if told != digest.to_string() => Err(response
            .invalid(Problem::StoredAs {
                expected: *digest,
                found: told.to_owned(),
            })
            .into()),
        _ => Ok(()),
    }
}

/// A session that the registry forgot, or that got out of step, is begun again.
fn session_lost(response: Response) -> Setback {
    let status = response.status();
    let error = refusal(response);
    if matches!(
        status,
        StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE
    ) {
        return Setback {
            error,
            again: Again::Later,
        };
    }
    error.into()
}

/// Checks how far the registry says it is; it need not say.
fn expect_taken(response: &Response, end: u64) -> Result<(), Setback> {
    let Some(text) = response.header(&RANGE) else {
        return Ok(());
    };
    let last = text
        .rsplit_once('-')
        .and_then(|(_, last)| last.parse::<u64>().ok())
        .ok_or_else(|| response.invalid(Problem::Header("Range")))?;
    if last.checked_add(1) == Some(end) {
        return Ok(());
    }
    Err(Setback {
        error: response.invalid(Problem::Range {
            expected: end,
            found: last.saturating_add(1),
        }),
        again: Again::Later,
    })
}
