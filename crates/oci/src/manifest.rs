//! Image manifests and indexes.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use crate::fields::PlainFields;
use crate::{Descriptor, MediaType, Platform};

/// The longest manifest or index that is read, in bytes: the limit that registries keep.
/// [OCI distribution-spec](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests)
pub const MAX_MANIFEST_SIZE: u64 = 4 << 20;

/// One image for one platform: its configuration and its layers, bottom first.
/// [OCI image-spec, manifest.md](https://github.com/opencontainers/image-spec/blob/main/manifest.md)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The type of this document; docker requires it, OCI recommends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, bottom first.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub layers: Vec<Descriptor>,
    /// Free-form notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// One image for several platforms.
/// [OCI image-spec, image-index.md](https://github.com/opencontainers/image-spec/blob/main/image-index.md)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The type of this document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// A manifest (or a further index) for each platform.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub manifests: Vec<Descriptor>,
    /// Free-form notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// What a registry answers to a request for a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestOrIndex {
    /// One platform.
    Manifest(Box<Manifest>),
    /// Several platforms.
    Index(Index),
}

/// Why a document is not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of the expected shape.
    #[error("malformed manifest")]
    Malformed(#[source] serde_json::Error),
    /// `schemaVersion` is not 2.
    #[error("unsupported manifest schema version {0}: expected 2")]
    UnsupportedSchema(u32),
    /// The type is none that this program knows.
    #[error("unsupported manifest media type `{0}`")]
    UnsupportedMediaType(MediaType),
    /// The document names one type, its context another.
    #[error("manifest media type is `{found}`, expected `{expected}`")]
    MediaTypeMismatch {
        /// What the context (header or descriptor) says.
        expected: MediaType,
        /// What the document says.
        found: MediaType,
    },
    /// The document has the fields of a manifest and those of an index (CVE-2021-41190).
    #[error("ambiguous manifest: has the fields of a manifest and of an index")]
    Ambiguous,
    /// The document is longer than [`MAX_MANIFEST_SIZE`].
    #[error("manifest of {0} bytes exceeds the limit of {MAX_MANIFEST_SIZE}")]
    TooLarge(u64),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<MediaType>,
    #[serde(default)]
    config: Option<IgnoredAny>,
    #[serde(default)]
    layers: Option<IgnoredAny>,
    #[serde(default)]
    fs_layers: Option<IgnoredAny>,
    #[serde(default)]
    manifests: Option<IgnoredAny>,
}

impl ManifestOrIndex {
    /// Parses `bytes`, which their context (a `Content-Type`, a descriptor) calls `media_type`.
    ///
    /// A document whose own media type differs from its context's, that could be read as a
    /// manifest and as an index, that has a field twice, or one whose name differs from a known one
    /// by its case only, is refused: two readers must not see two images
    /// ([CVE-2021-41190](https://github.com/opencontainers/image-spec/security/advisories/GHSA-77vh-xpmg-72qh)).
    pub fn parse(media_type: Option<&MediaType>, bytes: &[u8]) -> Result<Self, ManifestError> {
        let size = u64::try_from(bytes.len()).expect("a length fits in 64 bits");
        if size > MAX_MANIFEST_SIZE {
            return Err(ManifestError::TooLarge(size));
        }
        let outline: Outline = serde_json::from_slice(bytes).map_err(ManifestError::Malformed)?;
        let _: PlainFields = serde_json::from_slice(bytes).map_err(ManifestError::Malformed)?;
        if outline.schema_version != 2 {
            return Err(ManifestError::UnsupportedSchema(outline.schema_version));
        }
        let media_type = match (media_type, outline.media_type) {
            (Some(expected), Some(found)) if *expected != found => {
                return Err(ManifestError::MediaTypeMismatch {
                    expected: expected.clone(),
                    found,
                });
            }
            (Some(media_type), _) => media_type.clone(),
            (None, Some(media_type)) => media_type,
            (None, None) if outline.manifests.is_some() => MediaType::OCI_INDEX.into(),
            (None, None) => MediaType::OCI_MANIFEST.into(),
        };
        let like_manifest =
            outline.config.is_some() || outline.layers.is_some() || outline.fs_layers.is_some();
        if like_manifest && outline.manifests.is_some() {
            return Err(ManifestError::Ambiguous);
        }
        if media_type.is_manifest() {
            let manifest = serde_json::from_slice(bytes).map_err(ManifestError::Malformed)?;
            return Ok(Self::Manifest(manifest));
        }
        if media_type.is_index() {
            if like_manifest {
                return Err(ManifestError::Ambiguous);
            }
            let index = serde_json::from_slice(bytes).map_err(ManifestError::Malformed)?;
            return Ok(Self::Index(index));
        }
        Err(ManifestError::UnsupportedMediaType(media_type))
    }
}

