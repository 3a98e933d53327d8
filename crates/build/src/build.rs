//! The whole way from a Dockerfile to an image in the store.

use oci::ImageId;

use crate::{BuildContext, BuildError, BuildOptions};

/// What a build gave.
#[derive(Debug, Clone)]
pub struct Built {
    /// The image; it is in the store and carries the tags that were asked for.
    pub id: ImageId,
    /// Its configuration, byte for byte.
    pub config: Vec<u8>,
    /// Steps that made a layer.
    pub executed: usize,
    /// Steps whose layer was there already.
    pub cached: usize,
}

/// Builds an image from a Dockerfile and tags it. Nothing is tagged when a step fails; the
/// layers of the steps before it stay in the cache.
pub fn build(context: &BuildContext<'_>, options: &BuildOptions) -> Result<Built, BuildError> {
    unimplemented!("{context:?} {options:?}")
}
