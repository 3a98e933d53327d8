//! Images from a registry.

use oci::{
    Descriptor, Digest, ImageId, Index, MAX_MANIFEST_SIZE, ManifestOrIndex, Platform, Reference,
};
use registry::{ClientError, Remote};
use store::{
    BlobTarget, Copied, CopyError, CopyOptions, Event, Extent, Mirrored, Source, Store, StoreError,
    StoreSource, StoreTarget, TagDocument, copy, mirror, until_named,
};

use super::layers::unpack;
use super::{make_room, with_room};
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

impl PullError {
    fn is_lack_of_room(&self) -> bool {
        matches!(self, Self::Copy(error) if error.is_lack_of_room())
    }
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
    make_room(store)?;
    with_room(store, PullError::is_lack_of_room, || {
        let lock = store.lock_shared()?;
        let remote = engine.client()?.repository(name)?;
        let pulled = pull_image(store, &remote, name, platform, events)?;
        drop(lock);
        Ok(pulled)
    })
}

/// Pulls all images of the index that `name` (a tag) leads to. Only the one for `platform` is
/// unpacked, else the first; of the others the store has all blobs, so that a push of the tag sends
/// the whole index. What is no index is pulled as [`pull()`] does it.
pub fn pull_all_platforms(
    engine: &Engine,
    name: &Reference,
    platform: &Platform,
    events: &(dyn Fn(Event) + Sync),
) -> Result<Pulled, PullError> {
    let store = engine.store();
    make_room(store)?;
    with_room(store, PullError::is_lack_of_room, || {
        pull_index(engine, name, platform, events)
    })
}

fn pull_index(
    engine: &Engine,
    name: &Reference,
    platform: &Platform,
    events: &(dyn Fn(Event) + Sync),
) -> Result<Pulled, PullError> {
    let store = engine.store();
    let lock = store.lock_shared()?;
    let client = engine.client()?;
    let resolved = client.repository(name)?.resolve();
    let resolved = resolved.map_err(CopyError::Source)?;
    let document = resolved.descriptor.digest;
    // The tag may move meanwhile.
    let remote = client.repository(&name.clone().with_digest(document))?;
    let parsed = ManifestOrIndex::parse(Some(&resolved.descriptor.media_type), &resolved.bytes);
    let index = match parsed {
        Ok(ManifestOrIndex::Index(index)) => index,
        Ok(ManifestOrIndex::Manifest(_)) | Err(_) => {
            return pull_image(store, &remote, name, platform, events);
        }
    };
    let platform = nearest(&index, platform);
    let pulled = pull_image(store, &remote, name, platform, events)?;
    let names = std::slice::from_ref(name);
    let image = pulled.copied.image;
    let options = options(platform, events);
    let mirrored = keep_index::<PullError>(store, &remote, names, image, &options)?;
    remote.record_origins(store, &mirrored.blobs)?;
    drop(lock);
    Ok(pulled)
}

/// Brings all that the index of `source` leads to into the store, as it is, and has `names` lead to
/// it as well as to `image`, which is of the index. The caller holds the root's lock shared.
pub(super) fn keep_index<E: From<CopyError> + From<StoreError>>(
    store: &Store,
    source: &dyn Source,
    names: &[Reference],
    image: ImageId,
    options: &CopyOptions<'_>,
) -> Result<Mirrored, E> {
    let target = BlobTarget::new(store);
    let mirrored = mirror(source, &target, &Extent::Whole, options)?;
    let parts = target.parts();
    for name in names {
        store.set_tag_document(
            name,
            &TagDocument {
                document: mirrored.named.digest,
                parts: &parts,
                image: Some(image),
            },
        )?;
    }
    Ok(mirrored)
}

/// Unpacks the image for `platform` of the index that the store has under the tag `name`, and
/// gives it the tag. `None` when there is no such index or image.
pub fn unpack_platform(
    store: &Store,
    name: &Reference,
    platform: &Platform,
) -> Result<Option<ImageId>, PullError> {
    if name.digest().is_some() {
        return Ok(None);
    }
    let lock = store.lock_shared()?;
    let Some(source) = StoreSource::of_tag(store, name)? else {
        return Ok(None);
    };
    let target = StoreTarget::new(store, &unpack);
    let named = |copied: &Copied| {
        // The registry's digest of the index goes with the tag.
        let digest = copied.named.digest;
        let named = name.clone().with_digest(digest).to_string();
        let is_known = store.resolve(&named).is_ok();
        name_copied(store, name, copied, is_known.then_some(&digest))
    };
    let copy = || copy(&source, &target, &options(platform, &|_| {}));
    let copied = match until_named(copy, named) {
        Err(PullError::Copy(CopyError::NoMatchingPlatform(_))) => return Ok(None),
        copied => copied?,
    };
    drop(lock);
    Ok(Some(copied.image))
}

