//! Writing archives in docker 28's form.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};

use oci::{Descriptor, Digest, ImageId, Reference};
use tar::EntryType;

use super::ArchiveError;
use super::documents::Documents;
use super::entry::{DIRECTORIES, END, blob_name, write_document, write_header, write_padding};
use crate::{ImageRecord, Store, StoreError};

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
    /// A blob or layer of the store.
    Stored {
        size: u64,
    },
}

/// What an archive holds, apart from the fixed parts.
#[derive(Default)]
struct Plan {
    blobs: BTreeMap<Digest, Blob>,
    documents: Documents,
}

/// Writes images as one tar that is an OCI layout and a docker archive. Equal images give equal
/// bytes. An image that was received goes in as it came, with its manifest and compressed layers;
/// one that was made here with uncompressed ones. A tag that leads to an index has the whole index
/// in it. The caller holds the root's lock shared.
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
            Blob::Stored { size } => write_stored(store, out, digest, *size)?,
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
        let mut names = Vec::new();
        for name in &image.names {
            if !self.add_index(store, &record, name)? {
                names.push(name.clone());
            }
        }
        if names.is_empty() && !image.names.is_empty() {
            return Ok(());
        }
        let Some(names) = self.add_received(store, &record, names)? else {
            return Ok(());
        };
        let config = store.image_config_bytes(&image.id)?;
        let mut layers = Vec::with_capacity(record.layers.len());
        for diff_id in &record.layers {
            let layer = store.layer(diff_id)?;
            let size = layer.ok_or(StoreError::LayerNotFound(*diff_id))?.tar_size;
            self.blobs.insert(*diff_id.digest(), Blob::Stored { size });
            layers.push((*diff_id, size));
        }
        let manifest = self.documents.add(&names, &config, &layers);
        for document in [config, manifest] {
            let digest = Digest::of(&document);
            self.blobs.insert(digest, Blob::Document(document));
        }
        Ok(())
    }

    /// Adds an image that was received as it came, under those of its names that came with a
    /// manifest whose blobs the store has. Returns the other names; `None` when nothing is left.
    fn add_received(
        &mut self,
        store: &Store,
        image: &ImageRecord,
        names: Vec<Reference>,
    ) -> Result<Option<Vec<Reference>>, ArchiveError> {
        let own = image.manifest.as_ref().filter(|_| image.received);
        let own = own.map(|manifest| manifest.digest);
        let mut by_manifest: BTreeMap<Option<Digest>, Vec<Reference>> = BTreeMap::new();
        if names.is_empty() {
            by_manifest.insert(own, Vec::new());
        }
        for name in names {
            let manifest = store.tag_manifest(&name)?.or(own);
            by_manifest.entry(manifest).or_default().push(name);
        }
        let mut others = None;
        for (manifest, names) in by_manifest {
            let is_added = match manifest {
                Some(manifest) => self.add_manifest(store, image, &names, &manifest)?,
                None => false,
            };
            if !is_added {
                others.get_or_insert_with(Vec::new).extend(names);
            }
        }
        Ok(others)
    }

    /// Adds an image with a manifest and its blobs as they are, if the store has all of them.
    fn add_manifest(
        &mut self,
        store: &Store,
        image: &ImageRecord,
        names: &[Reference],
        digest: &Digest,
    ) -> Result<bool, ArchiveError> {
        let Some(manifest) = store.manifest_document(&image.id, digest)? else {
            return Ok(false);
        };
        let mut blobs = Vec::with_capacity(manifest.layers.len() + 2);
        let layers = manifest.layers.iter().map(|layer| &layer.digest);
        for part in layers.chain([image.id.digest(), digest]) {
            match store.blob(part)? {
                Some(blob) => blobs.push(blob),
                None => return Ok(false),
            }
        }
        let descriptor = Descriptor::of(&manifest.media_type.0, &manifest.bytes);
        let layers: Vec<_> = image.layers.iter().copied().zip(manifest.layers).collect();
        self.documents
            .add_described(names, &descriptor, &image.id, &layers);
        self.add_stored(&blobs);
        Ok(true)
    }

    fn add_stored(&mut self, blobs: &[Descriptor]) {
        let stored = |blob: &Descriptor| (blob.digest, Blob::Stored { size: blob.size });
        self.blobs.extend(blobs.iter().map(stored));
    }

    /// Adds the index that a tag leads to, with all that it leads to as it is. Tells whether the
    /// tag leads to an index.
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
        let layers: Vec<_> = image.layers.iter().copied().zip(manifest.layers).collect();
        let names = std::slice::from_ref(name);
        self.documents
            .add_described(names, index, &image.id, &layers);
        self.add_stored(&blobs);
        Ok(true)
    }
}

fn write_stored(
    store: &Store,
    out: &mut File,
    digest: &Digest,
    size: u64,
) -> Result<(), ArchiveError> {
    let blob = store.open_blob(digest)?;
    let blob = blob.ok_or(StoreError::BlobNotFound(*digest))?;
    let failed = ArchiveError::Write;
    write_header(out, &blob_name(digest), EntryType::Regular, size).map_err(failed)?;
    // Between files this is copy_file_range or splice: the bytes stay in the kernel.
    let copied = io::copy(&mut blob.take(size), out).map_err(failed)?;
    if copied != size {
        return Err(ArchiveError::Store(StoreError::SizeMismatch {
            digest: *digest,
            expected: size,
            found: copied,
        }));
    }
    write_padding(out, size).map_err(failed)
}
