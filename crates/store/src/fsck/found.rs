//! Images whose records were lost, found again by their documents.

use std::collections::{BTreeMap, HashSet};
use std::fs;

use oci::{
    Digest, ImageConfig, ImageId, MAX_CONFIG_SIZE, MAX_MANIFEST_SIZE, ManifestOrIndex, MediaType,
};
use rusqlite::params;

use crate::error::at;
use crate::manifest::{self, Provenance};
use crate::{Store, StoreError, Timestamp, db, image};

/// A manifest without an image that is known.
struct LooseManifest {
    digest: Digest,
    media_type: MediaType,
    size: u64,
}

impl Store {
    /// Looks through all blobs for images that are not recorded although all their layers have a
    /// tar, and records them; those that an undo would bring back apart. Their names come back with
    /// the history of tags. What is recorded here of their layers may be wrong: a check of the records
    /// follows.
    pub fn find_images(&self) -> Result<Vec<ImageId>, StoreError> {
        let known = self.known_images()?;
        let mut configs: BTreeMap<Digest, ImageConfig> = BTreeMap::new();
        let mut manifests: BTreeMap<Digest, LooseManifest> = BTreeMap::new();
        let directory = self.root().join("blobs/sha256");
        for entry in fs::read_dir(&directory).map_err(at("read", &directory))? {
            let entry = entry.map_err(at("read", &directory))?;
            let name = entry.file_name();
            let Some(digest) = name.to_str().and_then(Digest::from_hex) else {
                continue;
            };
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.len() > MAX_CONFIG_SIZE.max(MAX_MANIFEST_SIZE) || known.contains(&digest) {
                continue;
            }
            // One that cannot be read is no document.
            let Ok(bytes) = fs::read(entry.path()) else {
                continue;
            };
            if !bytes.starts_with(b"{") || Digest::of(&bytes) != digest {
                continue;
            }
            if let Ok(ManifestOrIndex::Manifest(manifest)) = ManifestOrIndex::parse(None, &bytes) {
                let media_type = manifest.media_type.clone();
                let loose = LooseManifest {
                    digest,
                    media_type: media_type
                        .unwrap_or_else(|| MediaType::from(MediaType::OCI_MANIFEST)),
                    size: metadata.len(),
                };
                manifests.insert(manifest.config.digest, loose);
            } else if let Ok(config) = ImageConfig::parse(&bytes)
                && self.has_all_tars(&config)
            {
                configs.insert(digest, config);
            }
        }
        self.record_found(&configs, &manifests)
    }

    /// Returns the images that are recorded, or that were removed and are remembered.
    fn known_images(&self) -> Result<HashSet<Digest>, StoreError> {
        self.read(|connection| {
            let query = "SELECT id FROM images UNION
                SELECT id FROM undo_images WHERE id NOT IN (SELECT image FROM tags)";
            let mut query = connection.prepare(query)?;
            let ids = query.query_map([], |row| db::digest(row, 0))?;
            Ok(ids.collect::<Result<_, _>>()?)
        })
    }

    fn has_all_tars(&self, config: &ImageConfig) -> bool {
        let layers = &config.rootfs.diff_ids;
        !layers.is_empty()
            && layers
                .iter()
                .all(|layer| self.layer_dir(layer).join("tar").exists())
    }

    fn record_found(
        &self,
        configs: &BTreeMap<Digest, ImageConfig>,
        manifests: &BTreeMap<Digest, LooseManifest>,
    ) -> Result<Vec<ImageId>, StoreError> {
        self.write_durably(|tx| {
            for (id, config) in configs {
                tx.execute(
                    "INSERT OR IGNORE INTO images (id, created_ns, added, size, labels, platform,
                        layers) VALUES (?1, 0, ?2, 0, '{}', '{}', x'')",
                    params![id.as_bytes(), Timestamp::now().0],
                )?;
                image::rewrite(tx, &ImageId(*id), config)?;
                if let Some(manifest) = manifests.get(id) {
                    let descriptor = oci::Descriptor::new(
                        &manifest.media_type.0,
                        manifest.digest,
                        manifest.size,
                    );
                    manifest::set_manifest(tx, &ImageId(*id), &descriptor, Provenance::Received)?;
                }
            }
            Ok(configs.keys().copied().map(ImageId).collect())
        })
    }
}
