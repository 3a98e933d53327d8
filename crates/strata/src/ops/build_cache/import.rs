//! `--cache-from`: what other builds made, from a registry or a directory.

use std::collections::HashMap;
use std::sync::OnceLock;

use build::{BaseImageError, ImportedCache, StepCache, StepCacheError};
use oci::{Descriptor, DiffId, Digest, Manifest, ManifestOrIndex, Platform};
use registry::{ClientError, Remote};
use store::{
    Archive, ArchiveError, CopyError, CopyOptions, LayerId, Source, StoreTarget, copy_layers,
    fetch_document, image_config,
};

use super::location::{CacheLocation, repository};
use crate::ops::layers::{decompress, unpack};
use crate::{Engine, describe};

/// More images than one index has that is built.
const MAX_IMAGES: usize = 64;

/// Why a cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The registry cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The directory is no layout, or does not have the cache.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The cache was not fetched.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The document is no cache.
    #[error(transparent)]
    Document(#[from] StepCacheError),
    /// What came is not what its digest says.
    #[error("the cache manifest has digest {found}, expected {expected}")]
    Digest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// It names no cache and no image.
    #[error("the manifest is of `{0}`, which is no build cache")]
    NoCache(String),
    /// An index has no image that carries a cache.
    #[error("none of the images carries a cache: build them with --cache-to type=inline")]
    NoImage,
}

/// A cache at a registry or in a directory, for one build.
pub struct EngineCache<'a> {
    engine: &'a Engine,
    location: &'a CacheLocation,
    opened: OnceLock<Opened>,
}

struct Opened {
    source: Box<dyn Source + Send>,
    /// The same, at a registry.
    remote: Option<Remote>,
    cache: StepCache,
}

impl std::fmt::Debug for EngineCache<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineCache")
            .field("location", self.location)
            .finish_non_exhaustive()
    }
}

impl<'a> EngineCache<'a> {
    /// Returns the cache at a place. Nothing is asked yet.
    pub fn new(engine: &'a Engine, location: &'a CacheLocation) -> Self {
        Self {
            engine,
            location,
            opened: OnceLock::new(),
        }
    }

    /// Returns what was read of it; nothing before, and when it cannot be read.
    pub(super) fn content(&self) -> Option<&StepCache> {
        self.opened.get().map(|opened| &opened.cache)
    }

    fn open(&self) -> Result<Opened, ImportError> {
        let mut remote = None;
        let source: Box<dyn Source + Send> = match self.location {
            CacheLocation::Registry {
                reference,
                plain_http,
                ..
            } => {
                let repository = repository(self.engine, reference, *plain_http)?;
                remote = Some(repository.clone());
                Box::new(repository)
            }
            CacheLocation::Directory { path, pick } => {
                let spool = self.engine.store().ingest_dir();
                let archive = Archive::open_outside(path, &spool, &decompress)?.as_layout();
                Box::new(archive.image(pick)?.source)
            }
        };
        let cache = read(&*source)?;
        Ok(Opened {
            source,
            remote,
            cache,
        })
    }

    fn fetch_layers(&self, opened: &Opened, layers: &[DiffId]) -> Result<(), CopyError> {
        let store = self.engine.store();
        let known: HashMap<DiffId, &Descriptor> = opened
            .cache
            .layers
            .iter()
            .map(|layer| (layer.diff_id, &layer.blob))
            .collect();
        let mut wanted = Vec::new();
        for (index, diff_id) in layers.iter().enumerate() {
            if let Some(blob) = known.get(diff_id) {
                let layer = LayerId {
                    index,
                    digest: blob.digest,
                    diff_id: *diff_id,
                };
                wanted.push((layer, (*blob).clone()));
            }
        }
        let target = StoreTarget::new(store, &unpack);
        let options = CopyOptions {
            platform: Platform::host(),
            parallel: crate::ops::parallel_layers(),
            events: &|_| {},
        };
        let mut result = copy_layers(&*opened.source, &target, &options, &wanted);
        if result.is_err() {
            // One that is damaged does not keep the others from being used.
            for layer in &wanted {
                let layer = std::slice::from_ref(layer);
                let copied = copy_layers(&*opened.source, &target, &options, layer);
                result = result.and(copied);
            }
        }
        if let Some(remote) = &opened.remote {
            let blobs: Vec<Descriptor> = wanted.into_iter().map(|(_, blob)| blob).collect();
            // Where a layer came from is only told to save a later push some work.
            drop(remote.record_origins(store, &blobs));
        }
        result
    }
}

