//! A container from an image.

use std::collections::BTreeMap;
use std::io;

use oci::{ImageConfig, Platform, RunConfig};
use store::{
    ContainerError, ContainerRecord, ContainerState, ImageRecord, ResolveError, Store, StoreError,
    Timestamp,
};

use crate::container::name::Random;
use crate::container::options::short_id;
use crate::container::{Bind, Container, ContainerOptions, NetworkMode};

/// What the user asks for; what is `None` or empty comes from the image.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// The name; without one a name is made up.
    pub name: Option<String>,
    /// The command, instead of the image's.
    pub command: Vec<String>,
    /// The entrypoint, instead of the image's; one empty word removes it.
    pub entrypoint: Option<String>,
    /// Variables, as `NAME=value`.
    pub env: Vec<String>,
    /// Labels, added to the image's.
    pub labels: BTreeMap<String, String>,
    /// The directory to start in.
    pub working_dir: Option<String>,
    /// `user[:group]`.
    pub user: Option<String>,
    /// The host name; without one the short id, or the host's own on the host's network.
    pub hostname: Option<String>,
    /// Directories of the host.
    pub binds: Vec<Bind>,
    /// The network; the host's when none is named.
    pub network: Option<NetworkMode>,
    /// The signal that asks it to end.
    pub stop_signal: Option<String>,
    /// Whether the root file system may only be read.
    pub read_only: bool,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether it gets input.
    pub stdin: bool,
    /// Whether it is removed when it ends.
    pub auto_remove: bool,
    /// The platform that the image must be for.
    pub platform: Option<Platform>,
}

/// Why a container was not created. `Display` is docker's own text.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The image is not here.
    #[error(transparent)]
    Image(#[from] ResolveError),
    /// The image that is here is for another platform.
    #[error(
        "image with reference {image} was found but its platform ({found}) does not match the specified platform ({wanted})"
    )]
    OtherPlatform {
        /// What the user wrote.
        image: String,
        /// The platform of the image.
        found: String,
        /// The platform that was asked for.
        wanted: String,
    },
    /// Neither the image nor the user says what to run.
    #[error("no command specified")]
    NoCommand,
    /// The working directory is relative.
    #[error("the working directory '{0}' is invalid, it needs to be an absolute path")]
    RelativeWorkingDir(String),
    /// The stop signal is none.
    #[error("invalid signal: {0}")]
    InvalidSignal(String),
    /// The name is taken.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The kernel gave no random bytes.
    #[error("cannot make an id")]
    Random(#[source] io::Error),
}

/// As often as a made-up name may be taken already.
const ATTEMPTS: u32 = 16;

/// A container that was created.
#[derive(Debug)]
pub struct Created {
    /// The container.
    pub container: Container,
    /// What its image is for.
    pub platform: Platform,
}

/// Records a container of the image that `image` names. Nothing runs yet.
pub fn create(store: &Store, image: &str, options: CreateOptions) -> Result<Created, CreateError> {
    let lock = store.lock_shared()?;
    let record = store.resolve(image)?;
    if let Some(wanted) = &options.platform
        && !record.platform.serves(wanted)
    {
        return Err(CreateError::OtherPlatform {
            image: image.to_owned(),
            found: record.platform.to_string(),
            wanted: wanted.to_string(),
        });
    }
    let config = store.image_config(&record.id)?;
    let run_config = merged(&config, &options);
    if Container::args(&run_config).is_empty() {
        return Err(CreateError::NoCommand);
    }
    if !run_config.working_dir.is_empty() && !run_config.working_dir.starts_with('/') {
        return Err(CreateError::RelativeWorkingDir(run_config.working_dir));
    }
    if let Some(signal) = &options.stop_signal
        && !runtime::signal::is_signal(signal)
    {
        return Err(CreateError::InvalidSignal(signal.clone()));
    }
    let image = Named {
        name: image,
        record: &record,
    };
    let container = put(store, &image, run_config, options)?;
    drop(lock);
    Ok(Created {
        container,
        platform: record.platform,
    })
}

struct Named<'a> {
    name: &'a str,
    record: &'a ImageRecord,
}

