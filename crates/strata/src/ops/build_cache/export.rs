//! `--cache-to`: what a build remembers, to a registry or a directory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use build::{
    BaseImageError, Built, CacheExport, CachedLayer, CachedStep, ImportedCache as _, StepCache,
    remembered,
};
use layer::Compression;
use oci::{
    Descriptor, DiffId, Digest, Index, MAX_CONFIG_SIZE, MAX_MANIFEST_SIZE, Manifest, MediaType,
    Platform, Reference,
};
use registry::ClientError;
use store::{
    CopyError, CopyOptions, ExchangeError, LayoutTarget, Packing, Reuse, StoreError, Target,
    push_layers, put_config,
};

use super::import::EngineCache;
use super::location::repository;
use crate::ops::layers::compress;
use crate::{Engine, describe};

/// Which steps a cache has the layers of. It knows of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheExtent {
    /// Those that the result is made of (`mode=min`).
    Result,
    /// All (`mode=max`).
    All,
}

/// The document that lists the layers of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheForm {
    /// An image manifest.
    Manifest,
    /// An index (`image-manifest=false`).
    Index,
    /// docker's index (`oci-mediatypes=false`).
    DockerIndex,
}

/// Where a cache goes, and in what form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTarget {
    /// The place.
    pub place: CachePlace,
    /// How much of it.
    pub extent: CacheExtent,
    /// The document.
    pub form: CacheForm,
    /// How layers are compressed that are not yet.
    pub compression: Compression,
    /// Which of those that are go as they are.
    pub reuse: Reuse,
    /// Whether a failure leaves the build as it is.
    pub ignore_error: bool,
}

/// Where a cache goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePlace {
    /// To a registry, under a tag.
    Registry {
        /// The name.
        reference: Reference,
        /// Whether the registry is asked without TLS, whatever the settings say.
        plain_http: bool,
    },
    /// To a directory with an OCI layout, which is made when it lacks.
    Directory {
        /// The directory.
        path: PathBuf,
        /// The name in it.
        tag: String,
    },
}

/// Why a cache was not exported. Layers that were sent stay there.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The registry cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A layer or document was not sent.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The registry refused the manifest.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The store, or the directory, failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Importers read no more than this.
    #[error("the cache has a {what} of {size} bytes, more than the {limit} that importers read")]
    TooLarge {
        /// Manifest or configuration.
        what: &'static str,
        /// How long it is.
        size: usize,
        /// How long it may be.
        limit: u64,
    },
}

/// The export of one build's cache.
#[derive(Debug)]
pub struct EngineExport<'a> {
    /// What it works with.
    pub engine: &'a Engine,
    /// Where it goes.
    pub target: &'a CacheTarget,
    /// What was imported: layers that nothing needed are fetched for it, and keys go on.
    pub imported: &'a [EngineCache<'a>],
}

impl CacheExport for EngineExport<'_> {
    fn name(&self) -> String {
        let to = match self.target.place {
            CachePlace::Registry { .. } => "registry",
            CachePlace::Directory { .. } => "client directory",
        };
        format!("exporting cache to {to}")
    }

    fn export(&self, built: &Built, status: &dyn Fn(String)) -> Result<(), BaseImageError> {
        self.send(built, status)
            .map_err(|error| describe(&error).into())
    }

    fn may_fail(&self) -> bool {
        self.target.ignore_error
    }
}

