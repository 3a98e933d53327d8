//! Images from a registry.

use oci::{Descriptor, MAX_MANIFEST_SIZE, ManifestOrIndex, Platform, Reference};
use registry::ClientError;
use store::{Copied, CopyError, CopyOptions, Event, StoreError, StoreTarget, copy};

use super::layers::unpack;
use crate::Engine;

/// Why an image was not pulled. Layers that arrived stay, and are not fetched again.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The image was not copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An image that was pulled.
#[derive(Debug)]
pub struct Pulled {
    /// What the copy did.
    pub copied: Copied,
    /// Whether the name is new or has moved.
    pub freshness: Freshness,
    /// What the image is for, when that is not what was asked for: the registry has no index.
    pub other_platform: Option<Platform>,
}

/// What a pull changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// The name led to this image before.
    UpToDate,
    /// The name leads to another image now.
    Newer,
}

/// Pulls the image that `name` (with tag or digest) names at its registry for `platform`, and
/// gives it that name.
pub fn pull(
    engine: &Engine,
    name: &Reference,
    platform: &Platform,
    events: &(dyn Fn(Event) + Sync),
) -> Result<Pulled, PullError> {
    let store = engine.store();
    let lock = store.lock_shared()?;
    let before = match name.digest() {
        Some(_) => store.resolve(&name.to_string()).ok().map(|image| image.id),
        None => store.tagged(name)?,
    };
    let remote = engine.client()?.repository(name)?;
    let target = StoreTarget::new(store, &unpack);
    let options = CopyOptions {
        platform: platform.clone(),
        parallel: super::parallel_layers(),
        events,
    };
    let copied = copy(&remote, &target, &options)?;
    store.tag(name, &copied.image, Some(&copied.named.digest))?;
    if name.digest().is_none() {
        store.set_tag_manifest(name, &copied.manifest.digest)?;
    }
    if let Ok(manifest) = store.read_blob(&copied.manifest.digest, MAX_MANIFEST_SIZE) {
        remote.record_origins(store, &layers(&manifest))?;
    }
    let image = store.image(&copied.image)?;
    let found = image.map(|image| image.platform);
    drop(lock);
    let freshness = match before == Some(copied.image) {
        true => Freshness::UpToDate,
        false => Freshness::Newer,
    };
    Ok(Pulled {
        copied,
        freshness,
        other_platform: found.filter(|found| !found.serves(platform)),
    })
}

/// Returns the tags that the repository of `name` has at its registry.
pub fn tags(engine: &Engine, name: &Reference) -> Result<Vec<String>, PullError> {
    Ok(engine.client()?.repository(name)?.tags()?)
}

/// Returns the layers of a manifest; none of what is no manifest.
pub(super) fn layers(manifest: &[u8]) -> Vec<Descriptor> {
    match ManifestOrIndex::parse(None, manifest) {
        Ok(ManifestOrIndex::Manifest(manifest)) => manifest.layers,
        Ok(ManifestOrIndex::Index(_)) | Err(_) => Vec::new(),
    }
}
