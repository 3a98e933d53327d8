//! The one copy: any source to any target.

use std::collections::HashSet;
use std::io::{Cursor, Read as _};
use std::sync::{Mutex, PoisonError};

use oci::{
    Descriptor, DiffId, Digest, ImageConfig, ImageId, MAX_CONFIG_SIZE, Manifest, ManifestOrIndex,
    MediaType, Platform,
};

use super::opener::{Cancel, Opener};
use super::stream::Stream;
use super::transfer::Work;
use super::{BlobOutcome, CopyError, Event, ExchangeError, LayerId, Source, Target};

/// How deep indexes may name indexes.
const MAX_INDEX_DEPTH: usize = 4;

/// More layers than any tool makes; docker refuses more than 127.
pub(crate) const MAX_LAYERS: usize = 2000;

/// How to copy.
pub struct CopyOptions<'a> {
    /// Which image of an index.
    pub platform: Platform,
    /// How many layers at once.
    pub parallel: usize,
    /// Is told what happens, from several threads.
    pub events: &'a (dyn Fn(Event) + Sync),
}

impl std::fmt::Debug for CopyOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyOptions")
            .field("platform", &self.platform)
            .field("parallel", &self.parallel)
            .finish_non_exhaustive()
    }
}

/// The result of a copy.
#[derive(Debug, Clone)]
pub struct Copied {
    /// What the source's name led to: the manifest, or the index that names it. Its digest is
    /// docker's `Digest:` line and repository digest.
    pub named: Descriptor,
    /// The manifest.
    pub manifest: Descriptor,
    /// The image.
    pub image: ImageId,
    /// Whether anything was copied.
    pub outcome: CopyOutcome,
}

/// Whether anything was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyOutcome {
    /// The target had the image.
    UpToDate,
    /// The image is new to the target.
    Copied,
}

/// Copies the image that `source` names to `target`: layers in parallel, then the configuration,
/// the manifest last. Broken transfers resume; a blob with a wrong digest is fetched once more.
pub fn copy(
    source: &dyn Source,
    target: &dyn Target,
    options: &CopyOptions<'_>,
) -> Result<Copied, CopyError> {
    let selected = select(source, &options.platform)?;
    let (manifest, descriptor) = (&selected.manifest, &selected.descriptor);
    let started = |layers| (options.events)(Event::Image { layers });
    let copied = |outcome| Copied {
        named: selected.named.clone(),
        manifest: descriptor.clone(),
        image: ImageId(manifest.config.digest),
        outcome,
    };
    if target.has_manifest(descriptor).map_err(CopyError::Target)? {
        started(Vec::new());
        return Ok(copied(CopyOutcome::UpToDate));
    }
    let (config, config_bytes) = image_config(source, &manifest.config)?;
    let layers = layers(descriptor, manifest, &config)?;
    started(layers.iter().map(|(layer, _)| *layer).collect());
    copy_layers(source, target, options, &layers)?;
    put_config(target, &manifest.config, config_bytes)?;
    target
        .put_manifest(&descriptor.media_type, &selected.bytes)
        .map_err(CopyError::Target)?;
    Ok(copied(CopyOutcome::Copied))
}

pub(super) struct Selected {
    named: Descriptor,
    pub(super) descriptor: Descriptor,
    pub(super) bytes: Vec<u8>,
    pub(super) manifest: Manifest,
}

/// Follows indexes to the manifest for a platform.
pub(super) fn select(source: &dyn Source, platform: &Platform) -> Result<Selected, CopyError> {
    let resolved = source.resolve().map_err(CopyError::Source)?;
    let named = resolved.descriptor;
    let (mut descriptor, mut bytes) = (named.clone(), resolved.bytes);
    for _ in 0..MAX_INDEX_DEPTH {
        let index = match verified(&descriptor, &bytes)? {
            ManifestOrIndex::Manifest(manifest) => {
                return Ok(Selected {
                    named,
                    descriptor,
                    bytes,
                    manifest: *manifest,
                });
            }
            ManifestOrIndex::Index(index) => index,
        };
        let nested = || {
            index
                .manifests
                .iter()
                .find(|entry| entry.media_type.is_index())
        };
        let next = index.select(platform).or_else(nested);
        let next = next.ok_or_else(|| CopyError::NoMatchingPlatform(platform.clone()))?;
        bytes = source.manifest(next).map_err(CopyError::Source)?;
        descriptor = next.clone();
    }
    Err(CopyError::NestedIndex(named.digest))
}

/// Reads the manifest or index that `descriptor` is about.
pub(super) fn verified(
    descriptor: &Descriptor,
    bytes: &[u8],
) -> Result<ManifestOrIndex, CopyError> {
    verify("manifest", &descriptor.digest, bytes)?;
    let parsed = ManifestOrIndex::parse(Some(&descriptor.media_type), bytes);
    parsed.map_err(|source| CopyError::Manifest {
        digest: descriptor.digest,
        source,
    })
}

fn verify(kind: &'static str, expected: &Digest, bytes: &[u8]) -> Result<(), CopyError> {
    let found = Digest::of(bytes);
    if found == *expected {
        return Ok(());
    }
    Err(CopyError::DigestMismatch {
        kind,
        expected: *expected,
        found,
    })
}

