//! Everything that a name leads to, from one place to another, byte for byte.

use std::collections::HashSet;

use oci::{Descriptor, DiffId, Digest, ManifestOrIndex, Platform};

use super::checked::Checked;
use super::copy::{copy_layers, image_config, select, verified};
use super::{CopyError, CopyOptions, Event, LayerId, Source, Target};

/// What is copied of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// The index, with everything that it leads to.
    Whole,
    /// One image.
    Platform(Platform),
}

/// The result of copying everything.
#[derive(Debug, Clone)]
pub struct Mirrored {
    /// What the target's name leads to now.
    pub named: Descriptor,
    /// The configurations and layers that it leads to.
    pub blobs: Vec<Descriptor>,
    /// What the image is for, when that is not the platform that was asked for: there is no index
    /// to choose from.
    pub other_platform: Option<Platform>,
}

/// How deep indexes may name indexes.
const MAX_DEPTH: usize = 4;

/// More manifests than any index has.
const MAX_DOCUMENTS: usize = 1000;

/// The most bytes of manifests, which are in memory until their blobs are there.
const MAX_DOCUMENT_BYTES: u64 = 64 << 20;

/// Marks of layers that registries do not have: their owner serves them elsewhere.
const ELSEWHERE: [&str; 2] = [".foreign.", ".nondistributable."];

/// A manifest or index.
struct Document {
    descriptor: Descriptor,
    bytes: Vec<u8>,
}

/// Copies what `source` names to `target`: blobs first, then manifests, what was named last.
/// Nothing is changed, so all digests stay.
///
/// `options.platform` plays no part.
pub fn mirror(
    source: &dyn Source,
    target: &dyn Target,
    extent: &Extent,
    options: &CopyOptions<'_>,
) -> Result<Mirrored, CopyError> {
    let mut other_platform = None;
    let named = match extent {
        Extent::Platform(platform) => {
            let selected = select(source, platform)?;
            other_platform = platform_of(source, &selected.manifest.config)
                .filter(|found| !found.serves(platform));
            Document {
                descriptor: selected.descriptor,
                bytes: selected.bytes,
            }
        }
        Extent::Whole => {
            let resolved = source.resolve().map_err(CopyError::Source)?;
            Document {
                descriptor: resolved.descriptor,
                bytes: resolved.bytes,
            }
        }
    };
    let mut found = Found {
        blobs: Vec::new(),
        parts: Vec::new(),
        seen: HashSet::new(),
        room: MAX_DOCUMENT_BYTES,
    };
    found.add(source, &named, 0)?;
    let blobs = found.blobs.iter().enumerate();
    let blobs: Vec<(LayerId, Descriptor)> = blobs
        .map(|(index, blob)| {
            let layer = LayerId {
                index,
                digest: blob.digest,
                diff_id: DiffId(blob.digest),
            };
            (layer, blob.clone())
        })
        .collect();
    (options.events)(Event::Image {
        layers: blobs.iter().map(|(layer, _)| *layer).collect(),
    });
    let checked = Checked(source);
    let blob_source: &dyn Source = match target.verifies_blobs() {
        true => source,
        false => &checked,
    };
    copy_layers(blob_source, target, options, &blobs)?;
    for part in &found.parts {
        let put = target.put_part(&part.descriptor.media_type, &part.bytes);
        put.map_err(CopyError::Target)?;
    }
    target
        .put_manifest(&named.descriptor.media_type, &named.bytes)
        .map_err(CopyError::Target)?;
    Ok(Mirrored {
        named: named.descriptor,
        blobs: found.blobs,
        other_platform,
    })
}

/// Returns what an image is for. What is no image is for nothing; a configuration that cannot be
/// read is told of when it is copied.
fn platform_of(source: &dyn Source, config: &Descriptor) -> Option<Platform> {
    if !config.media_type.is_config() {
        return None;
    }
    let (config, _) = image_config(source, config).ok()?;
    Some(config.platform())
}

/// What a document leads to, each once.
struct Found {
    /// Configurations and layers.
    blobs: Vec<Descriptor>,
    /// Manifests and indexes, children before parents.
    parts: Vec<Document>,
    seen: HashSet<Digest>,
    /// How many bytes of manifests may still come.
    room: u64,
}

impl Found {
    fn add(
        &mut self,
        source: &dyn Source,
        document: &Document,
        depth: usize,
    ) -> Result<(), CopyError> {
        let Document { descriptor, bytes } = document;
        let index = match verified(descriptor, bytes)? {
            ManifestOrIndex::Manifest(manifest) => {
                for blob in manifest.layers.into_iter().chain([manifest.config]) {
                    self.add_blob(blob);
                }
                return Ok(());
            }
            ManifestOrIndex::Index(index) => index,
        };
        if depth == MAX_DEPTH {
            return Err(CopyError::NestedIndex(descriptor.digest));
        }
        for entry in index.manifests {
            if !entry.media_type.is_manifest() && !entry.media_type.is_index() {
                self.add_blob(entry);
                continue;
            }
            if !self.seen.insert(entry.digest) {
                continue;
            }
            if self.parts.len() == MAX_DOCUMENTS {
                return Err(CopyError::TooManyManifests {
                    index: descriptor.digest,
                    limit: MAX_DOCUMENTS,
                });
            }
            self.room = self.room.checked_sub(entry.size).ok_or({
                CopyError::ManifestsTooLarge {
                    index: descriptor.digest,
                    limit: MAX_DOCUMENT_BYTES,
                }
            })?;
            let part = Document {
                bytes: source.manifest(&entry).map_err(CopyError::Source)?,
                descriptor: entry,
            };
            self.add(source, &part, depth + 1)?;
            self.parts.push(part);
        }
        Ok(())
    }

    fn add_blob(&mut self, blob: Descriptor) {
        let is_elsewhere = ELSEWHERE
            .iter()
            .any(|mark| blob.media_type.0.contains(mark));
        if !is_elsewhere && self.seen.insert(blob.digest) {
            self.blobs.push(blob);
        }
    }
}
