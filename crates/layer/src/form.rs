//! The two forms in which a layer can be mounted.

use std::path::Path;

/// How layers are handed to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The EROFS index, with the tar as its device: kernel 6.12 and the right to mount it.
    Erofs,
    /// The unpacked tree, made on first need.
    Tree,
}

/// Why a text names no form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid layer form `{0}`: expected `erofs` or `tree`")]
pub struct FormError(String);

impl Form {
    /// Mounts a tiny layer, made in `scratch`, and tells which form works here.
    ///
    /// It leaves nothing behind. The answer holds for the boot and the user: keep it.
    pub fn probe(scratch: &Path) -> Self {
        unimplemented!("{scratch:?}")
    }

    /// Parses the name of a form.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        match text {
            "erofs" => Ok(Self::Erofs),
            "tree" => Ok(Self::Tree),
            _ => Err(FormError(text.to_owned())),
        }
    }
}
