//! The nouns of container images, as the OCI specifications name them.
//!
//! This crate does no I/O: it parses, checks and prints. Everything that names content
//! (`Digest`, `DiffId`, `ChainId`, `ImageId`) is a type of its own, so that one cannot be
//! passed for another.

mod config;
mod descriptor;
mod digest;
mod fields;
mod manifest;
mod past_name;
mod platform;
mod reference;

pub use config::{
    ConfigError, Empty, Healthcheck, History, ImageConfig, MAX_CONFIG_SIZE, RootFs, RunConfig,
};
pub use descriptor::{Descriptor, MediaType};
pub use digest::{ChainId, DiffId, Digest, DigestError, Hasher, ImageId};
pub use manifest::{Index, MAX_MANIFEST_SIZE, Manifest, ManifestError, ManifestOrIndex};
pub use past_name::{PastName, PastNameError};
pub use platform::{Platform, PlatformError};
pub use reference::{DEFAULT_REGISTRY, DEFAULT_TAG, Reference, ReferenceError};
