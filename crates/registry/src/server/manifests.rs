//! Manifests and indexes.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, LOCATION};
use axum::http::{Method, Response, StatusCode};
use oci::{Digest, MAX_MANIFEST_SIZE, MediaType, Reference};

use super::failure::Failure;
use super::received::take;
use super::site::{Site, blocking, header};
use crate::client::CONTENT_DIGEST;

/// A document that is served.
struct Document {
    media_type: MediaType,
    digest: Digest,
    bytes: Vec<u8>,
}

/// Answers a request for what a tag or digest names.
pub(crate) async fn answer(
    site: &Arc<Site>,
    request: Request,
    name: Reference,
) -> Result<Response<Body>, Failure> {
    match *request.method() {
        Method::GET | Method::HEAD => {
            let head = request.method() == Method::HEAD;
            let document = blocking(site, move |site| look_up(site, &name)).await?;
            respond(document, head)
        }
        Method::PUT => put(site, request, name).await,
        Method::DELETE => {
            blocking(site, move |site| delete(site, &name)).await?;
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::ACCEPTED;
            Ok(response)
        }
        _ => Err(Failure::method_not_allowed()),
    }
}

fn respond(document: Document, head: bool) -> Result<Response<Body>, Failure> {
    let length = document.bytes.len();
    let mut response = Response::new(if head {
        Body::empty()
    } else {
        Body::from(document.bytes)
    });
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, text(&document.media_type.0)?);
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(CONTENT_DIGEST, text(&document.digest.to_string())?);
    headers.insert(ETAG, text(&format!("\"{}\"", document.digest))?);
    Ok(response)
}

fn look_up(site: &Site, name: &Reference) -> Result<Document, Failure> {
    let lock = site.store().lock_shared()?;
    let found = match name.digest() {
        Some(digest) => by_digest(site, name, digest)?,
        None => by_tag(site, name)?,
    };
    drop(lock);
    found.ok_or_else(Failure::manifest_unknown)
}

fn by_tag(site: &Site, name: &Reference) -> Result<Option<Document>, Failure> {
    if let Some(digest) = site.store().tag_document(name)?
        && let Some(document) = stored(site, &digest)?
    {
        return Ok(Some(document));
    }
    let found = site.store().manifest_of_tag(name)?;
    Ok(found.map(|(media_type, bytes)| Document {
        media_type,
        digest: Digest::of(&bytes),
        bytes,
    }))
}

/// Finds a manifest that was received, or the one that [`by_tag`] makes for an image that was
/// built here.
fn by_digest(site: &Site, name: &Reference, digest: &Digest) -> Result<Option<Document>, Failure> {
    let found = stored(site, digest)?;
    if found.is_some() {
        return Ok(found);
    }
    for (tag, _) in site.store().tags(Some(&name.without_tag()))? {
        let document = by_tag(site, &tag)?;
        if document
            .as_ref()
            .is_some_and(|found| found.digest == *digest)
        {
            return Ok(document);
        }
    }
    Ok(None)
}

fn stored(site: &Site, digest: &Digest) -> Result<Option<Document>, Failure> {
    let Some(descriptor) = site.store().blob(digest)? else {
        return Ok(None);
    };
    let media_type = descriptor.media_type;
    if !media_type.is_manifest() && !media_type.is_index() {
        return Ok(None);
    }
    Ok(Some(Document {
        media_type,
        digest: *digest,
        bytes: site.store().read_blob(digest, MAX_MANIFEST_SIZE)?,
    }))
}

async fn put(
    site: &Arc<Site>,
    request: Request,
    name: Reference,
) -> Result<Response<Body>, Failure> {
    let told = header(&request, &CONTENT_TYPE)
        .map(|text| MediaType::from(text.split(';').next().unwrap_or(text).trim()))
        .filter(|told| told.is_manifest() || told.is_index());
    let limit = usize::try_from(MAX_MANIFEST_SIZE).map_err(Failure::internal)?;
    let bytes = axum::body::to_bytes(request.into_body(), limit)
        .await
        .map_err(|_| Failure::manifest_too_large(MAX_MANIFEST_SIZE))?;
    blocking(site, move |site| {
        let digest = take(site, &name, told.as_ref(), &bytes)?;
        let familiar = name.familiar_repository();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::CREATED;
        let headers = response.headers_mut();
        headers.insert(
            LOCATION,
            text(&format!("/v2/{familiar}/manifests/{digest}"))?,
        );
        headers.insert(CONTENT_DIGEST, text(&digest.to_string())?);
        Ok(response)
    })
    .await
}

/// Removes a tag, or all tags that lead to a digest.
fn delete(site: &Site, name: &Reference) -> Result<(), Failure> {
    let lock = site.store().lock_shared()?;
    let mut removed = false;
    match name.digest() {
        None => removed = forget(site, name)?,
        Some(digest) => {
            for tag in known_tags(site, Some(name))? {
                let document = by_tag(site, &tag)?;
                if document.is_some_and(|found| found.digest == *digest) {
                    removed |= forget(site, &tag)?;
                }
            }
        }
    }
    drop(lock);
    if removed {
        Ok(())
    } else {
        Err(Failure::manifest_unknown())
    }
}

fn forget(site: &Site, tag: &Reference) -> Result<bool, Failure> {
    let had_document = site.store().remove_tag_document(tag)?;
    Ok(site.store().untag(tag)?.is_some() || had_document)
}

/// Lists the tags of images and of other documents, of all repositories or one.
pub(crate) fn known_tags(
    site: &Site,
    repository: Option<&Reference>,
) -> Result<BTreeSet<Reference>, Failure> {
    let wanted = repository.map(Reference::without_tag);
    let images = site.store().tags(wanted.as_ref())?;
    let documents = site
        .store()
        .tags_with_documents()?
        .into_iter()
        .filter(|name| {
            wanted
                .as_ref()
                .is_none_or(|wanted| name.repository() == wanted.repository())
        });
    Ok(images
        .into_iter()
        .map(|(name, _)| name)
        .chain(documents)
        .collect())
}

fn text(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(Failure::internal)
}
