//! Answers that are not what was asked for.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RANGE};
use axum::http::{Response, StatusCode};
use serde_json::json;
use store::StoreError;

/// A refusal, with the status and error code that the protocol has for it.
/// [OCI distribution-spec, error codes](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes)
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
    header: Option<(HeaderName, String)>,
    /// What the operator is told and the client is not.
    pub(crate) cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            header: None,
            cause: None,
        }
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "no such endpoint")
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the operation is unsupported";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    pub(crate) fn read_only() -> Self {
        let message = "this registry can only be pulled from";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "DENIED", message)
    }

    pub(crate) fn name_invalid(name: &str) -> Self {
        let message = format!("invalid repository name `{name}`");
        Self::new(StatusCode::BAD_REQUEST, "NAME_INVALID", message)
    }

    pub(crate) fn name_unknown() -> Self {
        let message = "repository name not known to registry";
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", message)
    }

    pub(crate) fn manifest_unknown() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "MANIFEST_UNKNOWN",
            "manifest unknown",
        )
    }

    pub(crate) fn manifest_invalid(problem: &dyn std::error::Error) -> Self {
        let message = chain(problem);
        Self::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message)
    }

    pub(crate) fn too_many_documents(limit: usize) -> Self {
        let message = format!("index leads to more than {limit} manifests");
        Self::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message)
    }

    pub(crate) fn manifest_too_large(limit: u64) -> Self {
        let message = format!("manifest exceeds {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message)
    }

    pub(crate) fn manifest_blob_unknown(digest: &oci::Digest) -> Self {
        let message = format!("blob {digest} of the manifest is unknown to the registry");
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN", message)
    }

    pub(crate) fn blob_unknown() -> Self {
        let message = "blob unknown to registry";
        Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", message)
    }

    pub(crate) fn digest_invalid(text: &str) -> Self {
        let message = format!("provided digest did not match uploaded content: `{text}`");
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
    }

    pub(crate) fn upload_unknown() -> Self {
        let message = "blob upload unknown to registry";
        Self::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", message)
    }

    pub(crate) fn upload_invalid(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)
    }

    /// Heard only by a proxy, or by a client that can still listen: it may go on.
    pub(crate) fn upload_broken() -> Self {
        let message = "the body ended early";
        Self::new(StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID", message)
    }

    /// The chunk does not begin where the last one ended, at `offset`.
    pub(crate) fn out_of_order(offset: u64) -> Self {
        Self {
            header: Some((RANGE, format!("0-{}", offset.saturating_sub(1)))),
            ..Self::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "BLOB_UPLOAD_INVALID",
                "the chunk does not continue the upload",
            )
        }
    }

    pub(crate) fn too_many_uploads() -> Self {
        let message = "too many uploads at once";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message)
    }

    pub(crate) fn range_not_satisfiable(size: u64) -> Self {
        Self {
            header: Some((axum::http::header::CONTENT_RANGE, format!("bytes */{size}"))),
            ..Self::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "SIZE_INVALID",
                "the range lies outside the blob",
            )
        }
    }

    /// Something is wrong on this side; `cause` is for the operator only.
    pub(crate) fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            cause: Some(cause.into()),
            ..Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "UNKNOWN",
                "internal error",
            )
        }
    }

    /// Returns the answer.
    pub(crate) fn into_response(self) -> Response<Body> {
        let error = json!({ "code": self.code, "message": self.message });
        let document = json!({ "errors": [error] }).to_string();
        let mut response = Response::new(Body::from(document));
        *response.status_mut() = self.status;
        let kind = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        if let Some((name, value)) = self.header
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::internal(error)
    }
}

/// Joins an error and its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
