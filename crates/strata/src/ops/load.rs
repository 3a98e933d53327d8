//! Images from an archive.

use std::io::Read;
use std::path::Path;

use oci::{ImageId, Platform, Reference};
use store::{
    Archive, ArchiveError, Copied, CopyError, CopyOptions, Event, Pick, Store, StoreError,
    StoreTarget, copy, until_named,
};

use super::layers::{decompress, unpack};
use super::pull::keep_index;
use super::{make_room, with_room};
use crate::Engine;

/// Where an archive is.
pub enum ArchiveInput<'a> {
    /// In a file or directory.
    Path(&'a Path),
    /// In a stream, which need not be seekable.
    Stream(Box<dyn Read + Send>),
}

impl std::fmt::Debug for ArchiveInput<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The image.
    pub id: ImageId,
    /// The names that it now has.
    pub names: Vec<Reference>,
}

/// Why an archive was not loaded. Images before the one that failed stay.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The archive cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// An image of it cannot be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LoadError {
    fn is_lack_of_room(&self) -> bool {
        matches!(self, Self::Copy(error) if error.is_lack_of_room())
    }
}

/// Loads every image of an archive and names it as the archive does. Of an index, the image for
/// `platform` is unpacked, this machine's when there is none; then an index that the archive has
/// all of is kept too, as `pull --all-platforms` keeps it.
pub fn load(
    engine: &Engine,
    input: ArchiveInput<'_>,
    platform: Option<&Platform>,
    events: &(dyn Fn(Event) + Sync),
) -> Result<Vec<Loaded>, LoadError> {
    let store = engine.store();
    make_room(store)?;
    let lock = store.lock_shared()?;
    let archive = match input {
        ArchiveInput::Path(path) => Archive::open(store, path, &decompress)?,
        ArchiveInput::Stream(stream) => Archive::read(store, stream, &decompress)?,
    };
    drop(lock);
    with_room(store, LoadError::is_lack_of_room, || {
        let lock = store.lock_shared()?;
        let loaded = load_images(store, &archive, platform, events)?;
        drop(lock);
        Ok(loaded)
    })
}

/// Copies an image of the OCI layout in the directory `path` to the store, without a name. The
/// caller's lock keeps it.
pub fn load_layout_image(
    store: &Store,
    path: &Path,
    pick: &Pick,
    platform: &Platform,
) -> Result<ImageId, LoadError> {
    let archive = Archive::open(store, path, &decompress)?.as_layout();
    let image = archive.image(pick)?;
    let target = StoreTarget::new(store, &unpack).manifests(image.manifests);
    let options = CopyOptions {
        platform: platform.clone(),
        parallel: super::parallel_layers(),
        events: &|_| {},
    };
    let named = |_: &Copied| Ok(());
    let copied = until_named::<LoadError>(|| copy(&image.source, &target, &options), named)?;
    Ok(copied.image)
}

fn load_images(
    store: &Store,
    archive: &Archive,
    platform: Option<&Platform>,
    events: &(dyn Fn(Event) + Sync),
) -> Result<Vec<Loaded>, LoadError> {
    let mut loaded = Vec::new();
    for image in archive.images()? {
        let target = StoreTarget::new(store, &unpack).manifests(image.manifests);
        let options = CopyOptions {
            platform: platform.cloned().unwrap_or_else(Platform::host),
            parallel: super::parallel_layers(),
            events,
        };
        // Without a wish, it is the image that `manifest.json` has chosen.
        let source = match (&image.index, platform) {
            (Some(index), Some(_)) => index,
            _ => &image.source,
        };
        let named = |copied: &Copied| {
            let mut names = image.names.iter();
            names.try_for_each(|name| store.tag(name, &copied.image, None))
        };
        let copied = until_named::<LoadError>(|| copy(source, &target, &options), named)?;
        if let (Some(index), None) = (&image.index, platform) {
            keep_index::<LoadError>(store, index, &image.names, copied.image, &options)?;
        }
        loaded.push(Loaded {
            id: copied.image,
            names: image.names,
        });
    }
    Ok(loaded)
}