fn put(
    store: &Store,
    image: &Named<'_>,
    config: RunConfig,
    options: CreateOptions,
) -> Result<Container, CreateError> {
    let mut attempt = 0;
    let mut options = options;
    let binds = std::mem::take(&mut options.binds);
    let chosen_name = options.name.take();
    let mut container = Container {
        record: ContainerRecord {
            id: String::new(),
            name: String::new(),
            image: image.record.id,
            image_name: image.name.to_owned(),
            command: Container::args(&config),
            created: Timestamp::now(),
            state: ContainerState::Created,
            auto_remove: options.auto_remove,
            options: serde_json::Value::Null,
            layers: image.record.layers.clone(),
        },
        options: ContainerOptions {
            config,
            hostname: String::new(),
            binds,
            network: options.network.unwrap_or(NetworkMode::Host),
            read_only: options.read_only,
            tty: options.tty,
            stdin: options.stdin,
        },
    };
    loop {
        let random = Random::read().map_err(CreateError::Random)?;
        let record = &mut container.record;
        record.id = random.id();
        record.name = chosen_name.clone().unwrap_or_else(|| random.name());
        container.options.hostname = hostname(&options, &record.id);
        record.options = serde_json::to_value(&container.options)
            .expect("invariant: options have only string keys");
        match store.put_container(record) {
            Ok(()) => return Ok(container),
            Err(ContainerError::NameInUse { .. })
                if chosen_name.is_none() && attempt < ATTEMPTS =>
            {
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// On the host's network a program may look itself up by name: docker shows it the host's.
fn hostname(options: &CreateOptions, id: &str) -> String {
    match (&options.hostname, options.network) {
        (Some(name), _) => name.clone(),
        (None, Some(NetworkMode::Host)) => {
            let host = rustix::system::uname();
            host.nodename().to_string_lossy().into_owned()
        }
        (None, Some(NetworkMode::None) | None) => short_id(id).to_owned(),
    }
}

/// The image's configuration with what the user set, by docker's rules: a new entrypoint goes
/// without the image's command.
fn merged(image: &ImageConfig, options: &CreateOptions) -> RunConfig {
    let mut config = image.config.clone();
    match &options.entrypoint {
        Some(entrypoint) => {
            config.entrypoint = (!entrypoint.is_empty()).then(|| vec![entrypoint.clone()]);
            config.cmd = None;
        }
        None if config.entrypoint.as_ref().is_some_and(Vec::is_empty) => config.entrypoint = None,
        None => {}
    }
    if !options.command.is_empty() {
        config.cmd = Some(options.command.clone());
    }
    let mut env = options.env.clone();
    for variable in &image.config.env {
        let name = |text: &str| text.split('=').next().unwrap_or_default().to_owned();
        if !env.iter().any(|known| name(known) == name(variable)) {
            env.push(variable.clone());
        }
    }
    config.env = env;
    config.labels.extend(options.labels.clone());
    if let Some(working_dir) = &options.working_dir {
        config.working_dir.clone_from(working_dir);
    }
    if let Some(user) = &options.user {
        config.user.clone_from(user);
    }
    if let Some(signal) = &options.stop_signal {
        config.stop_signal.clone_from(signal);
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(texts: &[&str]) -> Option<Vec<String>> {
        Some(texts.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_new_entrypoint_goes_without_the_images_command() {
        let image = ImageConfig {
            config: RunConfig {
                entrypoint: words(&["/entry"]),
                cmd: words(&["a", "b"]),
                env: vec!["A=1".to_owned(), "B=2".to_owned()],
                ..RunConfig::default()
            },
            ..ImageConfig::default()
        };
        for (entrypoint, command, expected) in [
            (None, &[][..], &["/entry", "a", "b"][..]),
            (None, &["c"], &["/entry", "c"]),
            (Some("/new"), &[], &["/new"]),
            (Some("/new"), &["c"], &["/new", "c"]),
            (Some(""), &["c"], &["c"]),
            (Some(""), &[], &[]),
        ] {
            let options = CreateOptions {
                entrypoint: entrypoint.map(str::to_owned),
                command: command.iter().map(ToString::to_string).collect(),
                env: vec!["B=3".to_owned()],
                ..CreateOptions::default()
            };
            let config = merged(&image, &options);
            assert_eq!(Container::args(&config), expected);
            assert_eq!(config.env, ["B=3", "A=1"]);
        }
    }
}
