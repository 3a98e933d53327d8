//! What the build takes from outside: base images and files behind URLs.

use std::error::Error;
use std::fmt;
use std::io::Read;
use std::path::Path;

use oci::{ImageConfig, ImageId, Platform, Reference};
use store::Pick;

use crate::GitSource;

/// Why a base image or a URL cannot be had; its text follows docker's
/// `failed to resolve source metadata for …: `.
pub type BaseImageError = Box<dyn Error + Send + Sync>;

/// The directory of a commit; it goes with this value.
pub type CheckOut = Box<dyn AsRef<Path> + Send>;

/// Gives the images that `FROM` and `COPY --from` name, and downloads for `ADD`.
///
/// The layers of an image that was given are in the store when the call returns.
pub trait BaseImages: Sync {
    /// Returns the image of `reference` for `platform`, pulling it when the store lacks it.
    fn base_image(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<BaseImage, BaseImageError>;

    /// Returns an image of the OCI layout in the directory `path`, copied to the store.
    fn layout_image(
        &self,
        path: &Path,
        pick: &Pick,
        platform: &Platform,
    ) -> Result<BaseImage, BaseImageError>;

    /// Returns the commit that the reference of a repository names.
    fn git_commit(&self, source: &GitSource) -> Result<String, BaseImageError>;

    /// Fetches this commit of a repository. Its files carry the time of the commit.
    fn git_check_out(&self, source: &GitSource, commit: &str) -> Result<CheckOut, BaseImageError>;

    /// Opens what an `http` or `https` URL names.
    fn download(&self, url: &str) -> Result<Download, BaseImageError>;
}

/// An image that a stage starts from.
#[derive(Debug, Clone)]
pub struct BaseImage {
    /// Its identity.
    pub id: ImageId,
    /// Its configuration; the layers it names are in the store.
    pub config: ImageConfig,
}

/// The content behind a URL.
pub struct Download {
    /// The bytes.
    pub content: Box<dyn Read + Send>,
    /// The time of `Last-Modified`, in seconds since the epoch.
    pub last_modified: Option<i64>,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download")
            .field("last_modified", &self.last_modified)
            .finish_non_exhaustive()
    }
}
