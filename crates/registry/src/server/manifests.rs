//! Manifests and indexes.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, LOCATION};
use axum::http::{Method, Response, StatusCode};
use oci::{
    Descriptor, Digest, Index, MAX_MANIFEST_SIZE, Manifest, ManifestOrIndex, MediaType, Platform,
    Reference,
};
use store::Resolved;

use super::failure::Failure;
use super::received::import;
use super::site::{Site, blocking, header};
use super::uploads::keep;
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
    let Some(id) = site.store().tagged(name)? else {
        return Ok(None);
    };
    let (media_type, bytes) = site.store().manifest_of(&id)?;
    Ok(Some(Document {
        media_type,
        digest: Digest::of(&bytes),
        bytes,
    }))
}

/// Finds a manifest that was received, or the one that [`by_tag`] makes for an image that was
/// built here.
fn by_digest(site: &Site, name: &Reference, digest: &Digest) -> Result<Option<Document>, Failure> {
    let store = site.store();
    if let Some(descriptor) = store.blob(digest)? {
        let media_type = descriptor.media_type;
        if !media_type.is_manifest() && !media_type.is_index() {
            return Ok(None);
        }
        return Ok(Some(Document {
            media_type,
            digest: *digest,
            bytes: store.read_blob(digest, MAX_MANIFEST_SIZE)?,
        }));
    }
    for (tag, _) in store.tags(Some(&name.without_tag()))? {
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

fn take(
    site: &Site,
    name: &Reference,
    told: Option<&MediaType>,
    bytes: &[u8],
) -> Result<Digest, Failure> {
    let digest = Digest::of(bytes);
    if name.digest().is_some_and(|expected| *expected != digest) {
        return Err(Failure::digest_invalid(&digest.to_string()));
    }
    let parsed =
        ManifestOrIndex::parse(told, bytes).map_err(|error| Failure::manifest_invalid(&error))?;
    let lock = site.store().lock_shared()?;
    match parsed {
        ManifestOrIndex::Manifest(manifest) => {
            take_manifest(
                site,
                name,
                &manifest,
                &resolved(told, &manifest.media_type, bytes),
            )?;
        }
        ManifestOrIndex::Index(index) => {
            take_index(
                site,
                name,
                &index,
                &resolved(told, &index.media_type, bytes),
            )?;
        }
    }
    drop(lock);
    Ok(digest)
}

fn resolved(told: Option<&MediaType>, own: &Option<MediaType>, bytes: &[u8]) -> Resolved {
    let media_type = told
        .or(own.as_ref())
        .map_or(MediaType::OCI_MANIFEST, |media_type| media_type.0.as_str());
    Resolved {
        descriptor: Descriptor::of(media_type, bytes),
        bytes: bytes.to_vec(),
    }
}

fn take_manifest(
    site: &Site,
    name: &Reference,
    manifest: &Manifest,
    document: &Resolved,
) -> Result<(), Failure> {
    let parts = std::iter::once(&manifest.config).chain(&manifest.layers);
    for part in parts {
        if !keep(site, &part.digest)? {
            return Err(Failure::manifest_blob_unknown(&part.digest));
        }
    }
    let image = import(site, document)?;
    let digest = document.descriptor.digest;
    site.store().tag(name, &image, Some(&digest))?;
    Ok(())
}

/// Keeps an index and gives its name to the image that runs here.
fn take_index(
    site: &Site,
    name: &Reference,
    index: &Index,
    document: &Resolved,
) -> Result<(), Failure> {
    for entry in &index.manifests {
        if !keep(site, &entry.digest)? {
            return Err(Failure::manifest_blob_unknown(&entry.digest));
        }
    }
    let store = site.store();
    let digest = document.descriptor.digest;
    store.put_blob(&document.descriptor.media_type, &document.bytes)?;
    keep(site, &digest)?;
    if let Some(entry) = index.select(&Platform::host()) {
        let child = Resolved {
            descriptor: entry.clone(),
            bytes: store.read_blob(&entry.digest, MAX_MANIFEST_SIZE)?,
        };
        let image = import(site, &child)?;
        store.tag(name, &image, Some(&digest))?;
    }
    Ok(())
}

/// Removes a tag, or all tags that lead to a digest.
fn delete(site: &Site, name: &Reference) -> Result<(), Failure> {
    let lock = site.store().lock_shared()?;
    let mut removed = false;
    match name.digest() {
        None => removed = site.store().untag(name)?.is_some(),
        Some(digest) => {
            for (tag, _) in site.store().tags(Some(&name.without_tag()))? {
                let document = by_tag(site, &tag)?;
                if document.is_some_and(|found| found.digest == *digest) {
                    removed |= site.store().untag(&tag)?.is_some();
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

fn text(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(Failure::internal)
}