impl EngineExport<'_> {
    fn send(&self, built: &Built, status: &dyn Fn(String)) -> Result<(), ExportError> {
        if built.steps.is_empty() {
            status("skipping cache export for empty result".to_owned());
            return Ok(());
        }
        let steps = self.steps(built)?;
        let layers = self.layers(built)?;
        status("preparing build cache for export".to_owned());
        match &self.target.place {
            CachePlace::Registry {
                reference,
                plain_http,
            } => {
                let store = self.engine.store();
                let remote = repository(self.engine, reference, *plain_http)?;
                let remote = remote.remember_sessions(store);
                let remote = remote.offer_mounts(store, &self.known_blobs(&layers)?)?;
                self.write(&remote, steps, &layers, status)?;
            }
            CachePlace::Directory { path, tag } => {
                let layout = LayoutTarget::open(path)?;
                let written = self.write(&layout, steps, &layers, status);
                let named = written.and_then(|document| Ok(layout.name(&document, Some(tag))?));
                if let Err(error) = named {
                    layout.abandon();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Returns the steps under all their keys: those that the store knows, and those with which
    /// they were imported.
    fn steps(&self, built: &Built) -> Result<BTreeMap<Digest, CachedStep>, StoreError> {
        let mut steps = remembered(self.engine.store(), &built.steps)?;
        let place = |step: &CachedStep| (step.layer, step.parent_chain);
        let made: HashSet<_> = built.steps.iter().map(|step| place(&step.made)).collect();
        for content in self.imported.iter().filter_map(EngineCache::content) {
            let ours = content.steps.iter();
            for (key, step) in ours.filter(|(_, step)| made.contains(&place(step))) {
                steps.entry(*key).or_insert_with(|| step.clone());
            }
        }
        Ok(steps)
    }

    /// Returns the layers that are sent, each once, with the one below it among them. They are in
    /// the store; what cannot be fetched is left out.
    fn layers(&self, built: &Built) -> Result<Vec<(DiffId, Option<usize>)>, StoreError> {
        let store = self.engine.store();
        let others = built.images.iter().flat_map(|image| &image.layers);
        let of_result: HashSet<&DiffId> = built.layers.iter().chain(others).collect();
        let all = built.steps.iter().map(|step| &step.made.layer);
        let wanted =
            |layer: &&DiffId| self.target.extent == CacheExtent::All || of_result.contains(*layer);
        let wanted: Vec<DiffId> = all.filter(wanted).copied().collect();
        for cache in self.imported {
            let mut missing = Vec::new();
            for layer in &wanted {
                if !store.has_layer(layer)? {
                    missing.push(*layer);
                }
            }
            if missing.is_empty() {
                break;
            }
            // What cannot be had is exported without its layer, as it was found.
            drop(cache.fetch(&missing));
        }
        let mut layers: Vec<(DiffId, Option<usize>)> = Vec::new();
        let mut places: HashMap<DiffId, usize> = HashMap::new();
        for step in &built.steps {
            let layer = step.made.layer;
            if places.contains_key(&layer)
                || !wanted.contains(&layer)
                || !store.has_layer(&layer)?
            {
                continue;
            }
            let below = step.parent.map(|parent| built.steps[parent].made.layer);
            let parent = below.and_then(|below| places.get(&below).copied());
            places.insert(layer, layers.len());
            layers.push((layer, parent));
        }
        Ok(layers)
    }

    /// Returns the digests under which a registry may know the layers already.
    fn known_blobs(&self, layers: &[(DiffId, Option<usize>)]) -> Result<Vec<Digest>, StoreError> {
        let mut blobs = Vec::new();
        for (layer, _) in layers {
            let known = self.engine.store().compressed(layer)?;
            blobs.extend(known.into_iter().map(|blob| blob.digest));
        }
        Ok(blobs)
    }

    /// Sends layers, configuration and manifest; returns the last.
    fn write(
        &self,
        target: &dyn Target,
        steps: BTreeMap<Digest, CachedStep>,
        layers: &[(DiffId, Option<usize>)],
        status: &dyn Fn(String),
    ) -> Result<Descriptor, ExportError> {
        let blobs = self.send_layers(target, layers)?;
        let mut cache = StepCache {
            steps,
            layers: Vec::with_capacity(layers.len()),
        };
        for (diff_id, parent) in layers {
            let blob = blobs
                .get(diff_id)
                .ok_or(StoreError::LayerNotFound(*diff_id))?;
            status(format!("writing layer {}", blob.digest));
            cache.layers.push(CachedLayer {
                diff_id: *diff_id,
                blob: Descriptor::new(self.layer_type(&blob.media_type), blob.digest, blob.size),
                parent: *parent,
            });
        }
        let config = cache.to_bytes();
        check_size("configuration", &config, MAX_CONFIG_SIZE)?;
        let config_descriptor = Descriptor::of(StepCache::MEDIA_TYPE, &config);
        status(format!("writing config {}", config_descriptor.digest));
        put_config(target, &config_descriptor, config)?;
        let layers = cache.layers.into_iter().map(|layer| layer.blob).collect();
        let (media_type, bytes) = self.document(layers, config_descriptor);
        check_size("manifest", &bytes, MAX_MANIFEST_SIZE)?;
        let descriptor = Descriptor::of(&media_type.0, &bytes);
        let what = match self.target.form {
            CacheForm::Manifest => "cache image manifest",
            CacheForm::Index | CacheForm::DockerIndex => "cache manifest",
        };
        status(format!("writing {what} {}", descriptor.digest));
        target.put_manifest(&media_type, &bytes)?;
        Ok(descriptor)
    }

    fn send_layers(
        &self,
        target: &dyn Target,
        layers: &[(DiffId, Option<usize>)],
    ) -> Result<HashMap<DiffId, Descriptor>, CopyError> {
        let layers: Vec<DiffId> = layers.iter().map(|(layer, _)| *layer).collect();
        let compression = self.target.compression;
        let packing = Packing {
            compress: &|tar, out| compress(tar, out, compression),
            reuse: self.target.reuse.clone(),
            manifest: None,
            fetch: None,
        };
        let options = CopyOptions {
            platform: Platform::host(),
            parallel: crate::ops::parallel_layers(),
            events: &|_| {},
        };
        push_layers(self.engine.store(), &layers, &packing, target, &options)
    }

    /// Returns the type that a layer has in the document.
    fn layer_type<'t>(&self, media_type: &'t MediaType) -> &'t str {
        let is_docker = self.target.form == CacheForm::DockerIndex;
        match (media_type.0.as_str(), is_docker) {
            (MediaType::OCI_LAYER_GZIP | MediaType::DOCKER_LAYER_GZIP, true) => {
                MediaType::DOCKER_LAYER_GZIP
            }
            (MediaType::OCI_LAYER | MediaType::DOCKER_LAYER, true) => MediaType::DOCKER_LAYER,
            (MediaType::DOCKER_LAYER_GZIP, false) => MediaType::OCI_LAYER_GZIP,
            (MediaType::DOCKER_LAYER, false) => MediaType::OCI_LAYER,
            (other, _) => other,
        }
    }

    fn document(&self, mut layers: Vec<Descriptor>, config: Descriptor) -> (MediaType, Vec<u8>) {
        let index_type = match self.target.form {
            CacheForm::Manifest => {
                let media_type = MediaType::from(MediaType::OCI_MANIFEST);
                let manifest = Manifest {
                    schema_version: 2,
                    media_type: Some(media_type.clone()),
                    config,
                    layers,
                    annotations: None,
                };
                let bytes = serde_json::to_vec(&manifest);
                return (media_type, bytes.expect("invariant: all keys are strings"));
            }
            CacheForm::Index => MediaType::OCI_INDEX,
            CacheForm::DockerIndex => MediaType::DOCKER_MANIFEST_LIST,
        };
        layers.push(config);
        let media_type = MediaType::from(index_type);
        let index = Index {
            schema_version: 2,
            media_type: Some(media_type.clone()),
            manifests: layers,
            annotations: None,
        };
        let bytes = serde_json::to_vec(&index);
        (media_type, bytes.expect("invariant: all keys are strings"))
    }
}

fn check_size(what: &'static str, bytes: &[u8], limit: u64) -> Result<(), ExportError> {
    let size = bytes.len();
    match u64::try_from(size).is_ok_and(|size| size <= limit) {
        true => Ok(()),
        false => Err(ExportError::TooLarge { what, size, limit }),
    }
}
