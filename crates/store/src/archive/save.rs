//! Writing archives in docker 28's form.

use std::fs::File;

use oci::{ImageId, Reference};

use super::ArchiveError;
use crate::Store;

/// An image to save, and the names it gets in the archive.
#[derive(Debug, Clone)]
pub struct SavedImage {
    /// The image.
    pub id: ImageId,
    /// Names with tags; may be empty.
    pub names: Vec<Reference>,
}

/// Writes images as one tar that is an OCI layout and a docker archive. Equal images give equal
/// bytes.
pub fn save(store: &Store, images: &[SavedImage], out: &mut File) -> Result<(), ArchiveError> {
    let _ = (store, images, out);
    unimplemented!()
}
