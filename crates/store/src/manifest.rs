//! The manifests of images: kept as received, or made here.

use oci::{
    Descriptor, Digest, ImageId, MAX_MANIFEST_SIZE, Manifest, ManifestOrIndex, MediaType, Reference,
};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::image::find;
use crate::{ImageRecord, Store, StoreError, db};

impl Store {
    /// Returns the image that came with a manifest, if its layers are all in the store.
    pub fn image_of_manifest(&self, digest: &Digest) -> Result<Option<ImageRecord>, StoreError> {
        let found = self.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT id FROM images WHERE manifest = ?1")?;
            let id = query
                .query_row([digest.as_bytes()], |row| db::digest(row, 0))
                .optional()?;
            match id {
                Some(id) => find(connection, &ImageId(id)),
                None => Ok(None),
            }
        })?;
        let Some(image) = found else {
            return Ok(None);
        };
        for layer in &image.layers {
            if !self.has_layer(layer)? {
                return Ok(None);
            }
        }
        Ok(Some(image))
    }

    /// Returns a manifest whose blobs are all in the store: the one received when that is so,
    /// else a generated one with uncompressed layers.
    pub fn manifest_of(&self, id: &ImageId) -> Result<(MediaType, Vec<u8>), StoreError> {
        let image = self.image(id)?.ok_or(StoreError::ImageNotFound(*id))?;
        if let Some(recorded) = self.complete_manifest(&image)? {
            return Ok(recorded);
        }
        let mut layers = Vec::with_capacity(image.layers.len());
        for diff_id in &image.layers {
            let layer = self
                .layer(diff_id)?
                .ok_or(StoreError::LayerNotFound(*diff_id))?;
            layers.push(Descriptor::new(
                MediaType::OCI_LAYER,
                *diff_id.digest(),
                layer.tar_size,
            ));
        }
        let bytes = self.generate_manifest(id, layers)?;
        Ok((MediaType::OCI_MANIFEST.into(), bytes))
    }

    /// Returns the manifest that a tag came with if its blobs are all in the store, else that of
    /// its image. `None` when the tag leads to no image.
    pub fn manifest_of_tag(
        &self,
        name: &Reference,
    ) -> Result<Option<(MediaType, Vec<u8>)>, StoreError> {
        let Some(id) = self.tagged(name)? else {
            return Ok(None);
        };
        if let Some(digest) = self.tag_manifest(name)?
            && let Some(descriptor) = self.blob(&digest)?
            && let Some(own) = self.complete(&descriptor)?
        {
            return Ok(Some(own));
        }
        self.manifest_of(&id).map(Some)
    }

    /// Returns the recorded manifest of an image if the store has all its blobs.
    pub(crate) fn complete_manifest(
        &self,
        image: &ImageRecord,
    ) -> Result<Option<(MediaType, Vec<u8>)>, StoreError> {
        match &image.manifest {
            Some(descriptor) => self.complete(descriptor),
            None => Ok(None),
        }
    }

    fn complete(
        &self,
        descriptor: &Descriptor,
    ) -> Result<Option<(MediaType, Vec<u8>)>, StoreError> {
        let bytes = match self.read_blob(&descriptor.digest, MAX_MANIFEST_SIZE) {
            Err(StoreError::BlobNotFound(_)) => return Ok(None),
            result => result?,
        };
        let parsed = ManifestOrIndex::parse(Some(&descriptor.media_type), &bytes)?;
        let ManifestOrIndex::Manifest(manifest) = parsed else {
            return Ok(None);
        };
        for layer in &manifest.layers {
            if !self.has_blob(&layer.digest)? {
                return Ok(None);
            }
        }
        Ok(Some((descriptor.media_type.clone(), bytes)))
    }

    /// Returns a manifest of an image by its digest, if the store has it.
    pub(crate) fn manifest_document(
        &self,
        id: &ImageId,
        digest: &Digest,
    ) -> Result<Option<ManifestDocument>, StoreError> {
        let Some(descriptor) = self.blob(digest)? else {
            return Ok(None);
        };
        let bytes = self.read_blob(digest, MAX_MANIFEST_SIZE)?;
        let parsed = ManifestOrIndex::parse(Some(&descriptor.media_type), &bytes)?;
        Ok(match parsed {
            ManifestOrIndex::Manifest(manifest) if manifest.config.digest == *id.digest() => {
                Some(ManifestDocument {
                    media_type: descriptor.media_type,
                    bytes,
                    layers: manifest.layers,
                })
            }
            ManifestOrIndex::Manifest(_) | ManifestOrIndex::Index(_) => None,
        })
    }

    /// Makes an OCI manifest of an image's configuration and the given layers.
    pub(crate) fn generate_manifest(
        &self,
        id: &ImageId,
        layers: Vec<Descriptor>,
    ) -> Result<Vec<u8>, StoreError> {
        let config = self.image_config_bytes(id)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MediaType::OCI_MANIFEST.into()),
            config: Descriptor::of(MediaType::OCI_CONFIG, &config),
            layers,
            annotations: None,
        };
        Ok(serde_json::to_vec(&manifest).expect("invariant: a manifest has string keys"))
    }

    /// Records a manifest that was made for an image here, so that its digest stays.
    pub(crate) fn record_generated_manifest(
        &self,
        id: &ImageId,
        bytes: &[u8],
    ) -> Result<Descriptor, StoreError> {
        let descriptor = self.put_blob(&MediaType::OCI_MANIFEST.into(), bytes)?;
        self.write(|tx| set_manifest(tx, id, &descriptor, Provenance::Generated))?;
        Ok(descriptor)
    }
}

/// A manifest of an image.
pub(crate) struct ManifestDocument {
    pub(crate) media_type: MediaType,
    pub(crate) bytes: Vec<u8>,
    pub(crate) layers: Vec<Descriptor>,
}

/// Where a manifest comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provenance {
    Received,
    Generated,
}

pub(crate) fn set_manifest(
    tx: &Connection,
    id: &ImageId,
    manifest: &Descriptor,
    provenance: Provenance,
) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE images SET manifest = ?2, manifest_type = ?3, manifest_size = ?4,
            manifest_received = max(manifest_received, ?5) WHERE id = ?1",
        params![
            id.digest().as_bytes(),
            manifest.digest.as_bytes(),
            manifest.media_type.0,
            db::from_u64(manifest.size),
            provenance == Provenance::Received
        ],
    )?;
    Ok(())
}

/// Checks that a document is a manifest of the image.
pub(crate) fn check(media_type: &MediaType, bytes: &[u8], id: &Digest) -> Result<(), StoreError> {
    match ManifestOrIndex::parse(Some(media_type), bytes)? {
        ManifestOrIndex::Manifest(manifest) if manifest.config.digest == *id => Ok(()),
        ManifestOrIndex::Manifest(manifest) => Err(StoreError::ManifestConfigMismatch {
            expected: *id,
            found: manifest.config.digest,
        }),
        ManifestOrIndex::Index(_) => Err(StoreError::Manifest(
            oci::ManifestError::UnsupportedMediaType(media_type.clone()),
        )),
    }
}
