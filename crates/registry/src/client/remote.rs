//! A repository in a registry.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use oci::{Descriptor, Digest, MAX_MANIFEST_SIZE, MediaType, Reference};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use store::Store;

use super::authority::{Actions, Scope};
use super::courier::Courier;
use super::error::{ClientError, Problem};
use super::refusal::Refusal;
use super::registry::{Registry, refusal};
use super::request::{Request, same_origin};
use super::transport::Response;

/// The digest that a registry gives to what it stores or sends.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

const ACCEPTED_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// The longest tag list that is read, of all pages together.
const MAX_TAGS_SIZE: u64 = 64 << 20;
/// The most pages of a tag list that are read: a server could link them in a circle.
const MAX_TAG_PAGES: usize = 10_000;

/// One repository, with the tag or digest to pull or push.
///
/// As a source, everything it returns by digest is what the digest says or an error; blobs
/// resume by themselves when the connection breaks. As a target it writes blobs first and
/// moves the tag last.
#[derive(Debug, Clone)]
pub struct Remote {
    pub(super) courier: Arc<Courier>,
    pub(super) registry: Arc<Registry>,
    pub(super) reference: Reference,
    /// What the server calls the repository.
    pub(super) path: String,
    /// What stands before the reference's path in it.
    prefix: String,
    /// Where pulls ask first.
    pub(super) mirrors: Vec<Remote>,
    /// The mirror that had what the reference names, or one past the last: the registry.
    pub(super) serving: Arc<AtomicUsize>,
    /// Blobs that were read from their beginning.
    pub(super) begun: Arc<Mutex<HashSet<Digest>>>,
    /// For a blob, another repository of the registry that may have it.
    pub(super) mounts: HashMap<Digest, String>,
    /// Another repository of the registry that has all blobs.
    pub(super) neighbour: Option<String>,
    /// Where sessions are remembered in which blobs are sent.
    pub(super) sessions: Option<Store>,
}

#[derive(Deserialize)]
struct TagList {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    #[serde(default)]
    media_type: Option<MediaType>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
}

impl Remote {
    pub(super) fn new(
        courier: Arc<Courier>,
        registry: Arc<Registry>,
        reference: Reference,
        prefix: &str,
    ) -> Self {
        Self {
            courier,
            registry,
            path: format!("{prefix}{}", reference.path()),
            prefix: prefix.to_owned(),
            reference,
            mirrors: Vec::new(),
            serving: Arc::default(),
            begun: Arc::default(),
            mounts: HashMap::new(),
            neighbour: None,
            sessions: None,
        }
    }

    /// Returns the reference.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Asks for the descriptor of the manifest without fetching it (this does not count as a
    /// pull at Docker Hub). `None` when the registry does not tell all of it.
    pub fn head(&self) -> Result<Option<Descriptor>, ClientError> {
        let response = self.call(self.manifest_request(Method::HEAD, &self.tag_or_digest()))?;
        if !response.status().is_success() {
            return Err(self.explain(refusal(response)));
        }
        let digest = response
            .header(&CONTENT_DIGEST)
            .and_then(|text| text.parse::<Digest>().ok());
        let (Some(digest), Some(size), Some(media_type)) =
            (digest, response.content_length(), media_type(&response))
        else {
            return Ok(None);
        };
        if let Some(wanted) = self.reference.digest() {
            expect_digest(&response, *wanted, digest)?;
        }
        Ok(Some(Descriptor::new(&media_type, digest, size)))
    }

    /// Lists the tags of the repository.
    pub fn tags(&self) -> Result<Vec<String>, ClientError> {
        let mut tags = Vec::new();
        let mut url = self.url("tags/list");
        let mut room = MAX_TAGS_SIZE;
        let mut pages = HashSet::new();
        loop {
            let mut response = self.call(Request::get(url.clone()))?;
            if !response.status().is_success() {
                return Err(self.explain(refusal(response)));
            }
            let body = response.read_all(room)?;
            room -= u64::try_from(body.len()).expect("a length fits in 64 bits");
            let page: TagList =
                serde_json::from_slice(&body).map_err(|_| response.invalid(Problem::Document))?;
            tags.extend(page.tags.unwrap_or_default());
            let Some(next) = self.next_page(&response)?.filter(|next| *next != url) else {
                return Ok(tags);
            };
            if !pages.insert(std::mem::replace(&mut url, next)) || pages.len() > MAX_TAG_PAGES {
                return Err(response.invalid(Problem::Pages));
            }
        }
    }

