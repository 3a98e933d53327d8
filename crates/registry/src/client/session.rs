//! A session in which a blob is sent: begun, asked how far it is, remembered.

use axum::http::StatusCode;
use oci::{Descriptor, Digest};
use reqwest::header::{HeaderName, LOCATION, RANGE};
use reqwest::{Method, Url};
use store::Upload;

use super::authority::{Actions, Scope};
use super::content::WHOLE;
use super::error::{ClientError, Problem};
use super::registry::refusal;
use super::remote::Remote;
use super::request::Request;
use super::transport::Response;

/// The piece in which a blob is sent to a registry that refuses it whole.
const CHUNK: u64 = 16 << 20;
/// The largest piece that a registry may ask for: it is held in memory.
const LARGEST_CHUNK: u64 = 128 << 20;

const CHUNK_MINIMUM: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// Where the bytes of a blob go.
#[derive(Debug)]
pub(super) struct Session {
    /// Changes with every answer of some registries.
    pub(super) url: Url,
    /// The size of the pieces when the registry wants pieces.
    pub(super) chunk: u64,
    /// How many bytes the registry has.
    pub(super) offset: u64,
    /// Whether the registry told `offset`: what is before it was sent on another connection.
    pub(super) resumed: bool,
}

/// How a request to mount a blob ended.
pub(super) enum Begun {
    /// The blob is there, from this repository.
    Mounted(String),
    /// It must be sent.
    Session(Session),
}

impl Remote {
    /// Asks the registry to take the blob from another repository that may have it. Answers
    /// with a session when it does not, and with `None` when there is nobody to ask.
    pub(super) fn mount(&self, digest: &Digest) -> Result<Option<Begun>, ClientError> {
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

    /// Begins a session.
    pub(super) fn begin(&self) -> Result<Session, ClientError> {
        let url = self.url("blobs/uploads/");
        let response = self.call_to_push(Request::new(Method::POST, url))?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(refusal(response));
        }
        self.session(&response)
    }

    fn session(&self, response: &Response) -> Result<Session, ClientError> {
        let location = response
            .header(&LOCATION)
            .ok_or_else(|| response.invalid(Problem::Header("Location")))?;
        Ok(Session {
            url: self.usable(response, location)?,
            chunk: chunk(response),
            offset: 0,
            resumed: false,
        })
    }

    /// Returns where a session goes on after an answer; most often where it was.
    pub(super) fn moved(&self, session: &Url, response: &Response) -> Result<Url, ClientError> {
        match response.header(&LOCATION) {
            Some(location) => self.usable(response, location),
            None => Ok(session.clone()),
        }
    }

    fn usable(&self, response: &Response, location: &str) -> Result<Url, ClientError> {
        self.courier
            .locate(response.url(), location)
            .map_err(|problem| response.invalid(problem))
    }

    /// Asks how much of the blob came in the session. `None` when it cannot be gone on with, or
    /// nothing came.
    /// [OCI distribution-spec, resuming](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#resuming-an-upload)
    pub(super) fn ask(&self, session: &Url, size: u64) -> Result<Option<Session>, ClientError> {
        let response = self.call_to_push(Request::get(session.clone()))?;
        if !response.status().is_success() {
            let error = refusal(response);
            return if error.may_pass() {
                Err(error)
            } else {
                Ok(None)
            };
        }
        // Of an empty session most registries say `0-0`, as of one with a single byte.
        let last = last_byte(&response).filter(|last| *last > 0 && *last < size);
        let Some(last) = last else {
            return Ok(None);
        };
        Ok(Some(Session {
            url: self.moved(session, &response)?,
            chunk: chunk(&response),
            offset: last + 1,
            resumed: true,
        }))
    }

    /// Claims what is remembered of a blob on its way to this repository. `None` for blobs that
    /// are sent again whole, when nothing is to be remembered, and while another push sends it.
    pub(super) fn claim(&self, blob: &Descriptor) -> Result<Option<Upload>, ClientError> {
        let Some(store) = self.sessions.as_ref().filter(|_| blob.size > WHOLE) else {
            return Ok(None);
        };
        let repository = self.reference.repository();
        Ok(store.claim_upload(&repository, &blob.digest)?)
    }

    /// Finds the session in which an earlier push was sending the blob, if it goes on. Its URL
    /// came from a server: it is looked at as if it came now.
    pub(super) fn remembered(
        &self,
        upload: &Upload,
        size: u64,
    ) -> Result<Option<Session>, ClientError> {
        let Some(url) = upload.find()? else {
            return Ok(None);
        };
        let session = match self.courier.locate(&self.url("blobs/uploads/"), &url) {
            Ok(url) => match self.ask(&url, size) {
                Ok(session) => session,
                // A registry that does not answer says so when the blob is sent anew.
                Err(_) => return Ok(None),
            },
            Err(_) => None,
        };
        if session.is_none() {
            upload.forget()?;
        }
        Ok(session)
    }
}

/// Returns the last byte that the registry says it has; it need not say.
pub(super) fn last_byte(response: &Response) -> Option<u64> {
    let (_, last) = response.header(&RANGE)?.rsplit_once('-')?;
    last.trim().parse().ok()
}

fn chunk(response: &Response) -> u64 {
    let minimum = response
        .header(&CHUNK_MINIMUM)
        .and_then(|text| text.parse().ok());
    CHUNK.max(minimum.unwrap_or(0)).min(LARGEST_CHUNK)
}
