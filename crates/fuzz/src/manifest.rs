//! Manifests and indexes.

use oci::{ManifestOrIndex, MediaType, Platform};

/// Parses `data` as a manifest or index: without a type, and as each type that there is. All that
/// take it see the same document; a document is never a manifest to one and an index to another.
pub fn manifest(data: &[u8]) {
    let types = [
        MediaType::OCI_MANIFEST,
        MediaType::OCI_INDEX,
        MediaType::DOCKER_MANIFEST,
        MediaType::DOCKER_MANIFEST_LIST,
    ];
    let typed = types.map(|kind| ManifestOrIndex::parse(Some(&kind.into()), data));
    let untyped = ManifestOrIndex::parse(None, data);
    let seen: Vec<&ManifestOrIndex> = typed.iter().chain([&untyped]).flatten().collect();
    for one in &seen {
        match one {
            ManifestOrIndex::Manifest(manifest) => {
                assert_eq!(manifest.schema_version, 2);
                let bytes = serde_json::to_vec(manifest).expect("written");
                let kind = manifest.media_type.as_ref();
                let again = ManifestOrIndex::parse(kind, &bytes).expect("read again");
                assert_eq!(&again, *one);
            }
            ManifestOrIndex::Index(index) => {
                assert_eq!(index.schema_version, 2);
                let bytes = serde_json::to_vec(index).expect("written");
                let kind = MediaType::from(MediaType::OCI_INDEX);
                let kind = index.media_type.as_ref().unwrap_or(&kind);
                let again = ManifestOrIndex::parse(Some(kind), &bytes).expect("read again");
                assert_eq!(&again, *one);
                let platform: Platform = "linux/amd64".parse().expect("a platform");
                let chosen = index.select(&platform);
                assert!(chosen.is_none_or(|entry| entry.media_type.is_manifest()));
            }
        }
    }
    let says_much = |one: &&&ManifestOrIndex| match one {
        ManifestOrIndex::Manifest(_) => true,
        ManifestOrIndex::Index(index) => !index.manifests.is_empty(),
    };
    let mut telling = seen.iter().filter(says_much);
    if let Some(first) = telling.next() {
        assert!(
            telling.all(|other| other == first),
            "two readers see two documents"
        );
    }
}
