//! `EXPOSE`: port specifications.

/// Why a port specification is wrong. `Display` is docker's own text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// The protocol is not tcp, udp or sctp.
    #[error("invalid proto: {0}")]
    Protocol(String),
}

/// Returns the ports of an expanded specification such as `80`, `53/udp` or `8000-8002`, each
/// with its protocol: `80/tcp`.
pub fn normalize(specification: &str) -> Result<Vec<String>, PortError> {
    unimplemented!("{specification}")
}