impl ImportedCache for EngineCache<'_> {
    fn name(&self) -> String {
        self.location.to_string()
    }

    fn load(&self) -> Result<StepCache, BaseImageError> {
        let opened = self.open().map_err(|error| {
            let text = describe(&error);
            format!("failed to configure {} cache importer: {text}", self.kind())
        })?;
        Ok(self.opened.get_or_init(|| opened).cache.clone())
    }

    fn fetch(&self, layers: &[DiffId]) -> Result<(), BaseImageError> {
        match self.opened.get() {
            Some(opened) => self
                .fetch_layers(opened, layers)
                .map_err(|error| describe(&error).into()),
            None => Ok(()),
        }
    }
}

impl EngineCache<'_> {
    fn kind(&self) -> &'static str {
        match self.location {
            CacheLocation::Registry { .. } => "registry",
            CacheLocation::Directory { .. } => "local",
        }
    }
}

/// Reads the cache that a source names: a cache manifest in one of its two forms, or images whose
/// configurations carry a cache.
fn read(source: &dyn Source) -> Result<StepCache, ImportError> {
    let resolved = source.resolve().map_err(CopyError::Source)?;
    match parse(&resolved.descriptor, &resolved.bytes)? {
        ManifestOrIndex::Manifest(manifest) => of_manifest(source, &manifest),
        ManifestOrIndex::Index(index) => {
            let entries = &index.manifests;
            let is_config = |entry: &&Descriptor| entry.media_type.0 == StepCache::MEDIA_TYPE;
            if let Some(config) = entries.iter().find(is_config) {
                let document = fetch_document(source, config)?;
                return Ok(StepCache::parse(&document, entries)?);
            }
            of_images(source, entries)
        }
    }
}

/// Reads the caches of all images of an index.
fn of_images(source: &dyn Source, entries: &[Descriptor]) -> Result<StepCache, ImportError> {
    let mut all = StepCache::default();
    let mut failure = ImportError::NoImage;
    let is_image = |entry: &&Descriptor| entry.media_type.is_manifest();
    for entry in entries.iter().filter(is_image).take(MAX_IMAGES) {
        let bytes = source.manifest(entry).map_err(CopyError::Source)?;
        let ManifestOrIndex::Manifest(manifest) = parse(entry, &bytes)? else {
            continue;
        };
        match of_manifest(source, &manifest) {
            Ok(cache) => {
                all.steps.extend(cache.steps);
                // They stand on each other within one image only.
                let layers = cache.layers.into_iter();
                all.layers.extend(layers.map(|layer| build::CachedLayer {
                    parent: None,
                    ..layer
                }));
            }
            // An attestation, or one that was built by others.
            Err(ImportError::NoCache(_)) => {}
            Err(ImportError::Document(error @ StepCacheError::NotInline)) => {
                failure = error.into();
            }
            Err(error) => return Err(error),
        }
    }
    match all.steps.is_empty() {
        true => Err(failure),
        false => Ok(all),
    }
}

fn of_manifest(source: &dyn Source, manifest: &Manifest) -> Result<StepCache, ImportError> {
    let config = &manifest.config;
    if config.media_type.0 == StepCache::MEDIA_TYPE {
        let document = fetch_document(source, config)?;
        return Ok(StepCache::parse(&document, &manifest.layers)?);
    }
    if !config.media_type.is_config() {
        return Err(ImportError::NoCache(config.media_type.0.clone()));
    }
    let (image, bytes) = image_config(source, config)?;
    let layers = &image.rootfs.diff_ids;
    if layers.len() != manifest.layers.len() {
        let found = manifest.layers.len();
        return Err(ImportError::Copy(CopyError::Config {
            digest: config.digest,
            source: oci::ConfigError::LayerCountMismatch {
                config: layers.len(),
                manifest: found,
            },
        }));
    }
    Ok(StepCache::of_config(&bytes, &manifest.layers, layers)?)
}

/// Reads the manifest or index that `descriptor` is about.
fn parse(descriptor: &Descriptor, bytes: &[u8]) -> Result<ManifestOrIndex, ImportError> {
    let (expected, found) = (descriptor.digest, Digest::of(bytes));
    if expected != found {
        return Err(ImportError::Digest { expected, found });
    }
    let parsed = ManifestOrIndex::parse(Some(&descriptor.media_type), bytes);
    Ok(parsed.map_err(|source| CopyError::Manifest {
        digest: expected,
        source,
    })?)
}
