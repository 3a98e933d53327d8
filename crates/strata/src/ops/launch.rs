//! From a container's record to a running process, and back to a record of its end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use layer::{LayerDir, RootfsError, RootfsOptions};
use runtime::{
    Access, BindMount, BindSource, Environment, Exit, Limits, Network, Process, Running, Spec,
    Stdio,
};
use runtime::{Security, StartError};
use store::{ContainerError, ContainerState, Store, StoreError, Timestamp};

use crate::Engine;
use crate::container::{Container, NetworkMode};

/// Why a container did not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The user may not make namespaces and mounts.
    #[error("running a container needs root: rootless containers are not supported yet")]
    NotRoot,
    /// A file of the container could not be written.
    #[error("cannot prepare `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel was not asked for the form of layers.
    #[error("cannot find out how layers are mounted here")]
    Form(#[source] io::Error),
    /// The root file system was not mounted.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// The process was not started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The record was not changed.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LaunchError {
    /// Returns docker's exit code for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Start(error) => error.exit_code(),
            Self::NotRoot
            | Self::File { .. }
            | Self::Form(_)
            | Self::Rootfs(_)
            | Self::Container(_)
            | Self::Store(_) => 125,
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> LaunchError + '_ {
    |source| LaunchError::File {
        path: path.to_owned(),
        source,
    }
}

/// A container that runs.
#[derive(Debug)]
pub struct Launched {
    /// Its process.
    pub running: Running,
    /// When it was started.
    pub started: Timestamp,
}

/// Starts a container and records that it runs. It ends with the thread that called this.
pub fn launch(
    engine: &Engine,
    container: &Container,
    stdio: Stdio,
) -> Result<Launched, LaunchError> {
    if !rustix::process::geteuid().is_root() {
        return Err(LaunchError::NotRoot);
    }
    let store = engine.store();
    let record = &container.record;
    let options = &container.options;
    let directory = store.container_dir(&record.id);
    let layers: Vec<LayerDir> = record
        .layers
        .iter()
        .map(|layer| LayerDir::new(store.layer_dir(layer)))
        .collect();
    let upper = directory.join("rw");
    make_directory(&upper)?;
    let rootfs = layer::rootfs::mount(&RootfsOptions {
        layers: &layers,
        upper: Some(&upper),
        volatile: record.auto_remove,
        mounts: &store.layer_mounts_dir(),
        form: engine.form().map_err(LaunchError::Form)?,
    })?;
    let mounts = mounts(&directory, container)?;
    let spec = Spec {
        id: record.id.clone(),
        rootfs,
        rootfs_access: match options.read_only {
            true => Access::ReadOnly,
            false => Access::ReadWrite,
        },
        process: process(container),
        hostname: options.hostname.clone(),
        mounts,
        network: match options.network {
            NetworkMode::None => Network::None,
            NetworkMode::Host => Network::Host,
        },
        security: Security::default(),
        limits: Limits::default(),
        stdio,
    };
    let running = runtime::start(spec)?;
    let started = Timestamp::now();
    store.set_container_state(
        &record.id,
        &ContainerState::Running {
            pid: running.pid(),
            started,
            boot_id: sys::boot::boot_id().map_err(LaunchError::Form)?,
            start_ticks: start_ticks(running.pid()).unwrap_or(0),
        },
    )?;
    Ok(Launched { running, started })
}

/// Records that the container `id`, which was started at `started`, has ended.
pub fn record_end(
    store: &Store,
    id: &str,
    started: Timestamp,
    exit: Exit,
) -> Result<(), ContainerError> {
    let state = ContainerState::Exited {
        code: i32::from(exit.exit_code()),
        started,
        finished: Timestamp::now(),
    };
    match store.set_container_state(id, &state) {
        // Someone removed it by force: its end is known.
        Err(ContainerError::NotFound(_)) => Ok(()),
        other => other,
    }
}

fn process(container: &Container) -> Process {
    let options = &container.options;
    let config = &options.config;
    let mut environment = Environment::of_container(&options.hostname, &[]);
    if options.tty {
        environment.set("TERM=xterm");
    }
    environment.extend(&config.env);
    Process {
        args: container.record.command.clone(),
        env: environment.into_variables(),
        cwd: config.working_dir.clone(),
        user: config.user.clone(),
    }
}

fn mounts(directory: &Path, container: &Container) -> Result<Vec<BindMount>, LaunchError> {
    let options = &container.options;
    let mut mounts = Vec::with_capacity(options.binds.len() + 3);
    for (name, content) in [
        ("hostname", format!("{}\n", options.hostname)),
        ("hosts", hosts(container)),
        ("resolv.conf", resolv_conf()),
    ] {
        let path = directory.join(name);
        let target = format!("/etc/{name}");
        if options.binds.iter().any(|bind| bind.target == target) {
            continue;
        }
        fs::write(&path, content).map_err(at(&path))?;
        mounts.push(BindMount {
            source: BindSource::Host(path),
            inside: String::new(),
            target,
            access: Access::ReadWrite,
        });
    }
    for bind in &options.binds {
        if !bind.source.exists() {
            make_directory(&bind.source)?;
        }
        mounts.push(BindMount {
            source: BindSource::Host(bind.source.clone()),
            inside: String::new(),
            target: bind.target.clone(),
            access: bind.access(),
        });
    }
    Ok(mounts)
}

/// The names of the machine itself; on the host's network also those that the host knows.
fn hosts(container: &Container) -> String {
    let own = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";
    match container.options.network {
        NetworkMode::None => own.to_owned(),
        NetworkMode::Host => fs::read_to_string("/etc/hosts").unwrap_or_else(|_| own.to_owned()),
    }
}

/// A machine without resolver configuration gets an empty one: nothing is sent to strangers.
fn resolv_conf() -> String {
    fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}

fn make_directory(path: &Path) -> Result<(), LaunchError> {
    fs::create_dir_all(path).map_err(at(path))
}

/// Field 22 of `/proc/<pid>/stat`. The second field may hold blanks and parentheses.
fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}
