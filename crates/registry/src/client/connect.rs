//! The client itself.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use oci::Reference;

use super::courier::Courier;
use super::download::Download;
use super::error::ClientError;
use super::options::ClientOptions;
use super::registry::Registry;
use super::remote::Remote;
use super::settings::Place;
use super::transport::Transport;

/// A client for registries and plain downloads. Cheap to clone; clones share connections,
/// tokens and what was learnt about each registry.
///
/// Calls block. They must not come from a worker thread of an async runtime.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    courier: Arc<Courier>,
    docker_config: Option<PathBuf>,
    registries: Mutex<HashMap<String, Arc<Registry>>>,
}

impl Client {
    /// Returns a client; nothing is opened or read before the first request.
    pub fn new(options: ClientOptions) -> Self {
        let settings = Arc::new(options.settings);
        let courier = Arc::new(Courier {
            transport: Transport::new(options.user_agent, options.timeouts, settings.clone()),
            retry: options.retry,
            settings,
        });
        Self {
            shared: Arc::new(Shared {
                courier,
                docker_config: options.docker_config,
                registries: Mutex::default(),
            }),
        }
    }

    /// Returns the repository of `reference`, to pull what the reference names or to push to it.
    /// A reference without tag and digest means `latest`. Pulls ask the registry's mirrors first.
    pub fn repository(&self, reference: &Reference) -> Result<Remote, ClientError> {
        let courier = &self.shared.courier;
        let name = reference.registry();
        let reference = reference.clone().or_latest();
        let at = |place: &Place, registry: Arc<Registry>| {
            Remote::new(courier.clone(), registry, reference.clone(), &place.prefix)
        };
        let mut remote = at(&courier.settings.place(name), self.registry(name)?);
        for mirror in courier.settings.mirrors(name) {
            // One that cannot be asked is left, as one that does not answer is.
            if let Ok(registry) = self.registry(&mirror.registry) {
                remote.mirrors.push(at(mirror, registry));
            }
        }
        Ok(remote)
    }

    /// Fetches `url` (`http` or `https`), following redirects, without credentials.
    pub fn download(&self, url: &str) -> Result<Download, ClientError> {
        Download::start(self.shared.courier.clone(), url)
    }

    pub(super) fn courier(&self) -> &Courier {
        &self.shared.courier
    }

    pub(super) fn registry(&self, name: &str) -> Result<Arc<Registry>, ClientError> {
        let mut registries = self
            .shared
            .registries
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(registry) = registries.get(name) {
            return Ok(registry.clone());
        }
        let docker_config = self.shared.docker_config.clone();
        let registry = Arc::new(Registry::new(name, &self.shared.courier, docker_config)?);
        registries.insert(name.to_owned(), registry.clone());
        Ok(registry)
    }
}
