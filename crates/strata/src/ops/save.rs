//! Images to an archive.

use std::fs::File;

use oci::{Reference, ReferenceError};
use store::{ArchiveError, ResolveError, SavedImage, Store, StoreError};

/// Why images were not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// There is no such image. docker completes no tag here.
    #[error("No such image: {0}")]
    NotFound(String),
    /// The text leads to no single image.
    #[error(transparent)]
    Resolve(ResolveError),
    /// The archive was not written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes images as one archive. A name without tag stands for all tags of its repository.
pub fn save(store: &Store, targets: &[String], out: &mut File) -> Result<(), SaveError> {
    let lock = store.lock_shared()?;
    let mut images: Vec<SavedImage> = Vec::new();
    for target in targets {
        for found in find(store, target)? {
            match images.iter_mut().find(|image| image.id == found.id) {
                Some(image) => {
                    let new = found.names.into_iter().filter(|n| !image.names.contains(n));
                    let new: Vec<Reference> = new.collect();
                    image.names.extend(new);
                }
                None => images.push(found),
            }
        }
    }
    store::save(store, &images, out)?;
    drop(lock);
    Ok(())
}

fn find(store: &Store, target: &str) -> Result<Vec<SavedImage>, SaveError> {
    let name = match Reference::parse(target) {
        Ok(name) => Some(name),
        Err(ReferenceError::LooksLikeId(_) | ReferenceError::Past(_)) => None,
        Err(_) if target.starts_with("sha256:") => None,
        Err(error) => return Err(SaveError::Resolve(ResolveError::Invalid(error))),
    };
    if let Some(name) = &name
        && name.tag().is_none()
        && name.digest().is_none()
    {
        let tags = store.tags(Some(name))?;
        if !tags.is_empty() {
            let images = tags.into_iter().map(|(name, id)| SavedImage {
                id,
                names: vec![name],
            });
            return Ok(images.collect());
        }
    }
    let image = store.resolve(target).map_err(|error| match error {
        ResolveError::NotFound { .. } => SaveError::NotFound(target.to_owned()),
        other => SaveError::Resolve(other),
    })?;
    let names = name.into_iter().filter(|name| image.tags.contains(name));
    Ok(vec![SavedImage {
        id: image.id,
        names: names.collect(),
    }])
}
