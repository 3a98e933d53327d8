//! Where a build cache is.

use std::fmt;
use std::path::PathBuf;

use oci::Reference;
use registry::{ClientError, Remote};
use store::Pick;

use crate::Engine;

/// Where a build cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheLocation {
    /// At a registry.
    Registry {
        /// Its name, as it was given.
        name: String,
        /// The same, read.
        reference: Reference,
        /// Whether the registry is asked without TLS, whatever the settings say.
        plain_http: bool,
    },
    /// In a directory with an OCI layout.
    Directory {
        /// The directory.
        path: PathBuf,
        /// Which cache in it.
        pick: Pick,
    },
}

impl fmt::Display for CacheLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry { name, .. } => f.write_str(name),
            Self::Directory { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

/// Returns the repository of a cache at a registry.
pub(super) fn repository(
    engine: &Engine,
    reference: &Reference,
    plain_http: bool,
) -> Result<Remote, ClientError> {
    match plain_http {
        true => engine
            .client_without_tls(reference.registry())?
            .repository(reference),
        false => engine.client()?.repository(reference),
    }
}
