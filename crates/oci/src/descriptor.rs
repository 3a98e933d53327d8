//! A pointer to content: what it is, how long, and its digest.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, Platform};

/// What a blob holds. Known types are constants; unknown ones are kept as they came.
/// [OCI image-spec, media-types.md](https://github.com/opencontainers/image-spec/blob/main/media-types.md)
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaType(pub String);

impl MediaType {
    /// An OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index: one manifest for each platform.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// An OCI layer: an uncompressed tar.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// An OCI layer compressed with gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// An OCI layer compressed with zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// A docker image manifest, version 2, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A docker manifest list: one manifest for each platform.
    pub const DOCKER_MANIFEST_LIST: &str =
        "application/vnd.docker.distribution.manifest.list.v2+json";
    /// A docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// A docker layer: an uncompressed tar.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// A docker layer compressed with gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

    /// Tells whether this is an image manifest of either family.
    pub fn is_manifest(&self) -> bool {
        matches!(self.0.as_str(), Self::OCI_MANIFEST | Self::DOCKER_MANIFEST)
    }

    /// Tells whether this is an index or manifest list.
    pub fn is_index(&self) -> bool {
        matches!(
            self.0.as_str(),
            Self::OCI_INDEX | Self::DOCKER_MANIFEST_LIST
        )
    }

    /// Tells whether this is an image configuration of either family.
    pub fn is_config(&self) -> bool {
        matches!(self.0.as_str(), Self::OCI_CONFIG | Self::DOCKER_CONFIG)
    }

    /// Tells whether this is a layer that can be unpacked (foreign layers are not).
    pub fn is_layer(&self) -> bool {
        matches!(
            self.0.as_str(),
            Self::OCI_LAYER
                | Self::OCI_LAYER_GZIP
                | Self::OCI_LAYER_ZSTD
                | Self::DOCKER_LAYER
                | Self::DOCKER_LAYER_GZIP
        )
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pointer to a blob.
/// [OCI image-spec, descriptor.md](https://github.com/opencontainers/image-spec/blob/main/descriptor.md)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob holds.
    pub media_type: MediaType,
    /// The digest of the blob.
    pub digest: Digest,
    /// The length of the blob in bytes.
    pub size: u64,
    /// Other places to fetch the blob from. Never followed: kept so that bytes re-serialise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
    /// Free-form notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// What the content is for; set in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The type of an artifact that is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// Returns a descriptor without notes or platform.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: None,
            annotations: None,
            platform: None,
            artifact_type: None,
        }
    }

    /// Returns a descriptor of `bytes`.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        let size = u64::try_from(bytes.len()).expect("a length fits in 64 bits");
        Self::new(media_type, Digest::of(bytes), size)
    }
}