/// Brings the image of `name` for a platform that is not this machine's into the store, and leaves
/// the tag as it is: the image is named by the digest of its manifest. What the store has under the
/// tag goes before what the registry has, if that is wanted.
pub fn pull_aside(
    engine: &Engine,
    name: &Reference,
    platform: &Platform,
    prefer: Prefer,
) -> Result<ImageId, PullError> {
    let store = engine.store();
    let lock = store.lock_shared()?;
    let target = StoreTarget::new(store, &unpack);
    let bring = |source: &dyn Source| {
        until_named::<PullError>(
            || copy(source, &target, &options(platform, &|_| {})),
            |copied| {
                let digest = copied.manifest.digest;
                let aside = name.without_tag().with_digest(digest);
                store.tag(&aside, &copied.image, None)
            },
        )
    };
    if prefer == Prefer::Store
        && name.digest().is_none()
        && let Some(source) = StoreSource::of_tag(store, name)?
    {
        match bring(&source) {
            Err(PullError::Copy(CopyError::NoMatchingPlatform(_))) => {}
            copied => return Ok(copied?.image),
        }
    }
    let remote = engine.client()?.repository(name)?;
    let copied = bring(&remote)?;
    if let Ok(manifest) = store.read_blob(&copied.manifest.digest, MAX_MANIFEST_SIZE) {
        remote.record_origins(store, &layers(&manifest))?;
    }
    drop(lock);
    Ok(copied.image)
}

/// What goes first when both have an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefer {
    /// The store.
    Store,
    /// The registry.
    Registry,
}

/// Returns `platform` if the index has an image for it, else the platform of its first image.
fn nearest<'a>(index: &'a Index, platform: &'a Platform) -> &'a Platform {
    let mut others = index.manifests.iter().filter_map(|entry| {
        let other = entry.platform.as_ref();
        other.filter(|other| entry.media_type.is_manifest() && other.os != "unknown")
    });
    match (index.select(platform), others.next()) {
        (None, Some(other)) => other,
        _ => platform,
    }
}

fn options<'a>(platform: &Platform, events: &'a (dyn Fn(Event) + Sync)) -> CopyOptions<'a> {
    CopyOptions {
        platform: platform.clone(),
        parallel: super::parallel_layers(),
        events,
    }
}

/// Gives what was copied its name, with the digest that a registry has for it. A tag remembers the
/// manifest that came, and its index if that is the one that was copied from.
fn name_copied(
    store: &Store,
    name: &Reference,
    copied: &Copied,
    digest: Option<&Digest>,
) -> Result<(), StoreError> {
    store.tag(name, &copied.image, digest)?;
    if name.digest().is_none() {
        store.set_tag_manifest(name, &copied.manifest.digest)?;
        store.retain_tag_document(name, &copied.named.digest)?;
    }
    Ok(())
}

fn pull_image(
    store: &Store,
    remote: &Remote,
    name: &Reference,
    platform: &Platform,
    events: &(dyn Fn(Event) + Sync),
) -> Result<Pulled, PullError> {
    let before = match name.digest() {
        Some(_) => store.resolve(&name.to_string()).ok().map(|image| image.id),
        None => store.tagged(name)?,
    };
    let target = StoreTarget::new(store, &unpack);
    let copied = until_named::<PullError>(
        || copy(remote, &target, &options(platform, events)),
        |copied| name_copied(store, name, copied, Some(&copied.named.digest)),
    )?;
    if let Ok(manifest) = store.read_blob(&copied.manifest.digest, MAX_MANIFEST_SIZE) {
        remote.record_origins(store, &layers(&manifest))?;
    }
    let image = store.image(&copied.image)?;
    let found = image.map(|image| image.platform);
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
