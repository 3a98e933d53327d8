//! What operations work with: the store, the form of layers here, the way to registries.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use layer::Form;
use registry::{Client, ClientError, ClientOptions, Settings, SettingsError};
use store::{Purpose, Store, StoreError, StoreOptions};

use crate::ops::tidy;

/// Where an engine keeps its things, and how it behaves.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The store.
    pub root: PathBuf,
    /// Mounts, locks and what else does not outlive a boot.
    pub run: PathBuf,
    /// The form of layers; without it the kernel is asked once.
    pub form: Option<Form>,
    /// What the store is opened for. Without it, what is changed cannot be undone.
    pub purpose: Option<Purpose>,
    /// How registries are reached.
    pub registries: RegistryFiles,
}

/// Files that say how registries are reached.
#[derive(Debug, Clone, Default)]
pub struct RegistryFiles {
    /// The directory of docker's `config.json`.
    pub docker_config: Option<PathBuf>,
    /// The file of [`registry::Settings`].
    pub settings: Option<PathBuf>,
    /// Directories as `/etc/docker/certs.d`: certificates by host.
    pub certificates: Vec<PathBuf>,
}

impl RegistryFiles {
    /// Returns a client for registries and downloads. Reads the settings; credentials are read
    /// when a registry asks for them.
    pub fn client(&self) -> Result<Client, SettingsError> {
        Ok(self.client_with(self.read()?))
    }

    /// Returns one that asks `registry` without TLS.
    pub fn client_without_tls(&self, registry: &str) -> Result<Client, SettingsError> {
        Ok(self.client_with(self.read()?.with_plain_http(registry)))
    }

    fn read(&self) -> Result<Settings, SettingsError> {
        let settings = self.settings.as_deref().map(Settings::read).transpose()?;
        let settings = settings.unwrap_or_default();
        Ok(settings.with_certificates(&self.certificates))
    }

    fn client_with(&self, settings: Settings) -> Client {
        Client::new(ClientOptions {
            docker_config: self.docker_config.clone(),
            settings,
            ..ClientOptions::default()
        })
    }
}

/// A store and what is needed to work with it. Opening it touches no network and probes nothing.
pub struct Engine {
    store: Store,
    options: EngineOptions,
    form: OnceLock<Form>,
    client: OnceLock<Client>,
}

impl Engine {
    /// Opens the store, making it when it is not there.
    pub fn open(options: EngineOptions) -> Result<Self, StoreError> {
        let differing = StoreOptions {
            unmount: Some(tidy::unmount),
            ..StoreOptions::default()
        };
        let store = Store::open_with(&options.root, &options.run, &differing)?;
        let store = match &options.purpose {
            Some(purpose) => store.operation(purpose.clone()),
            None => store.unrecorded(),
        };
        Ok(Self {
            store,
            options,
            form: OnceLock::new(),
            client: OnceLock::new(),
        })
    }

    /// Returns the store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the options it was opened with.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Returns the form in which layers are mounted here.
    ///
    /// The kernel's answer holds for one boot, one user and the file system that the store is on
    /// (memory file systems cannot back a mount), and is kept for them in the run directory.
    pub fn form(&self) -> io::Result<Form> {
        if let Some(form) = self.options.form.or(self.form.get().copied()) {
            return Ok(form);
        }
        let form = self.probed_form()?;
        Ok(*self.form.get_or_init(|| form))
    }

    fn probed_form(&self) -> io::Result<Form> {
        let user = rustix::process::geteuid().as_raw();
        let boot = sys::boot::boot_id()?;
        let device = fs::metadata(&self.options.root)?.dev();
        let name = format!("form-{user}-{device}");
        let path = self.options.run.join(&name);
        if let Ok(text) = fs::read_to_string(&path)
            && let Some((known_boot, form)) = text.split_once(' ')
            && known_boot == boot
            && let Ok(form) = Form::parse(form)
        {
            return Ok(form);
        }
        let form = {
            let scratch = self.store.scratch().map_err(io::Error::other)?;
            Form::probe(scratch.path())
        };
        let word = match form {
            Form::Erofs => "erofs",
            Form::Tree => "tree",
        };
        // Renamed into place: another process may read it now.
        let partial = format!("{name}.{}", std::process::id());
        let partial = self.options.run.join(partial);
        fs::write(&partial, format!("{boot} {word}"))?;
        fs::rename(&partial, &path)?;
        Ok(form)
    }

    /// Returns a client of its own that asks `registry` without TLS.
    pub fn client_without_tls(&self, registry: &str) -> Result<Client, ClientError> {
        Ok(self.options.registries.client_without_tls(registry)?)
    }

    /// Returns the client for registries and downloads.
    pub fn client(&self) -> Result<&Client, ClientError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = self.options.registries.client()?;
        Ok(self.client.get_or_init(|| client))
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