    /// Fetches the manifest or index that the reference names.
    pub(crate) fn fetch_named(&self) -> Result<(Descriptor, Vec<u8>), ClientError> {
        let (response, bytes) = self.fetch(&self.tag_or_digest())?;
        let descriptor = Descriptor::of(&document_type(&response, &bytes)?, &bytes);
        if let Some(wanted) = self.reference.digest() {
            expect_digest(&response, *wanted, descriptor.digest)?;
        } else if (descriptor.media_type.is_manifest() || descriptor.media_type.is_index())
            && let Some(told) = response.header(&CONTENT_DIGEST)
            && let Ok(told) = told.parse::<Digest>()
        {
            // Other documents may have another rule: schema 1 leaves its signatures out.
            expect_digest(&response, told, descriptor.digest)?;
        }
        Ok((descriptor, bytes))
    }

    /// Fetches the manifest that `descriptor` is about.
    pub(crate) fn fetch_manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ClientError> {
        let (response, bytes) = self.fetch(&descriptor.digest.to_string())?;
        expect_digest(&response, descriptor.digest, Digest::of(&bytes))?;
        let found = u64::try_from(bytes.len()).expect("a length fits in 64 bits");
        if found != descriptor.size {
            return Err(ClientError::SizeMismatch {
                request: response.request(),
                expected: descriptor.size,
                found,
            });
        }
        Ok(bytes)
    }

