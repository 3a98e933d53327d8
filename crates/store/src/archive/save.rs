//! Writing archives in docker 28's form.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};

use oci::{DiffId, Digest, ImageId, Reference};
use tar::EntryType;

use super::ArchiveError;
use super::documents::Documents;
use super::entry::{DIRECTORIES, END, blob_name, write_document, write_header, write_padding};
use crate::{Store, StoreError};

/// An image to save, and the names it gets in the archive.
#[derive(Debug, Clone)]
pub struct SavedImage {
    /// The image.
    pub id: ImageId,
    /// Names with tags; may be empty.
    pub names: Vec<Reference>,
}

/// A blob of the archive.
enum Blob {
    Document(Vec<u8>),
    Layer { size: u64 },
}

/// What an archive holds, apart from the fixed parts.
#[derive(Default)]
struct Plan {
    blobs: BTreeMap<Digest, Blob>,
    documents: Documents,
}

/// Writes images as one tar that is an OCI layout and a docker archive. Equal images give equal
/// bytes. The caller holds the root's lock shared.
pub fn save(store: &Store, images: &[SavedImage], out: &mut File) -> Result<(), ArchiveError> {
    let mut plan = Plan::default();
    for image in merged(images) {
        plan.add(store, &image)?;
    }
    let failed = ArchiveError::Write;
    for directory in DIRECTORIES {
        write_header(out, directory, EntryType::Directory, 0).map_err(failed)?;
    }
    for (digest, blob) in &plan.blobs {
        match blob {
            Blob::Document(bytes) => {
                write_document(out, &blob_name(digest), bytes).map_err(failed)?;
            }
            Blob::Layer { size } => write_layer(store, out, &DiffId(*digest), *size)?,
        }
    }
    for (name, bytes) in &plan.documents.files() {
        write_document(out, name, bytes).map_err(failed)?;
    }
    out.write_all(&END).map_err(failed)
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
        let config = store.image_config_bytes(&image.id)?;
        let mut layers = Vec::with_capacity(record.layers.len());
        for diff_id in &record.layers {
            let layer = store.layer(diff_id)?;
            let size = layer.ok_or(StoreError::LayerNotFound(*diff_id))?.tar_size;
            self.blobs.insert(*diff_id.digest(), Blob::Layer { size });
            layers.push((*diff_id, size));
        }
        let manifest = self.documents.add(&image.names, &config, &layers);
        for document in [config, manifest] {
            let digest = Digest::of(&document);
            self.blobs.insert(digest, Blob::Document(document));
        }
        Ok(())
    }
}

fn write_layer(
    store: &Store,
    out: &mut File,
    diff_id: &DiffId,
    size: u64,
) -> Result<(), ArchiveError> {
    let tar = store.open_blob(diff_id.digest())?;
    let tar = tar.ok_or(StoreError::LayerNotFound(*diff_id))?;
    let name = blob_name(diff_id.digest());
    let failed = ArchiveError::Write;
    write_header(out, &name, EntryType::Regular, size).map_err(failed)?;
    // Between files this is copy_file_range or splice: the bytes stay in the kernel.
    let copied = io::copy(&mut tar.take(size), out).map_err(failed)?;
    if copied != size {
        return Err(ArchiveError::Store(StoreError::SizeMismatch {
            digest: *diff_id.digest(),
            expected: size,
            found: copied,
        }));
    }
    write_padding(out, size).map_err(failed)
}
