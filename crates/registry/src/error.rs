//! What a registry, or the way to it, can answer instead of content.

/// Why a registry did not do what was asked. `Display` is docker's own text.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The name has no manifest there.
    #[error("manifest for {0} not found: manifest unknown: manifest unknown")]
    ManifestUnknown(String),
}
