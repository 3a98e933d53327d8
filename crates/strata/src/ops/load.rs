//! Images from an archive.

use std::io::Read;
use std::path::Path;

use oci::{ImageId, Platform, Reference};
use store::{Archive, ArchiveError, CopyError, CopyOptions, Event, StoreError, StoreTarget, copy};

use super::layers::{decompress, unpack};
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

/// Loads every image of an archive and names it as the archive does.
pub fn load(
    engine: &Engine,
    input: ArchiveInput<'_>,
    platform: &Platform,
    events: &(dyn Fn(Event) + Sync),
) -> Result<Vec<Loaded>, LoadError> {
    let store = engine.store();
    let lock = store.lock_shared()?;
    let archive = match input {
        ArchiveInput::Path(path) => Archive::open(store, path, &decompress)?,
        ArchiveInput::Stream(stream) => Archive::read(store, stream, &decompress)?,
    };
    let mut loaded = Vec::new();
    for image in archive.images()? {
        let target = StoreTarget::new(store, &unpack).manifests(image.manifests);
        let options = CopyOptions {
            platform: platform.clone(),
            parallel: super::parallel_layers(),
            events,
        };
        let copied = copy(&image.source, &target, &options)?;
        for name in &image.names {
            store.tag(name, &copied.image, None)?;
        }
        loaded.push(Loaded {
            id: copied.image,
            names: image.names,
        });
    }
    drop(lock);
    Ok(loaded)
}