    /// Tells whether the repository has the blob.
    pub(crate) fn blob_exists(&self, descriptor: &Descriptor) -> Result<bool, ClientError> {
        let url = self.blob_url(&descriptor.digest);
        let response = self.call_to_push(Request::new(Method::HEAD, url))?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(response
                .content_length()
                .is_none_or(|length| length == descriptor.size)),
            _ => Err(refusal(response)),
        }
    }

    /// Stores a manifest under `name`, a tag or its digest.
    pub(crate) fn upload_manifest(
        &self,
        media_type: &MediaType,
        bytes: &[u8],
        name: &str,
    ) -> Result<Digest, ClientError> {
        let digest = Digest::of(bytes);
        let url = self.url(&format!("manifests/{name}"));
        let kind = HeaderValue::from_str(&media_type.0)
            .map_err(|_| ClientError::InvalidMediaType(media_type.clone()))?;
        let request = Request::new(Method::PUT, url)
            .header(CONTENT_TYPE, kind)
            .body(bytes.to_vec());
        let response = self.call_to_push(request)?;
        if !response.status().is_success() {
            return Err(refusal(response));
        }
        match response.header(&CONTENT_DIGEST) {
            Some(told) if told != digest.to_string() => Err(response.invalid(Problem::StoredAs {
                expected: digest,
                found: told.to_owned(),
            })),
            _ => Ok(digest),
        }
    }

    pub(super) fn url(&self, rest: &str) -> Url {
        self.registry.url(&self.path, rest)
    }

    pub(super) fn blob_url(&self, digest: &Digest) -> Url {
        self.url(&format!("blobs/{digest}"))
    }

    pub(super) fn call(&self, request: Request) -> Result<Response, ClientError> {
        let scope = self.scope(Actions::Pull);
        self.registry.call(&self.courier, request, &[scope])
    }

    pub(super) fn call_to_push(&self, request: Request) -> Result<Response, ClientError> {
        let scope = self.scope(Actions::PullPush);
        self.registry.call(&self.courier, request, &[scope])
    }

    /// Returns what the server calls the repository at `path` of the registry.
    pub(super) fn path_of(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    pub(super) fn scope(&self, actions: Actions) -> Scope {
        Scope {
            repository: self.path.clone(),
            actions,
        }
    }

    pub(super) fn tag_or_digest(&self) -> String {
        match (self.reference.digest(), self.reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or(oci::DEFAULT_TAG).to_owned(),
        }
    }

    fn manifest_request(&self, method: Method, name: &str) -> Request {
        let accepted = HeaderValue::from_static(ACCEPTED_MANIFESTS);
        Request::new(method, self.url(&format!("manifests/{name}"))).header(ACCEPT, accepted)
    }

    fn fetch(&self, name: &str) -> Result<(Response, Vec<u8>), ClientError> {
        let mut response = self
            .call(self.manifest_request(Method::GET, name))
            .map_err(|error| self.explain(error))?;
        if !response.status().is_success() {
            return Err(self.explain(refusal(response)));
        }
        let bytes = response.read_all(MAX_MANIFEST_SIZE)?;
        Ok((response, bytes))
    }

    /// Says in docker's words what a refusal means for a pull.
    fn explain(&self, error: ClientError) -> ClientError {
        match error {
            ClientError::Refused { status, answer } => match answer.code() {
                "MANIFEST_UNKNOWN" => ClientError::ManifestUnknown {
                    name: self.reference.familiar(),
                    answer,
                },
                "NAME_UNKNOWN" => ClientError::RepositoryUnknown {
                    name: self.reference.familiar_repository(),
                    answer,
                },
                "DENIED" => ClientError::PullDenied {
                    name: self.reference.familiar_repository(),
                    answer,
                },
                _ => ClientError::Refused { status, answer },
            },
            ClientError::UnexpectedStatus { status, .. } if status == StatusCode::NOT_FOUND => {
                ClientError::ManifestUnknown {
                    name: self.reference.familiar(),
                    answer: Refusal::new("MANIFEST_UNKNOWN", "manifest unknown"),
                }
            }
            error => error,
        }
    }

    fn next_page(&self, response: &Response) -> Result<Option<Url>, ClientError> {
        let Some(link) = response.header(&reqwest::header::LINK) else {
            return Ok(None);
        };
        let target = link
            .strip_prefix('<')
            .and_then(|rest| rest.split_once('>'))
            .filter(|(_, parameters)| parameters.contains("next"))
            .map(|(target, _)| target)
            .ok_or_else(|| response.invalid(Problem::Header("Link")))?;
        let next = self
            .courier
            .locate(response.url(), target)
            .map_err(|problem| response.invalid(problem))?;
        if same_origin(&next, &self.registry.base) {
            Ok(Some(next))
        } else {
            Err(response.invalid(Problem::Location(target.to_owned())))
        }
    }
}

fn expect_digest(response: &Response, expected: Digest, found: Digest) -> Result<(), ClientError> {
    if expected == found {
        return Ok(());
    }
    Err(ClientError::DigestMismatch {
        request: response.request(),
        expected,
        found,
    })
}

fn media_type(response: &Response) -> Option<String> {
    let text = response.header(&CONTENT_TYPE)?;
    let text = text.split(';').next().unwrap_or(text).trim();
    Some(text.to_ascii_lowercase())
}

/// Returns the header's type, or the document's own when the header is a general one.
fn document_type(response: &Response, bytes: &[u8]) -> Result<String, ClientError> {
    let general = [
        "application/json",
        "application/octet-stream",
        "text/plain",
        "",
    ];
    if let Some(told) = media_type(response).filter(|told| !general.contains(&told.as_str())) {
        return Ok(told);
    }
    let outline: Outline =
        serde_json::from_slice(bytes).map_err(|_| response.invalid(Problem::Document))?;
    Ok(match outline {
        Outline {
            media_type: Some(own),
            ..
        } => own.0,
        Outline {
            manifests: Some(_), ..
        } => MediaType::OCI_INDEX.to_owned(),
        _ => MediaType::OCI_MANIFEST.to_owned(),
    })
}
