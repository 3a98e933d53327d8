//! A repository in a registry, as the source or target of a copy.

use oci::{Descriptor, Reference};

use crate::ClientError;

/// One repository, with the tag or digest to pull or push.
#[derive(Debug, Clone)]
pub struct Remote;

impl Remote {
    /// Names repositories of the same registry that may hold the blobs to push, as `team/base`:
    /// the registry is asked to mount from them instead of taking the bytes again.
    pub fn mount_from(self, _repositories: Vec<String>) -> Self {
        unimplemented!()
    }

    /// Returns the reference.
    pub fn reference(&self) -> &Reference {
        unimplemented!()
    }

    /// Asks for the descriptor of the manifest without fetching it (this does not count as a
    /// pull at Docker Hub). `None` when the registry does not say.
    pub fn head(&self) -> Result<Option<Descriptor>, ClientError> {
        unimplemented!()
    }

    /// Lists the tags of the repository.
    pub fn tags(&self) -> Result<Vec<String>, ClientError> {
        unimplemented!()
    }
}
