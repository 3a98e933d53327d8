//! Where content can come from again.

use std::collections::BTreeSet;

use oci::{Descriptor, DiffId, Digest, MAX_MANIFEST_SIZE, ManifestOrIndex, MediaType};
use rusqlite::{OptionalExtension as _, params};

use crate::{ImageRecord, Store, StoreError, db};

/// A blob, and the repositories that may have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobSource {
    /// The blob.
    pub descriptor: Descriptor,
    /// As they are recorded: `docker.io/library/debian`. The likeliest first.
    pub repositories: Vec<String>,
}

impl Store {
    /// Returns how a blob can be had again; `None` when nothing tells its length and type.
    pub fn blob_source(&self, digest: &Digest) -> Result<Option<BlobSource>, StoreError> {
        let images = self.images_with(digest)?;
        let Some(descriptor) = self.known_descriptor(digest, &images)? else {
            return Ok(None);
        };
        Ok(Some(BlobSource {
            descriptor,
            repositories: self.repositories(digest, &images)?,
        }))
    }

    /// Returns the blobs that a layer can be unpacked from, the stored ones first: its tar and all
    /// compressed forms that records and manifests name.
    pub fn layer_sources(&self, layer: &DiffId) -> Result<Vec<BlobSource>, StoreError> {
        let images = self.images_with(layer.digest())?;
        let mut blobs = self.compressed(layer)?;
        let recorded: Vec<Descriptor> = self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT digest, media_type, size FROM compressions WHERE diff_id = ?1",
            )?;
            let rows = query.query_map([layer.digest().as_bytes()], |row| {
                let media_type: String = row.get(1)?;
                let digest = db::digest(row, 0)?;
                Ok(Descriptor::new(&media_type, digest, db::to_u64(row, 2)?))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?;
        blobs.extend(recorded);
        for image in &images {
            for manifest in self.manifests_of(image)? {
                let pairs = image.layers.iter().zip(manifest.layers);
                blobs.extend(
                    pairs
                        .filter(|(found, _)| *found == layer)
                        .map(|(_, blob)| blob),
                );
            }
        }
        if let Some(size) = self.recorded_tar_size(layer)? {
            blobs.push(Descriptor::new(MediaType::OCI_LAYER, *layer.digest(), size));
        }
        let mut seen = BTreeSet::new();
        let mut sources = Vec::new();
        for descriptor in blobs {
            if seen.insert(descriptor.digest) {
                sources.push(BlobSource {
                    repositories: self.repositories(&descriptor.digest, &images)?,
                    descriptor,
                });
            }
        }
        Ok(sources)
    }

    fn recorded_tar_size(&self, layer: &DiffId) -> Result<Option<u64>, StoreError> {
        self.read(|connection| {
            let query = "SELECT tar_size FROM layers WHERE diff_id = ?1";
            let mut query = connection.prepare_cached(query)?;
            let size = query.query_row([layer.digest().as_bytes()], |row| db::to_u64(row, 0));
            Ok(size.optional()?)
        })
    }

    /// Finds the images that need a configuration, manifest, layer or compressed layer, or that
    /// have the tag of an index that does.
    fn images_with(&self, digest: &Digest) -> Result<Vec<ImageRecord>, StoreError> {
        let key = digest.as_bytes();
        let (layer, tagged) = self.read(|connection| {
            let query = "SELECT diff_id FROM compressions WHERE digest = ?1";
            let layer = connection
                .query_row(query, [key], |row| db::digest(row, 0))
                .optional()?;
            let mut query = connection.prepare_cached(
                "SELECT image FROM tags WHERE manifest = ?1 OR name IN
                    (SELECT name FROM served_parts WHERE part = ?1)",
            )?;
            let rows = query.query_map([key], |row| db::digest(row, 0))?;
            let tagged: BTreeSet<Digest> = rows.collect::<Result<_, _>>()?;
            Ok((layer, tagged))
        })?;
        let layer = DiffId(layer.unwrap_or(*digest));
        let mut images = self.images()?;
        images.retain(|image| {
            let manifest = image.manifest.as_ref();
            image.id.digest() == digest
                || manifest.is_some_and(|manifest| manifest.digest == *digest)
                || image.layers.contains(&layer)
                || tagged.contains(image.id.digest())
        });
        Ok(images)
    }

    fn repositories(
        &self,
        digest: &Digest,
        images: &[ImageRecord],
    ) -> Result<Vec<String>, StoreError> {
        let mut repositories = self.origins(digest)?;
        let names = images.iter().flat_map(|image| &image.repo_digests);
        for name in names.map(oci::Reference::repository) {
            if !repositories.contains(&name) {
                repositories.push(name);
            }
        }
        Ok(repositories)
    }

    /// Finds length and type of a blob in all that is recorded of it.
    fn known_descriptor(
        &self,
        digest: &Digest,
        images: &[ImageRecord],
    ) -> Result<Option<Descriptor>, StoreError> {
        let recorded = self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT media_type, size FROM blobs WHERE digest = ?1
                    UNION ALL SELECT media_type, size FROM compressions WHERE digest = ?1",
            )?;
            let found = query.query_row(params![digest.as_bytes()], |row| {
                let media_type: String = row.get(0)?;
                Ok(Descriptor::new(&media_type, *digest, db::to_u64(row, 1)?))
            });
            Ok(found.optional()?)
        })?;
        if recorded.is_some() {
            return Ok(recorded);
        }
        for image in images {
            if let Some(manifest) = &image.manifest
                && manifest.digest == *digest
            {
                return Ok(Some(manifest.clone()));
            }
            for manifest in self.manifests_of(image)? {
                let mut blobs = manifest.layers.into_iter().chain([manifest.config]);
                if let Some(found) = blobs.find(|blob| blob.digest == *digest) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Returns the manifests of an image and its tags that can be read.
    fn manifests_of(&self, image: &ImageRecord) -> Result<Vec<oci::Manifest>, StoreError> {
        let mut digests: Vec<Digest> = image.manifest.iter().map(|found| found.digest).collect();
        for tag in &image.tags {
            digests.extend(self.tag_manifest(tag)?);
        }
        let mut manifests = Vec::new();
        for digest in digests {
            // One that is damaged says nothing.
            if let Ok(bytes) = self.read_blob(&digest, MAX_MANIFEST_SIZE)
                && let Ok(ManifestOrIndex::Manifest(manifest)) =
                    ManifestOrIndex::parse(None, &bytes)
            {
                manifests.push(*manifest);
            }
        }
        Ok(manifests)
    }
}
