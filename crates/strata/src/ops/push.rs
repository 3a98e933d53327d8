//! Images to a registry.

use std::io::Read;

use layer::Compression;
use oci::{Descriptor, Digest, ImageId, MAX_MANIFEST_SIZE, Platform, Reference};
use registry::ClientError;
use store::{
    CopyError, CopyOptions, Event, ExchangeError, Extent, Packing, Reuse, Source as _, Store,
    StoreError, StoreSource, mirror,
};

use super::layers::{compress, media_type};
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
    /// Nothing under the tag is for the platform.
    #[error(
        "image with reference {name} was found but does not provide the specified platform ({platform})"
    )]
    NoSuchPlatform {
        /// The name.
        name: String,
        /// The platform.
        platform: String,
    },
    /// The layers of an index are not compressed again.
    #[error(
        "{0} is an index, which goes as it is, or with `--platform` one image of it: push it without `--compression`"
    )]
    CompressedIndex(String),
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

/// Returns the local tags of the repository of `name`; an error when there is none.
pub fn local_tags(store: &Store, name: &Reference) -> Result<Vec<Reference>, PushError> {
    let tags = store.tags(Some(&name.without_tag()))?;
    if tags.is_empty() {
        let repository = name.familiar_repository();
        return Err(PushError::NoSuchRepository(repository));
    }
    Ok(tags.into_iter().map(|(tag, _)| tag).collect())
}

/// How layers are compressed on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    /// As they are when they are compressed already, else by default.
    #[default]
    Any,
    /// In this format; layers that are in it already go as they are.
    Format(Compression),
    /// Exactly so, whatever there is already.
    Exactly(Compression),
}

impl Wanted {
    /// Returns how layers are compressed.
    pub fn compression(self) -> Compression {
        match self {
            Self::Any => Compression::DEFAULT,
            Self::Format(compression) | Self::Exactly(compression) => compression,
        }
    }

    /// Returns which compressed layers go as they are.
    pub fn reuse(self) -> Reuse {
        match self {
            Self::Any => Reuse::All,
            Self::Format(compression) => Reuse::Only(media_type(compression)),
            Self::Exactly(_) => Reuse::None,
        }
    }
}

/// Pushes what has the tag `name` here to the same name at its registry: the image, or the index
/// with all its images, of which `platform` selects one. Returns what the name leads to there.
pub fn push(
    engine: &Engine,
    name: &Reference,
    platform: Option<&Platform>,
    wanted: Wanted,
    events: &(dyn Fn(Event) + Sync),
) -> Result<Descriptor, PushError> {
    let store = engine.store();
    let lock = store.lock_shared()?;
    let Some(image) = store.tagged(name)? else {
        local_tags(store, name)?;
        return Err(PushError::NoSuchTag(name.familiar()));
    };
    let remote = engine.client()?.repository(name)?;
    let remote = remote.remember_sessions(store);
    let options = CopyOptions {
        platform: platform.cloned().unwrap_or_else(Platform::host),
        parallel: super::parallel_layers(),
        events,
    };
    let has_platform = match platform {
        Some(platform) => {
            let record = store.image(&image)?;
            record.is_some_and(|record| record.platform.serves(platform))
        }
        None => true,
    };
    match StoreSource::of_tag(store, name)? {
        Some(index) if wanted == Wanted::Any => {
            let extent = platform.map_or(Extent::Whole, |p| Extent::Platform(p.clone()));
            let remote = remote.offer_mounts(store, &store.tag_document_parts(name)?)?;
            let pushed = mirror(&index, &remote, &extent, &options)?;
            record_pushed(store, name, &image, &pushed.named.digest)?;
            remote.record_origins(store, &pushed.blobs)?;
            return Ok(pushed.named);
        }
        Some(_) if platform.is_none() => return Err(PushError::CompressedIndex(name.familiar())),
        Some(_) | None if has_platform => {}
        Some(_) | None => {
            return Err(PushError::NoSuchPlatform {
                name: name.familiar(),
                platform: options.platform.to_string(),
            });
        }
    }
    let remote = remote.offer_mounts(store, &known_blobs(store, image)?)?;
    let packing = Packing {
        compress: &|tar, out| compress(tar, out, wanted.compression()),
        reuse: wanted.reuse(),
        manifest: store.tag_manifest(name)?,
        fetch: Some(&|blob, offset| fetch(engine, blob, offset)),
    };
    let copied = store::push(store, &image, &packing, &remote, &options)?;
    record_pushed(store, name, &image, &copied.manifest.digest)?;
    let manifest = store.read_blob(&copied.manifest.digest, MAX_MANIFEST_SIZE)?;
    remote.record_origins(store, &layers(&manifest))?;
    drop(lock);
    Ok(copied.manifest)
}

/// Opens a blob that the store has not kept at a registry that it came from.
fn fetch(
    engine: &Engine,
    blob: &Descriptor,
    offset: u64,
) -> Result<Box<dyn Read + Send>, ExchangeError> {
    let origins = engine.store().origins(&blob.digest);
    let mut failure = ExchangeError::permanent(StoreError::BlobNotFound(blob.digest));
    for origin in origins.map_err(ExchangeError::permanent)? {
        let opened = Reference::parse(&origin)
            .map_err(ExchangeError::permanent)
            .and_then(|name| {
                let remote = engine.client().and_then(|client| client.repository(&name));
                remote.map_err(ExchangeError::permanent)
            })
            .and_then(|remote| remote.open_blob(blob, offset));
        match opened {
            Ok(reader) => return Ok(reader),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Records what a registry has under `name` now. Another command may have given the tag to another
/// image meanwhile, or removed this one: that stays as it is.
fn record_pushed(
    store: &Store,
    name: &Reference,
    image: &ImageId,
    digest: &Digest,
) -> Result<(), StoreError> {
    match store.tag(&name.clone().with_digest(*digest), image, None) {
        Err(StoreError::ImageNotFound(_)) => Ok(()),
        recorded => recorded,
    }
}

/// Returns the digests under which a registry may know the layers of an image already.
fn known_blobs(store: &Store, image: ImageId) -> Result<Vec<Digest>, StoreError> {
    let record = store.image(&image)?;
    let record = record.ok_or(StoreError::ImageNotFound(image))?;
    let mut blobs = Vec::new();
    for layer in &record.layers {
        blobs.push(*layer.digest());
        blobs.extend(store.compressed(layer)?.into_iter().map(|blob| blob.digest));
    }
    Ok(blobs)
}
