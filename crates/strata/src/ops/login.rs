//! Credentials for registries: shown, kept, forgotten.

use std::path::Path;

use registry::login::{self, Keeper, Login};
use registry::{Client, ClientError, CredentialsError};

/// Why logging in failed. `Display` is docker's own text.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The registry did not take the credentials, or was not reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The credentials cannot be kept.
    #[error("failed to keep the credentials")]
    Keep(#[source] CredentialsError),
}

/// Docker's own names for Docker Hub.
const HUB_NAMES: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// Returns the registry that people mean by `server`: the host of a URL, Docker Hub without one.
pub fn registry_of(server: Option<&str>) -> String {
    let server = server.unwrap_or(oci::DEFAULT_REGISTRY);
    let host = server
        .strip_prefix("https://")
        .or_else(|| server.strip_prefix("http://"))
        .unwrap_or(server);
    let host = host.split('/').next().unwrap_or(host);
    match HUB_NAMES.contains(&host) {
        true => oci::DEFAULT_REGISTRY.to_owned(),
        false => host.to_owned(),
    }
}

/// Shows credentials to a registry and keeps them in docker's configuration in `directory`, or
/// where that says. What the registry does not take is not kept.
pub fn log_in(
    client: &Client,
    directory: &Path,
    registry: &str,
    login: &Login,
) -> Result<Keeper, LoginError> {
    let token = client.log_in(registry, login)?;
    login::keep(directory, registry, login, token.as_ref()).map_err(LoginError::Keep)
}

/// Forgets the credentials of a registry.
pub fn log_out(directory: &Path, registry: &str) -> Result<(), CredentialsError> {
    login::forget(directory, registry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_its_host_and_docker_hub_has_many_names() {
        for (server, expected) in [
            (None, "docker.io"),
            (Some("index.docker.io"), "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("http://127.0.0.1:5000/v2/"), "127.0.0.1:5000"),
            (Some("r.example"), "r.example"),
        ] {
            assert_eq!(registry_of(server), expected);
        }
    }
}