/// Fetches the configuration that `descriptor` is about from `source`: parsed, and its bytes.
pub fn image_config(
    source: &dyn Source,
    descriptor: &Descriptor,
) -> Result<(ImageConfig, Vec<u8>), CopyError> {
    let bytes = fetch_document(source, descriptor)?;
    match ImageConfig::parse(&bytes) {
        Ok(config) => Ok((config, bytes)),
        Err(source) => Err(CopyError::Config {
            digest: descriptor.digest,
            source,
        }),
    }
}

/// Fetches what is a configuration by its place in a manifest, whatever it says. It is no longer
/// than [`MAX_CONFIG_SIZE`], and what its digest says.
pub fn fetch_document(source: &dyn Source, descriptor: &Descriptor) -> Result<Vec<u8>, CopyError> {
    if descriptor.size > MAX_CONFIG_SIZE {
        return Err(CopyError::ConfigTooLarge {
            digest: descriptor.digest,
            size: descriptor.size,
            limit: MAX_CONFIG_SIZE,
        });
    }
    let cancel = Cancel::default();
    let open_source = |blob: &Descriptor, offset| source.open_blob(blob, offset);
    let opener = Opener::new(&open_source, descriptor, &cancel, |_| {});
    let open = |offset| opener.open(offset);
    let mut stream = Stream::new(descriptor, 0, &open, &|_| {});
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        let failure = stream.into_failure();
        let failure = failure.unwrap_or_else(|| ExchangeError::transient(error));
        return Err(CopyError::Source(failure));
    }
    verify("image configuration", &descriptor.digest, &bytes)?;
    Ok(bytes)
}

/// Pairs each blob with what it unpacks to. A blob that stands in several places comes once.
fn layers(
    descriptor: &Descriptor,
    manifest: &Manifest,
    config: &ImageConfig,
) -> Result<Vec<(LayerId, Descriptor)>, CopyError> {
    let found = manifest.layers.len();
    if found > MAX_LAYERS {
        return Err(CopyError::TooManyLayers {
            manifest: descriptor.digest,
            found,
            limit: MAX_LAYERS,
        });
    }
    let diff_ids = &config.rootfs.diff_ids;
    if found != diff_ids.len() {
        return Err(CopyError::Config {
            digest: manifest.config.digest,
            source: oci::ConfigError::LayerCountMismatch {
                config: diff_ids.len(),
                manifest: found,
            },
        });
    }
    let mut seen = HashSet::new();
    let mut layers = Vec::with_capacity(found);
    for (index, (blob, diff_id)) in manifest.layers.iter().zip(diff_ids).enumerate() {
        if !is_layer(&blob.media_type) {
            return Err(CopyError::UnsupportedLayer {
                manifest: descriptor.digest,
                media_type: blob.media_type.clone(),
            });
        }
        if seen.insert((blob.digest, *diff_id)) {
            let layer = LayerId {
                index,
                digest: blob.digest,
                diff_id: *diff_id,
            };
            layers.push((layer, blob.clone()));
        }
    }
    Ok(layers)
}

/// Tells whether a blob is a tar in some compression, which is told from its content.
fn is_layer(media_type: &MediaType) -> bool {
    media_type.is_layer()
        || [MediaType::OCI_LAYER, MediaType::DOCKER_LAYER]
            .iter()
            .any(|prefix| media_type.0.starts_with(prefix))
}

/// Copies the layers that the target lacks, several at once; the first failure ends the others.
/// The target verifies that each unpacks to what its name says.
pub fn copy_layers(
    source: &dyn Source,
    target: &dyn Target,
    options: &CopyOptions<'_>,
    layers: &[(LayerId, Descriptor)],
) -> Result<(), CopyError> {
    let open = |blob: &Descriptor, offset| source.open_blob(blob, offset);
    let work = Work::new(&open, target, options);
    let missing = Mutex::new(HashSet::new());
    work.each(layers, |(layer, blob)| {
        let there = target.has_blob(blob, Some(&layer.diff_id));
        if !there.map_err(CopyError::Target)? {
            let mut missing = missing.lock().unwrap_or_else(PoisonError::into_inner);
            missing.insert(layer.index);
        }
        Ok(())
    })?;
    let missing = missing.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut queue = Vec::with_capacity(missing.len());
    for (layer, blob) in layers {
        let layer = *layer;
        if missing.contains(&layer.index) {
            let size = blob.size;
            (options.events)(Event::LayerQueued { layer, size });
            queue.push((layer, blob));
        } else {
            (options.events)(Event::LayerExists { layer });
        }
    }
    let coming: Vec<&Descriptor> = queue.iter().map(|(_, blob)| *blob).collect();
    target.expect(&coming).map_err(CopyError::Target)?;
    work.each(&queue, |(layer, blob)| work.transfer(*layer, blob))
}

/// Puts the document `bytes` at the target, unless it is there.
pub fn put_config(
    target: &dyn Target,
    descriptor: &Descriptor,
    bytes: Vec<u8>,
) -> Result<(), CopyError> {
    if target
        .has_blob(descriptor, None)
        .map_err(CopyError::Target)?
    {
        return Ok(());
    }
    let open = |offset: u64| {
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        Ok(Box::new(Cursor::new(bytes[start..].to_vec())) as Box<dyn std::io::Read + Send>)
    };
    let diff_id: Option<&DiffId> = None;
    let put = target.put_blob(descriptor, diff_id, &open, &|_| {});
    put.map(|_: BlobOutcome| ()).map_err(CopyError::Target)
}