impl Index {
    /// Returns the first entry that serves `platform`, preferring an exact match.
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        let candidates = || {
            self.manifests
                .iter()
                .filter(|entry| entry.media_type.is_manifest())
        };
        candidates()
            .find(|entry| entry.platform.as_ref() == Some(platform))
            .or_else(|| {
                candidates().find(|entry| {
                    entry
                        .platform
                        .as_ref()
                        .is_some_and(|have| have.serves(platform))
                })
            })
            .or_else(|| {
                let mut without = candidates().filter(|entry| entry.platform.is_none());
                without.next().filter(|_| self.manifests.len() == 1)
            })
    }
}

pub(crate) fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,
        "digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}"#;

    fn parse(media_type: Option<&str>, text: &str) -> Result<ManifestOrIndex, ManifestError> {
        ManifestOrIndex::parse(media_type.map(MediaType::from).as_ref(), text.as_bytes())
    }

    #[test]
    fn a_manifest_with_null_layers_has_none() {
        let text = format!(r#"{{"schemaVersion":2,"config":{CONFIG},"layers":null}}"#);
        let Ok(ManifestOrIndex::Manifest(manifest)) = parse(None, &text) else {
            panic!("not a manifest")
        };
        assert!(manifest.layers.is_empty());
    }

    #[test]
    fn a_document_that_is_manifest_and_index_is_refused() {
        let text = format!(r#"{{"schemaVersion":2,"config":{CONFIG},"layers":[],"manifests":[]}}"#);
        for media_type in [
            None,
            Some(MediaType::OCI_MANIFEST),
            Some(MediaType::OCI_INDEX),
        ] {
            assert!(matches!(
                parse(media_type, &text),
                Err(ManifestError::Ambiguous)
            ));
        }
    }

    #[test]
    fn a_field_that_others_read_as_another_is_refused() {
        for more in [
            r#""Layers":[]"#,
            r#""MANIFESTS":[]"#,
            r#""layer\u017f":[]"#,
            r#""layers":[],"layers":[]"#,
            r#""layers":[{"Digest":"x"}]"#,
            r#""mediatype":"x""#,
        ] {
            let text = format!(r#"{{"schemaVersion":2,"config":{CONFIG},{more}}}"#);
            let error = parse(None, &text).expect_err(more);
            assert!(matches!(error, ManifestError::Malformed(_)), "{more}");
        }
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(99_999), "]".repeat(99_999));
        assert!(matches!(
            parse(None, &deep.replace("{", r#"{"schemaVersion":2,"#)),
            Err(ManifestError::Malformed(_))
        ));
        let free = r#""annotations":{"Config":"x","config":"y"},"other":{"a":1,"b":[null,2.5]}"#;
        let text = format!(r#"{{"schemaVersion":2,"config":{CONFIG},{free}}}"#);
        parse(None, &text).expect("names that nobody mistakes");
    }

    #[test]
    fn a_media_type_that_differs_from_its_context_is_refused() {
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
            MediaType::OCI_INDEX
        );
        assert!(matches!(
            parse(Some(MediaType::OCI_MANIFEST), &text),
            Err(ManifestError::MediaTypeMismatch { .. })
        ));
    }

    #[test]
    fn schema_one_is_refused_by_number() {
        assert!(matches!(
            parse(None, r#"{"schemaVersion":1}"#),
            Err(ManifestError::UnsupportedSchema(1))
        ));
    }

    #[test]
    fn an_index_selects_the_wanted_platform() {
        let entry = |platform: &str| {
            let mut entry = Descriptor::of(MediaType::OCI_MANIFEST, platform.as_bytes());
            entry.platform = Some(platform.parse().expect("valid"));
            entry
        };
        let index = Index {
            schema_version: 2,
            media_type: None,
            manifests: vec![entry("linux/amd64"), entry("linux/arm64/v8")],
            annotations: None,
        };
        let arm: Platform = "linux/arm64".parse().expect("valid");
        assert_eq!(index.select(&arm), Some(&index.manifests[1]));
        assert_eq!(index.select(&"linux/s390x".parse().expect("valid")), None);
    }
}
