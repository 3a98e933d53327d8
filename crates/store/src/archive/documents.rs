//! The documents of an archive in docker 28's form: what is in it, for docker and as an OCI layout.

use std::collections::BTreeMap;

use oci::{Descriptor, DiffId, Digest, ImageId, Index, Manifest, MediaType, Reference};
use serde::Serialize;

use super::entry::blob_name;

/// Marks entries of `index.json` that were not made up for the archive: a manifest with uncompressed
/// layers does not show that by itself.
pub(crate) const RECEIVED: &str = "strata.received";

/// An image in `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    layer_sources: BTreeMap<DiffId, Descriptor>,
}

/// The images of an archive, as they are added.
#[derive(Default)]
pub(crate) struct Documents {
    index: Vec<Descriptor>,
    images: Vec<DockerImage>,
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

impl Documents {
    /// Adds an image of uncompressed layers, each with the length of its tar. Returns a manifest
    /// for it, which has to go into the archive as well.
    pub(crate) fn add(
        &mut self,
        names: &[Reference],
        config: &[u8],
        layers: &[(DiffId, u64)],
    ) -> Vec<u8> {
        let config = Descriptor::of(MediaType::OCI_CONFIG, config);
        let described = |(diff_id, size): &(DiffId, u64)| {
            Descriptor::new(MediaType::OCI_LAYER, *diff_id.digest(), *size)
        };
        let layers: Vec<(DiffId, Descriptor)> = layers
            .iter()
            .map(|layer| (layer.0, described(layer)))
            .collect();
        self.add_docker_image(names, &config.digest, &layers);
        let last = layers.last().map(|(_, layer)| layer.digest);
        let last = last.unwrap_or(config.digest);
        let manifest = to_json(&Manifest {
            schema_version: 2,
            media_type: Some(MediaType::OCI_MANIFEST.into()),
            config,
            layers: layers.into_iter().map(|(_, layer)| layer).collect(),
            annotations: None,
        });
        let descriptor = Descriptor::of(MediaType::OCI_MANIFEST, &manifest);
        self.add_to_index(names, &descriptor, &last);
        manifest
    }

    /// Adds an image with the layers of its manifest, which `descriptor` is about, or an index that
    /// leads to it. Both have to go into the archive as well. They are marked as [`RECEIVED`].
    pub(crate) fn add_described(
        &mut self,
        names: &[Reference],
        descriptor: &Descriptor,
        image: &ImageId,
        layers: &[(DiffId, Descriptor)],
    ) {
        self.add_docker_image(names, image.digest(), layers);
        let last = layers.last().map(|(diff_id, _)| diff_id.digest());
        let mut descriptor = descriptor.clone();
        let annotations = descriptor.annotations.get_or_insert_default();
        annotations.insert(RECEIVED.to_owned(), "true".to_owned());
        self.add_to_index(names, &descriptor, last.unwrap_or(image.digest()));
    }

    /// Returns the documents by name, in the order of the names.
    pub(crate) fn files(self) -> Vec<(&'static str, Vec<u8>)> {
        let mut manifest = to_json(&self.images);
        manifest.push(b'\n');
        let mut files = vec![
            ("index.json", index(self.index)),
            ("manifest.json", manifest),
            ("oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#.to_vec()),
        ];
        if !self.repositories.is_empty() {
            let mut repositories = to_json(&self.repositories);
            repositories.push(b'\n');
            files.push(("repositories", repositories));
        }
        files
    }

    fn add_docker_image(
        &mut self,
        names: &[Reference],
        config: &Digest,
        layers: &[(DiffId, Descriptor)],
    ) {
        self.images.push(DockerImage {
            config: blob_name(config),
            repo_tags: (!names.is_empty()).then(|| names.iter().map(Reference::familiar).collect()),
            layers: layers
                .iter()
                .map(|(_, layer)| blob_name(&layer.digest))
                .collect(),
            layer_sources: layers.iter().cloned().collect(),
        });
    }

    fn add_to_index(&mut self, names: &[Reference], descriptor: &Descriptor, last: &Digest) {
        if names.is_empty() {
            self.index.push(descriptor.clone());
            return;
        }
        for name in names {
            let name = name.clone().or_latest();
            let tag = name.tag().unwrap_or_default().to_owned();
            let mut annotations = descriptor.annotations.clone().unwrap_or_default();
            annotations.extend([
                ("io.containerd.image.name".to_owned(), name.to_string()),
                ("org.opencontainers.image.ref.name".to_owned(), tag.clone()),
            ]);
            self.index.push(Descriptor {
                annotations: Some(annotations),
                ..descriptor.clone()
            });
            let repository = self.repositories.entry(name.familiar_repository());
            repository.or_default().insert(tag, last.hex());
        }
    }
}

/// Returns `index.json`.
pub(crate) fn index(manifests: Vec<Descriptor>) -> Vec<u8> {
    to_json(&Index {
        schema_version: 2,
        media_type: Some(MediaType::OCI_INDEX.into()),
        manifests,
        annotations: None,
    })
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("invariant: the documents have string keys")
}
