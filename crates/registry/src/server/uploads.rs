//! Uploads of blobs: in one piece, in chunks, or mounted.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_RANGE, HeaderName, HeaderValue, LOCATION, RANGE};
use axum::http::{Method, Response, StatusCode};
use oci::{Digest, MediaType, Reference};
use store::{NewBlob, StoreError, Timestamp};

use super::body::{Received, receive};
use super::failure::Failure;
use super::route::digest;
use super::site::{Site, blocking, header, query};
use crate::client::CONTENT_DIGEST;

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const OCTETS: &str = "application/octet-stream";

/// A session that nobody used for this long is forgotten.
const IDLE: Duration = Duration::from_secs(3600);
/// The most sessions at once; each holds an open file, of which a process often gets 1024.
const MAX_SESSIONS: usize = 256;
/// How long a blob waits for the manifest that names it.
const LEASE: Duration = Duration::from_secs(24 * 3600);

/// The uploads under way.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Session>>);

struct Session {
    repository: Reference,
    used: Instant,
    /// `None` while a request writes to it.
    blob: Option<NewBlob>,
}

/// A session that one request has for itself.
struct Borrowed {
    id: String,
    blob: NewBlob,
}

impl Sessions {
    fn open(&self, repository: Reference, blob: NewBlob) -> Result<String, Failure> {
        let id = random_id().map_err(Failure::internal)?;
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.blob.is_none() || session.used.elapsed() < IDLE);
        if sessions.len() >= MAX_SESSIONS {
            return Err(Failure::too_many_uploads());
        }
        let session = Session {
            repository,
            used: Instant::now(),
            blob: Some(blob),
        };
        sessions.insert(id.clone(), session);
        Ok(id)
    }

    fn borrow(&self, repository: &Reference, id: &str) -> Result<Borrowed, Failure> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions
            .get_mut(id)
            .filter(|session| session.repository == *repository)
            .ok_or_else(Failure::upload_unknown)?;
        let blob = session
            .blob
            .take()
            .ok_or_else(|| Failure::upload_invalid("another request writes to this upload"))?;
        Ok(Borrowed {
            id: id.to_owned(),
            blob,
        })
    }

    fn give_back(&self, borrowed: Borrowed) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = sessions.get_mut(&borrowed.id) {
            session.used = Instant::now();
            session.blob = Some(borrowed.blob);
        }
    }

    fn close(&self, id: &str) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(id);
    }
}

/// Answers `POST …/blobs/uploads/`: begins an upload, takes a whole blob, or mounts one.
pub(crate) async fn begin(
    site: &Arc<Site>,
    request: Request,
    repository: Reference,
) -> Result<Response<Body>, Failure> {
    if request.method() != Method::POST {
        return Err(Failure::method_not_allowed());
    }
    if let Some(text) = query(&request, "mount") {
        let wanted = digest(&text)?;
        let there = blocking(site, move |site| keep(site, &wanted)).await?;
        if there {
            return created(&repository, &wanted);
        }
    }
    let whole = query(&request, "digest")
        .map(|text| digest(&text))
        .transpose()?;
    let (id, session) = {
        let repository = repository.clone();
        blocking(site, move |site| {
            let id = site
                .sessions
                .open(repository.clone(), site.store().new_blob()?)?;
            Ok((id, repository))
        })
        .await?
    };
    match whole {
        None => progress(&session, &id, 0, StatusCode::ACCEPTED),
        Some(expected) => finish(site, request, session, id, expected).await,
    }
}

