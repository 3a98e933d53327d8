//! Tags and repository digests.

use oci::{Digest, ImageId, Reference};

use crate::{Store, StoreError};

impl Store {
    /// Gives an image a name. The name moves when another image had it, which may leave that one
    /// dangling. With `digest`, the manifest digest under which a registry has the image, the
    /// name's repository gets an entry in the image's repository digests. A name with a digest
    /// and no tag gets only that.
    pub fn tag(
        &self,
        name: &Reference,
        id: &ImageId,
        digest: Option<&Digest>,
    ) -> Result<(), StoreError> {
        let _ = (name, id, digest);
        unimplemented!()
    }

    /// Removes a name. Returns the image that had it.
    pub fn untag(&self, name: &Reference) -> Result<Option<ImageId>, StoreError> {
        let _ = name;
        unimplemented!()
    }

    /// Returns the image that has exactly this tag (a name without tag means `latest`).
    pub fn tagged(&self, name: &Reference) -> Result<Option<ImageId>, StoreError> {
        let _ = name;
        unimplemented!()
    }

    /// Returns all tags, or those of one repository, sorted.
    pub fn tags(
        &self,
        repository: Option<&Reference>,
    ) -> Result<Vec<(Reference, ImageId)>, StoreError> {
        let _ = repository;
        unimplemented!()
    }
}
