//! Configurations and manifests against the rows that were made of them.

use std::collections::HashSet;

use oci::{
    Digest, ImageConfig, ImageId, MAX_CONFIG_SIZE, MAX_MANIFEST_SIZE, ManifestOrIndex, MediaType,
};

use super::mend::Change;
use super::records::{ImageRow, Needs, Records};
use super::relations::contradicted_image;
use super::{Damage, Finding, Mend, NeededBy};
use crate::{Store, StoreError, image};

/// Reads the documents of images and tags, but for those that are known to be wrong, and compares
/// the rows with them.
pub(super) fn check(
    store: &Store,
    records: &Records,
    wrong: &HashSet<Digest>,
    findings: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    let needs = Needs::of(store, records);
    for image in &records.images {
        if wrong.contains(&image.id) {
            continue;
        }
        match store.read_blob(&image.id, MAX_CONFIG_SIZE) {
            Ok(bytes) => check_image(store, image, &bytes, &needs, findings)?,
            // Was found before, or the image has just been removed.
            Err(StoreError::BlobNotFound(_) | StoreError::DamagedBlob { .. }) => {}
            Err(error) => return Err(error),
        }
        if let Some(manifest) = &image.manifest
            && !wrong.contains(manifest)
            && !is_manifest_of(store, manifest, &image.id)?
        {
            let change = Change::ForgetManifest {
                id: ImageId(image.id),
                manifest: *manifest,
            };
            let row = format!("image {}", image.id.short());
            findings.push(foreign(store, "images", row, change));
        }
    }
    for tag in &records.tags {
        if let Some(manifest) = &tag.manifest
            && !wrong.contains(manifest)
            && !is_manifest_of(store, manifest, &tag.image)?
        {
            let change = Change::ForgetTagManifest {
                name: tag.name.clone(),
                manifest: *manifest,
            };
            findings.push(foreign(store, "tags", format!("`{}`", tag.name), change));
        }
    }
    check_types(store, records, wrong, &needs, findings);
    Ok(())
}

fn check_image(
    store: &Store,
    image: &ImageRow,
    config: &[u8],
    needs: &Needs,
    findings: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    let is_right = match ImageConfig::parse(config) {
        Ok(config) => {
            store.read(|connection| image::is_of(connection, &ImageId(image.id), &config))?
        }
        Err(_) => false,
    };
    if !is_right {
        findings.push(contradicted_image(store, needs, &image.id));
    }
    Ok(())
}

/// Tells whether a document is a manifest of an image; also when it is not there to say.
fn is_manifest_of(store: &Store, digest: &Digest, id: &Digest) -> Result<bool, StoreError> {
    let bytes = match store.read_blob(digest, MAX_MANIFEST_SIZE) {
        Ok(bytes) => bytes,
        Err(StoreError::BlobNotFound(_) | StoreError::DamagedBlob { .. }) => return Ok(true),
        Err(error) => return Err(error),
    };
    Ok(match ManifestOrIndex::parse(None, &bytes) {
        Ok(ManifestOrIndex::Manifest(manifest)) => manifest.config.digest == *id,
        Ok(ManifestOrIndex::Index(_)) | Err(_) => false,
    })
}

fn foreign(store: &Store, table: &'static str, row: String, change: Change) -> Finding {
    Finding {
        damage: Damage::Record {
            table,
            row,
            what: "has the manifest of another image".to_owned(),
            mend: Some(Mend(change)),
        },
        path: store.root().join("db.sqlite"),
        needed_by: NeededBy::default(),
    }
}

/// A blob whose type was never one: what is served of it would not be understood.
fn check_types(
    store: &Store,
    records: &Records,
    wrong: &HashSet<Digest>,
    needs: &Needs,
    findings: &mut Vec<Finding>,
) {
    let manifests = records
        .images
        .iter()
        .filter_map(|image| image.manifest.as_ref());
    for digest in manifests {
        let Some(blob) = records.blobs.get(digest) else {
            continue;
        };
        let media_type = MediaType::from(blob.media_type.as_str());
        if wrong.contains(digest) || media_type.is_manifest() {
            continue;
        }
        let stated = store
            .read_blob(digest, MAX_MANIFEST_SIZE)
            .ok()
            .and_then(|bytes| stated_type(&bytes));
        let change = Change::RewriteBlob {
            digest: *digest,
            size: blob.size,
            media_type: stated.unwrap_or_else(|| MediaType::OCI_MANIFEST.to_owned()),
        };
        findings.push(Finding {
            damage: Damage::Record {
                table: "blobs",
                row: format!("blob {}", digest.short()),
                what: "is a manifest and recorded as something else".to_owned(),
                mend: Some(Mend(change)),
            },
            path: store.root().join("db.sqlite"),
            needed_by: needs.by(digest),
        });
    }
}

/// Returns the type that a manifest says it is.
fn stated_type(bytes: &[u8]) -> Option<String> {
    match ManifestOrIndex::parse(None, bytes).ok()? {
        ManifestOrIndex::Manifest(manifest) => manifest.media_type.map(|found| found.0),
        ManifestOrIndex::Index(_) => None,
    }
}