/// Answers requests for an upload that was begun.
pub(crate) async fn go_on(
    site: &Arc<Site>,
    request: Request,
    repository: Reference,
    id: String,
) -> Result<Response<Body>, Failure> {
    match *request.method() {
        Method::GET | Method::HEAD => {
            let borrowed = site.sessions.borrow(&repository, &id)?;
            let size = borrowed.blob.size();
            site.sessions.give_back(borrowed);
            progress(&repository, &id, size, StatusCode::NO_CONTENT)
        }
        Method::PATCH => {
            let borrowed = continued(site, &request, &repository, &id)?;
            let borrowed = append(site, request, borrowed).await?;
            let size = borrowed.blob.size();
            site.sessions.give_back(borrowed);
            progress(&repository, &id, size, StatusCode::ACCEPTED)
        }
        Method::PUT => {
            let text = query(&request, "digest").unwrap_or_default();
            let expected = digest(&text)?;
            finish(site, request, repository, id, expected).await
        }
        Method::DELETE => {
            let borrowed = site.sessions.borrow(&repository, &id)?;
            site.sessions.close(&id);
            blocking(site, move |_| {
                drop(borrowed);
                Ok(())
            })
            .await?;
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        _ => Err(Failure::method_not_allowed()),
    }
}

/// Borrows a session for a request whose chunk must begin where the last one ended.
fn continued(
    site: &Site,
    request: &Request,
    repository: &Reference,
    id: &str,
) -> Result<Borrowed, Failure> {
    let borrowed = site.sessions.borrow(repository, id)?;
    let Some(text) = header(request, &CONTENT_RANGE) else {
        return Ok(borrowed);
    };
    let text = text.trim_start_matches("bytes ");
    let first = text
        .split_once('-')
        .and_then(|(first, _)| first.parse::<u64>().ok());
    let size = borrowed.blob.size();
    if first == Some(size) {
        return Ok(borrowed);
    }
    site.sessions.give_back(borrowed);
    Err(Failure::out_of_order(size))
}

/// Writes the body of a request. The session keeps what came of a body that breaks off.
async fn append(
    site: &Arc<Site>,
    request: Request,
    borrowed: Borrowed,
) -> Result<Borrowed, Failure> {
    let Borrowed { id, blob } = borrowed;
    match receive(request.into_body(), blob).await {
        Ok(Received::Whole(blob)) => Ok(Borrowed { id, blob }),
        Ok(Received::Broken(blob)) => {
            site.sessions.give_back(Borrowed { id, blob });
            Err(Failure::upload_broken())
        }
        Err(error) => {
            site.sessions.close(&id);
            Err(Failure::internal(error))
        }
    }
}

async fn finish(
    site: &Arc<Site>,
    request: Request,
    repository: Reference,
    id: String,
    expected: Digest,
) -> Result<Response<Body>, Failure> {
    let borrowed = continued(site, &request, &repository, &id)?;
    let borrowed = append(site, request, borrowed).await?;
    blocking(site, move |site| {
        site.sessions.close(&borrowed.id);
        let lock = site.store().lock_shared()?;
        let media_type = MediaType::from(OCTETS);
        match borrowed.blob.commit_as(&media_type, &expected) {
            Ok(_) => {}
            Err(StoreError::DigestMismatch { .. }) => {
                return Err(Failure::digest_invalid(&expected.to_string()));
            }
            Err(error) => return Err(error.into()),
        }
        site.store().lease(&expected, lease_end())?;
        drop(lock);
        Ok(())
    })
    .await?;
    created(&repository, &expected)
}

/// Makes sure that a blob that is in the store stays there; tells whether it is.
pub(crate) fn keep(site: &Site, digest: &Digest) -> Result<bool, Failure> {
    let lock = site.store().lock_shared()?;
    let there = site.store().has_blob(digest)?;
    if there {
        site.store().lease(digest, lease_end())?;
    }
    drop(lock);
    Ok(there)
}

fn lease_end() -> Timestamp {
    let lease = i64::try_from(LEASE.as_nanos()).unwrap_or(i64::MAX);
    Timestamp(Timestamp::now().0.saturating_add(lease))
}

fn progress(
    repository: &Reference,
    id: &str,
    size: u64,
    status: StatusCode,
) -> Result<Response<Body>, Failure> {
    let name = repository.familiar_repository();
    let location = format!("/v2/{name}/blobs/uploads/{id}");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(LOCATION, text(&location)?);
    headers.insert(RANGE, text(&format!("0-{}", size.saturating_sub(1)))?);
    headers.insert(UPLOAD_ID, text(id)?);
    Ok(response)
}

fn created(repository: &Reference, digest: &Digest) -> Result<Response<Body>, Failure> {
    let name = repository.familiar_repository();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(LOCATION, text(&format!("/v2/{name}/blobs/{digest}"))?);
    headers.insert(CONTENT_DIGEST, text(&digest.to_string())?);
    Ok(response)
}

fn text(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(Failure::internal)
}

fn random_id() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut id, byte| {
        write!(id, "{byte:02x}").expect("writing to a String cannot fail");
        id
    }))
}
