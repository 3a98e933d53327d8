//! Uploads of blobs: in one piece, in chunks, or mounted.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_RANGE, HeaderName, HeaderValue, LOCATION, RANGE};
use axum::http::{Method, Response, StatusCode};
use oci::{Digest, MediaType, Reference};
use store::{StoreError, Timestamp};

use super::body::{Received, receive};
use super::failure::Failure;
use super::route::digest;
use super::sessions::{Borrowed, Claim};
use super::site::{Site, blocking, header, query};
use crate::client::CONTENT_DIGEST;

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const OCTETS: &str = "application/octet-stream";

/// How long a blob waits for the manifest that names it.
const LEASE: Duration = Duration::from_secs(24 * 3600);

/// What becomes of the bytes of a body that breaks off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Kept,
    Dropped,
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
    let id = {
        let repository = repository.clone();
        blocking(site, move |site| site.sessions.open(site, &repository)).await?
    };
    match whole {
        None => progress(&repository, &id, 0, StatusCode::ACCEPTED),
        Some(expected) => finish(site, request, repository, id, expected).await,
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
            let size = site.sessions.size(site, &repository, &id).await?;
            progress(&repository, &id, size, StatusCode::NO_CONTENT)
        }
        Method::PATCH => {
            let borrowed = continued(site, range_of(&request), &repository, &id).await?;
            let borrowed = append(site, request, borrowed, Rest::Kept).await?;
            let size = borrowed.size();
            drop(borrowed);
            progress(&repository, &id, size, StatusCode::ACCEPTED)
        }
        Method::PUT => {
            let text = query(&request, "digest").unwrap_or_default();
            let expected = digest(&text)?;
            finish(site, request, repository, id, expected).await
        }
        Method::DELETE => {
            let borrowing = site.sessions.borrow(site, &repository, &id, Claim::Insist);
            let mut borrowed = borrowing.await?;
            blocking(site, move |site| {
                site.sessions.close(&borrowed.id);
                Ok(borrowed.take()?.discard()?)
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
async fn continued(
    site: &Arc<Site>,
    range: Option<String>,
    repository: &Reference,
    id: &str,
) -> Result<Borrowed, Failure> {
    let claim = match range {
        Some(_) => Claim::Insist,
        None => Claim::Wait,
    };
    let borrowed = site.sessions.borrow(site, repository, id, claim).await?;
    let Some(text) = range else {
        return Ok(borrowed);
    };
    let text = text.trim_start_matches("bytes ");
    let first = text
        .split_once('-')
        .and_then(|(first, _)| first.parse::<u64>().ok());
    let size = borrowed.size();
    if first == Some(size) {
        return Ok(borrowed);
    }
    Err(Failure::out_of_order(size))
}

fn range_of(request: &Request) -> Option<String> {
    header(request, &CONTENT_RANGE).map(str::to_owned)
}

/// Writes the body of a request.
async fn append(
    site: &Arc<Site>,
    request: Request,
    mut borrowed: Borrowed,
    rest: Rest,
) -> Result<Borrowed, Failure> {
    let blob = borrowed.take()?;
    match receive(request.into_body(), blob, &borrowed.writing).await {
        Ok(Received::Whole(blob)) => {
            borrowed.put_back(blob);
            Ok(borrowed)
        }
        Ok(Received::Broken(blob)) => {
            match rest {
                Rest::Kept => borrowed.put_back(blob),
                Rest::Dropped => {
                    site.sessions.close(&borrowed.id);
                    blocking(site, move |_| Ok(blob.discard()?)).await?;
                }
            }
            Err(Failure::upload_broken())
        }
        Ok(Received::Stopped(blob)) => {
            borrowed.put_back(blob);
            let taken = "another request has taken over this upload";
            Err(Failure::upload_invalid(taken))
        }
        Err(error) => {
            site.sessions.close(&borrowed.id);
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
    let borrowed = continued(site, range_of(&request), &repository, &id).await?;
    // Clients that send all in one request send all again.
    let rest = match borrowed.size() {
        0 => Rest::Dropped,
        _ => Rest::Kept,
    };
    let mut borrowed = append(site, request, borrowed, rest).await?;
    blocking(site, move |site| {
        site.sessions.close(&borrowed.id);
        let lock = site.store().lock_shared()?;
        let media_type = MediaType::from(OCTETS);
        match borrowed.take()?.commit_as(&media_type, &expected) {
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
