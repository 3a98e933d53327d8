//! Writing archives in docker 28's form.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};

use oci::{Descriptor, DiffId, Digest, ImageId, Index, Manifest, MediaType, Reference};
use serde::Serialize;

use super::ArchiveError;
use super::source::blob_name;
use crate::{ImageRecord, Store, StoreError};

const BLOCK: u64 = 512;

/// An image to save, and the names it gets in the archive.
#[derive(Debug, Clone)]
pub struct SavedImage {
    /// The image.
    pub id: ImageId,
    /// Names with tags; may be empty.
    pub names: Vec<Reference>,
}

/// An image in `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    layer_sources: BTreeMap<DiffId, Descriptor>,
}

/// A blob of the archive.
enum Blob {
    Document(Vec<u8>),
    /// A blob or layer of the store.
    Stored {
        size: u64,
    },
}

/// What an archive holds, apart from the fixed parts.
#[derive(Default)]
struct Plan {
    blobs: BTreeMap<Digest, Blob>,
    index: Vec<Descriptor>,
    images: Vec<DockerImage>,
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

/// Writes images as one tar that is an OCI layout and a docker archive. Equal images give equal
/// bytes. A tag that leads to an index has the whole index in it. The caller holds the root's lock shared.
pub fn save(store: &Store, images: &[SavedImage], out: &mut File) -> Result<(), ArchiveError> {
    let mut plan = Plan::default();
    for image in merged(images) {
        plan.add(store, &image)?;
    }
    let index = Index {
        schema_version: 2,
        media_type: Some(MediaType::OCI_INDEX.into()),
        manifests: plan.index,
        annotations: None,
    };
    let mut manifest = to_json(&plan.images);
    manifest.push(b'\n');
    let mut documents = vec![
        ("index.json", to_json(&index)),
        ("manifest.json", manifest),
        ("oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#.to_vec()),
    ];
    if !plan.repositories.is_empty() {
        let mut repositories = to_json(&plan.repositories);
        repositories.push(b'\n');
        documents.push(("repositories", repositories));
    }
    for directory in ["blobs/", "blobs/sha256/"] {
        write_header(out, directory, tar::EntryType::Directory, 0)?;
    }
    for (digest, blob) in &plan.blobs {
        let name = blob_name(digest);
        match blob {
            Blob::Document(bytes) => write_document(out, &name, bytes)?,
            Blob::Stored { size } => write_stored(store, out, digest, *size)?,
        }
    }
    for (name, bytes) in &documents {
        write_document(out, name, bytes)?;
    }
    out.write_all(&[0; 1024]).map_err(ArchiveError::Write)
}

/// An image that was asked for under several names is one image with several names.
fn merged(images: &[SavedImage]) -> Vec<SavedImage> {
    let mut merged: Vec<SavedImage> = Vec::new();
    for image in images {
        match merged.iter_mut().find(|known| known.id == image.id) {
            None => merged.push(image.clone()),
            Some(known) => {
                for name in &image.names {
                    if !known.names.contains(name) {
                        known.names.push(name.clone());
                    }
                }
            }
        }
    }
    merged
}

impl Plan {
    fn add(&mut self, store: &Store, image: &SavedImage) -> Result<(), ArchiveError> {
        let record = store.image(&image.id)?;
        let record = record.ok_or(StoreError::ImageNotFound(image.id))?;
        let mut names = Vec::new();
        for name in &image.names {
            if !self.add_index(store, &record, name)? {
                names.push(name.clone());
            }
        }
        if names.is_empty() && !image.names.is_empty() {
            return Ok(());
        }
        let config = store.image_config_bytes(&image.id)?;
        let mut layers = Vec::with_capacity(record.layers.len());
        for diff_id in &record.layers {
            let layer = store.layer(diff_id)?;
            let size = layer.ok_or(StoreError::LayerNotFound(*diff_id))?.tar_size;
            self.blobs.insert(*diff_id.digest(), Blob::Stored { size });
            layers.push(Descriptor::new(
                MediaType::OCI_LAYER,
                *diff_id.digest(),
                size,
            ));
        }
        self.add_docker_image(&record, &names, &layers);
        let manifest = to_json(&Manifest {
            schema_version: 2,
            media_type: Some(MediaType::OCI_MANIFEST.into()),
            config: Descriptor::of(MediaType::OCI_CONFIG, &config),
            layers,
            annotations: None,
        });
        self.add_to_index(
            &names,
            &Descriptor::of(MediaType::OCI_MANIFEST, &manifest),
            &record,
        );
        self.add_document(config);
        self.add_document(manifest);
        Ok(())
    }

    /// Adds the index that a tag leads to, with all that it leads to as it is. `manifest.json`
    /// has the tag's image, with the layers of its manifest in the index. Tells whether the tag
    /// leads to an index.
    fn add_index(
        &mut self,
        store: &Store,
        image: &ImageRecord,
        name: &Reference,
    ) -> Result<bool, ArchiveError> {
        let Some(document) = store.tag_document(name)? else {
            return Ok(false);
        };
        let mut blobs = Vec::new();
        let mut manifest = None;
        for part in store.tag_document_parts(name)? {
            let blob = store.blob(&part)?;
            let blob = blob.ok_or(StoreError::BlobNotFound(part))?;
            if manifest.is_none() && blob.media_type.is_manifest() {
                manifest = store.manifest_document(&image.id, &part)?;
            }
            blobs.push(blob);
        }
        let index = blobs.iter().find(|blob| blob.digest == document);
        let (Some(index), Some(manifest)) = (index, manifest) else {
            return Ok(false);
        };
        let names = std::slice::from_ref(name);
        self.add_docker_image(image, names, &manifest.layers);
        self.add_to_index(names, index, image);
        let stored = |blob: &Descriptor| (blob.digest, Blob::Stored { size: blob.size });
        self.blobs.extend(blobs.iter().map(stored));
        Ok(true)
    }

    fn add_docker_image(
        &mut self,
        image: &ImageRecord,
        names: &[Reference],
        layers: &[Descriptor],
    ) {
        self.images.push(DockerImage {
            config: blob_name(image.id.digest()),
            repo_tags: (!names.is_empty()).then(|| names.iter().map(Reference::familiar).collect()),
            layers: layers
                .iter()
                .map(|layer| blob_name(&layer.digest))
                .collect(),
            layer_sources: image
                .layers
                .iter()
                .copied()
                .zip(layers.iter().cloned())
                .collect(),
        });
    }

    fn add_to_index(&mut self, names: &[Reference], descriptor: &Descriptor, image: &ImageRecord) {
        let last = image
            .layers
            .last()
            .map_or(image.id.digest(), DiffId::digest);
        if names.is_empty() {
            self.index.push(descriptor.clone());
            return;
        }
        for name in names {
            let name = name.clone().or_latest();
            let tag = name.tag().unwrap_or_default().to_owned();
            let annotations = BTreeMap::from([
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

    fn add_document(&mut self, bytes: Vec<u8>) {
        self.blobs.insert(Digest::of(&bytes), Blob::Document(bytes));
    }
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("invariant: the documents have string keys")
}

fn write_document(out: &mut File, name: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    write_header(out, name, tar::EntryType::Regular, size)?;
    out.write_all(bytes).map_err(ArchiveError::Write)?;
    write_padding(out, size)
}

fn write_stored(
    store: &Store,
    out: &mut File,
    digest: &Digest,
    size: u64,
) -> Result<(), ArchiveError> {
    let blob = store.open_blob(digest)?;
    let blob = blob.ok_or(StoreError::BlobNotFound(*digest))?;
    write_header(out, &blob_name(digest), tar::EntryType::Regular, size)?;
    // Between files this is copy_file_range or splice: the bytes stay in the kernel.
    let copied = io::copy(&mut blob.take(size), out).map_err(ArchiveError::Write)?;
    if copied != size {
        return Err(ArchiveError::Store(StoreError::SizeMismatch {
            digest: *digest,
            expected: size,
            found: copied,
        }));
    }
    write_padding(out, size)
}

fn write_padding(out: &mut File, size: u64) -> Result<(), ArchiveError> {
    let length = usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or(0);
    out.write_all(&[0; 512][..length])
        .map_err(ArchiveError::Write)
}

/// Writes a header that depends on nothing but its arguments.
fn write_header(
    out: &mut File,
    name: &str,
    kind: tar::EntryType,
    size: u64,
) -> Result<(), ArchiveError> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).map_err(ArchiveError::Write)?;
    header.set_entry_type(kind);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    out.write_all(header.as_bytes())
        .map_err(ArchiveError::Write)
}
