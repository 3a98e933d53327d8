//! Images to a registry.

use oci::{Platform, Reference};
use registry::ClientError;
use store::{
    Copied, CopyError, CopyOptions, Event, ExchangeError, LayerForm, Source as _, Store,
    StoreError, StoreSource, copy,
};

use super::layers::compress;
use super::pull::layers;
use crate::Engine;

/// Why an image was not pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The repository has other tags here.
    #[error("tag does not exist: {0}")]
    NoSuchTag(String),
    /// The repository has no tag here.
    #[error("An image does not exist locally with the tag: {0}")]
    NoSuchRepository(String),
    /// The registry cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The image cannot be read.
    #[error(transparent)]
    Read(#[from] ExchangeError),
    /// The image was not copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Returns the local tags of the repository of `name`; an error when there is none.
pub fn local_tags(store: &Store, name: &Reference) -> Result<Vec<Reference>, PushError> {
    let tags = store.tags(Some(&name.without_tag()))?;
    if tags.is_empty() {
        let repository = name.familiar_repository();
        return Err(PushError::NoSuchRepository(repository));
    }
    Ok(tags.into_iter().map(|(tag, _)| tag).collect())
}

/// Pushes the image that has the tag `name` here to the same name at its registry.
pub fn push(
    engine: &Engine,
    name: &Reference,
    events: &(dyn Fn(Event) + Sync),
) -> Result<Copied, PushError> {
    let store = engine.store();
    let lock = store.lock_shared()?;
    let Some(image) = store.tagged(name)? else {
        local_tags(store, name)?;
        return Err(PushError::NoSuchTag(name.familiar()));
    };
    let parallel = super::parallel_layers();
    let source = StoreSource::new(store, image, LayerForm::Compressed(&compress), parallel)?;
    let layers = layers(&source.resolve()?.bytes);
    let remote = engine.client().repository(name)?;
    let remote = remote.offer_mounts(store, &layers)?;
    let options = CopyOptions {
        platform: Platform::host(),
        parallel,
        events,
    };
    let copied = copy(&source, &remote, &options)?;
    store.tag(name, &image, Some(&copied.manifest.digest))?;
    remote.record_origins(store, &layers)?;
    drop(lock);
    Ok(copied)
}
