//! Blobs, whole or in part.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, RANGE,
};
use axum::http::{Method, Response, StatusCode};
use oci::Digest;

use super::body::FileBody;
use super::failure::Failure;
use super::site::{Site, blocking, header};
use crate::client::CONTENT_DIGEST;
use crate::range::ByteRange;

/// Answers a request for a blob. The store has one set of blobs for all repositories.
pub(crate) async fn answer(
    site: &Arc<Site>,
    request: Request,
    digest: Digest,
) -> Result<Response<Body>, Failure> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Failure::method_not_allowed());
    }
    let (file, size) = blocking(site, move |site| {
        let file = site
            .store()
            .open_blob(&digest)?
            .ok_or_else(Failure::blob_unknown)?;
        let size = file.metadata().map_err(Failure::internal)?.len();
        Ok((file, size))
    })
    .await?;
    // A range that cannot be parsed is ignored, as the protocol wants.
    let range = header(&request, &RANGE).and_then(ByteRange::parse);
    let (offset, length) = match range {
        None => (0, size),
        Some(range) => range
            .within(size)
            .ok_or_else(|| Failure::range_not_satisfiable(size))?,
    };
    let body = if request.method() == Method::HEAD {
        Body::empty()
    } else {
        Body::new(FileBody::new(file, offset, length).map_err(Failure::internal)?)
    };
    let text = |text: String| HeaderValue::from_str(&text).map_err(Failure::internal);
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_DIGEST, text(digest.to_string())?);
    headers.insert(ETAG, text(format!("\"{digest}\""))?);
    if range.is_some() {
        let last = offset + length - 1;
        headers.insert(
            CONTENT_RANGE,
            text(format!("bytes {offset}-{last}/{size}"))?,
        );
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}
