//! Removing images by docker's rules.

use oci::{Digest, ImageId};

use crate::{ResolveError, Store, StoreError};

/// Whether removal goes on where docker asks for `--force`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Stop at conflicts.
    No,
    /// Go on at soft conflicts.
    Yes,
}

/// One line of what was removed, in docker's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// A name or a name with digest was removed.
    Untagged(String),
    /// An image (its id) or a stack of layers that only it used (its ChainId) is gone.
    Deleted(Digest),
}

/// Why an image was not removed. `Display` is docker's text.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The text does not lead to an image.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The last name of an image that a container uses.
    #[error(
        "conflict: unable to remove repository reference \"{name}\" (must force) - container {container} is using its referenced image {image}"
    )]
    NameInUse {
        /// The name as given.
        name: String,
        /// The container's short id.
        container: String,
        /// The image's short id.
        image: String,
    },
    /// A conflict that force overrides.
    #[error("conflict: unable to delete {image} (must be forced) - {reason}")]
    MustForce {
        /// The image's short id.
        image: String,
        /// What stands against it.
        reason: Conflict,
    },
    /// A conflict that force does not override.
    #[error("conflict: unable to delete {image} (cannot be forced) - {reason}")]
    CannotForce {
        /// The image's short id.
        image: String,
        /// What stands against it.
        reason: Conflict,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What stands against deleting an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Another image was committed from it.
    #[error("image has dependent child images")]
    DependentChild,
    /// A running container uses it.
    #[error("image is being used by running container {0}")]
    RunningContainer(String),
    /// A stopped container uses it.
    #[error("image is being used by stopped container {0}")]
    StoppedContainer(String),
    /// It has names in several repositories, or several names.
    #[error("image is referenced in multiple repositories")]
    MultipleRepositories,
}

impl Store {
    /// Removes a name, and the image when it was the last one, by docker's rules. Layers and
    /// blobs that nothing needs any more stay until a sweep.
    pub fn remove_image(&self, target: &str, force: Force) -> Result<Vec<Removal>, RemoveError> {
        let _ = (target, force);
        unimplemented!()
    }

    /// Returns the ids of the images that were committed from an image.
    pub fn children(&self, id: &ImageId) -> Result<Vec<ImageId>, StoreError> {
        let _ = id;
        unimplemented!()
    }
}
