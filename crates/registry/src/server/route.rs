//! What a path of the registry protocol asks for.

use oci::{Digest, Reference};

use super::failure::Failure;

/// A parsed path.
/// [OCI distribution-spec, endpoints](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#endpoints)
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/v2/`
    Version,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags(Reference),
    /// `/v2/<name>/manifests/<tag or digest>`
    Manifest(Reference),
    /// `/v2/<name>/blobs/<digest>`
    Blob(Reference, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(Reference),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(Reference, String),
}

impl Route {
    /// Parses the path of a URL.
    pub(crate) fn parse(path: &str) -> Result<Self, Failure> {
        // Digests are the only part that clients are seen to escape.
        let path = path.replace("%3A", ":").replace("%3a", ":");
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Self::Version),
            Some(rest) => rest.strip_prefix('/').ok_or_else(Failure::not_found)?,
            None => return Err(Failure::not_found()),
        };
        if rest == "_catalog" {
            return Ok(Self::Catalog);
        }
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Ok(Self::Tags(repository(name)?));
        }
        if let Some(name) = rest
            .strip_suffix("/blobs/uploads/")
            .or_else(|| rest.strip_suffix("/blobs/uploads"))
        {
            return Ok(Self::Uploads(repository(name)?));
        }
        let (above, last) = rest.rsplit_once('/').ok_or_else(Failure::not_found)?;
        if let Some(name) = above.strip_suffix("/blobs/uploads") {
            return Ok(Self::Upload(repository(name)?, last.to_owned()));
        }
        let (name, noun) = above.rsplit_once('/').ok_or_else(Failure::not_found)?;
        match noun {
            "manifests" => Ok(Self::Manifest(named(name, last)?)),
            "blobs" => Ok(Self::Blob(repository(name)?, digest(last)?)),
            // Clients take 404 for "not supported" and look for the tag that stands in for it.
            "referrers" => Err(Failure::not_found()),
            _ => Err(Failure::not_found()),
        }
    }
}

/// Parses a repository: the name without registry, or with the one it was pulled from.
pub(crate) fn repository(name: &str) -> Result<Reference, Failure> {
    if name.contains([':', '@']) {
        return Err(Failure::name_invalid(name));
    }
    Reference::parse(name).map_err(|_| Failure::name_invalid(name))
}

fn named(name: &str, reference: &str) -> Result<Reference, Failure> {
    let repository = repository(name)?;
    if reference.contains(':') {
        return Ok(repository.with_digest(digest(reference)?));
    }
    repository
        .with_tag(reference)
        .map_err(|_| Failure::manifest_unknown())
}

/// Parses a digest of a path or query.
pub(crate) fn digest(text: &str) -> Result<Digest, Failure> {
    text.parse().map_err(|_| Failure::digest_invalid(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn paths_are_parsed_from_their_end() {
        let name = |text: &str| Reference::parse(text).expect("valid");
        let empty = Digest::of(b"");
        for (path, expected) in [
            ("/v2".to_owned(), Route::Version),
            ("/v2/".to_owned(), Route::Version),
            ("/v2/_catalog".to_owned(), Route::Catalog),
            ("/v2/app/tags/list".to_owned(), Route::Tags(name("app"))),
            (
                "/v2/quay.io/a/b/manifests/1.0".to_owned(),
                Route::Manifest(name("quay.io/a/b:1.0")),
            ),
            (
                format!("/v2/app/manifests/sha256:{HEX}"),
                Route::Manifest(name(&format!("app@sha256:{HEX}"))),
            ),
            (
                format!("/v2/app/blobs/sha256%3A{HEX}"),
                Route::Blob(name("app"), empty),
            ),
            (
                format!("/v2/blobs/manifests/blobs/sha256:{HEX}"),
                Route::Blob(name("blobs/manifests"), empty),
            ),
            (
                "/v2/app/blobs/uploads/".to_owned(),
                Route::Uploads(name("app")),
            ),
            (
                "/v2/app/blobs/uploads/x1".to_owned(),
                Route::Upload(name("app"), "x1".to_owned()),
            ),
        ] {
            assert_eq!(Route::parse(&path).ok(), Some(expected), "{path}");
        }
    }

    #[test]
    fn other_paths_are_refused() {
        for path in [
            "/",
            "/v1/",
            "/v2x",
            "/v2/app",
            "/v2/app/manifests",
            "/v2/../../etc/passwd/manifests/x",
            "/v2/APP/manifests/x",
            "/v2/a:b/manifests/x",
            "/v2/app/manifests/a b",
            "/v2/app/manifests/sha256:x",
            "/v2/app/blobs/latest",
            "/v2//manifests/x",
        ] {
            assert!(Route::parse(path).is_err(), "{path}");
        }
    }
}
