//! Images: a configuration, its layers, and the manifest it came with.

use std::collections::BTreeMap;

use oci::{Descriptor, DiffId, ImageConfig, ImageId, MediaType, Platform, Reference};

use crate::{Store, StoreError, Timestamp};

/// An image to record.
#[derive(Debug, Clone, Copy)]
pub struct NewImage<'a> {
    /// The bytes of its configuration, as received or made.
    pub config: &'a [u8],
    /// The manifest it came with, as received.
    pub manifest: Option<(&'a MediaType, &'a [u8])>,
    /// The image it was committed from.
    pub parent: Option<ImageId>,
}

/// An image in the store. Everything is read from the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// The digest of its configuration.
    pub id: ImageId,
    /// Its names, sorted.
    pub tags: Vec<Reference>,
    /// Names with the digest under which a registry has it, sorted.
    pub repo_digests: Vec<Reference>,
    /// The manifest it came with.
    pub manifest: Option<Descriptor>,
    /// When it was made, as its configuration says.
    pub created: Option<String>,
    /// When a name was last given to it.
    pub last_tagged: Option<Timestamp>,
    /// The sum of the sizes of the files of its layers: docker's SIZE.
    pub size: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The platform it is for.
    pub platform: Platform,
    /// Its layers, bottom first.
    pub layers: Vec<DiffId>,
    /// The image it was committed from.
    pub parent: Option<ImageId>,
}

impl ImageRecord {
    /// Tells whether it has no tag.
    pub fn is_dangling(&self) -> bool {
        self.tags.is_empty()
    }
}

impl Store {
    /// Records an image. Every layer must be in the store. Recording an image again is no error;
    /// a manifest replaces the one before.
    pub fn put_image(&self, image: &NewImage<'_>) -> Result<ImageId, StoreError> {
        let _ = image;
        unimplemented!()
    }

    /// Returns all images, newest first.
    pub fn images(&self) -> Result<Vec<ImageRecord>, StoreError> {
        unimplemented!()
    }

    /// Returns one image.
    pub fn image(&self, id: &ImageId) -> Result<Option<ImageRecord>, StoreError> {
        let _ = id;
        unimplemented!()
    }

    /// Returns the parsed configuration of an image.
    pub fn image_config(&self, id: &ImageId) -> Result<ImageConfig, StoreError> {
        Ok(ImageConfig::parse(&self.image_config_bytes(id)?)?)
    }

    /// Returns the configuration of an image as it was received.
    pub fn image_config_bytes(&self, id: &ImageId) -> Result<Vec<u8>, StoreError> {
        let _ = id;
        unimplemented!()
    }

    /// Returns a manifest whose blobs are all in the store: the one received when that is so,
    /// else a generated one with uncompressed layers.
    pub fn manifest_of(&self, id: &ImageId) -> Result<(MediaType, Vec<u8>), StoreError> {
        let _ = id;
        unimplemented!()
    }
}
