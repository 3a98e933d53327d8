//! The engines that are measured, and the registry that they pull from.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command;

/// One engine with a store of its own.
#[derive(Clone, Debug)]
pub struct Engine {
    /// What the table calls it.
    pub name: String,
    kind: Kind,
    program: PathBuf,
    directory: PathBuf,
    store: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Strata,
    Podman,
    Docker,
}

/// Returns strata and every peer that works here.
pub fn available(binary: &Path, directory: &Path) -> Result<Vec<Engine>> {
    let engine = |name: &str, kind, program: &Path| Engine {
        name: name.to_owned(),
        kind,
        program: program.to_owned(),
        directory: directory.to_owned(),
        store: directory.join(format!("store-{name}")),
    };
    let mut engines = vec![engine("strata", Kind::Strata, binary)];
    for (name, kind) in [("podman", Kind::Podman), ("docker", Kind::Docker)] {
        let peer = engine(name, kind, Path::new(name));
        if command::exists(name) && peer.works() {
            engines.push(peer);
        } else {
            println!("{name}: not measured, it does not run here");
        }
    }
    Ok(engines)
}

/// Where podman keeps what lasts until the next boot; removed at the end.
pub fn run_roots() -> PathBuf {
    std::env::temp_dir().join(format!("sb-{}", std::process::id()))
}

impl Engine {
    fn works(&self) -> bool {
        self.quiet(&["load", "-i", "base.tar"]).is_ok() && self.quiet(&self.run()).is_ok()
    }

    /// Returns the same engine with an empty store. A docker daemon has one store only: there
    /// the images are removed.
    pub fn fresh(&self, name: &str) -> Result<Self> {
        if self.kind == Kind::Docker {
            self.quiet(&["system", "prune", "-af"])?;
        }
        Ok(Self {
            store: self.directory.join(format!("store-{}-{name}", self.name)),
            ..self.clone()
        })
    }

    /// Returns the arguments that run `true` in a container of the base image.
    pub fn run(&self) -> Vec<&'static str> {
        let mut args = vec!["run"];
        args.extend(self.limits());
        args.extend(["--rm", "--network", "none", "bench/base", "true"]);
        args
    }

    /// Returns the arguments that build the context `context`.
    pub fn build<'a>(&self, context: &'a str, tag: &'a str) -> Vec<&'a str> {
        let mut args = vec!["build", "-t", tag];
        if self.kind == Kind::Podman {
            args.push("--layers");
            args.extend(self.limits());
        }
        args.push(context);
        args
    }

    /// Podman takes no more than 50 characters here.
    fn run_root(&self) -> PathBuf {
        run_roots().join(self.store.file_name().unwrap_or_default())
    }

    /// Keeps podman from raising limits, which needs a capability that root in a machine may
    /// lack.
    fn limits(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Podman => &[
                "--ulimit",
                "nofile=1024:1024",
                "--ulimit",
                "nproc=1024:1024",
            ],
            Kind::Strata | Kind::Docker => &[],
        }
    }

    /// Returns the arguments that pull `reference` over plain HTTP.
    pub fn pull<'a>(&self, reference: &'a str) -> Vec<&'a str> {
        if self.kind == Kind::Podman {
            return vec!["pull", "--tls-verify=false", reference];
        }
        vec!["pull", reference]
    }

    /// Runs the engine; fails when it does.
    pub fn quiet(&self, args: &[&str]) -> Result<()> {
        command::output(self.command().args(args)).map(drop)
    }

    /// Runs the engine and returns the time from start to exit of the client.
    pub fn timed(&self, args: &[&str]) -> Result<Duration> {
        let mut command = self.command();
        command.args(args);
        let started = Instant::now();
        command::output(&mut command)?;
        Ok(started.elapsed())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.directory).stdin(Stdio::null());
        match self.kind {
            Kind::Strata => {
                command
                    .env("STRATA_ROOT", &self.store)
                    .env("STRATA_RUN", self.store.join("run"))
                    .env("STRATA_UNDO_WINDOW", "0");
            }
            Kind::Podman => {
                command.arg("--root").arg(&self.store);
                command.arg("--runroot").arg(self.run_root());
                command.args(["--storage-driver", "overlay"]);
                command.env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1");
            }
            Kind::Docker => {}
        }
        command
    }
}

/// Debian's registry on a free loopback port.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    /// Starts it with its files in `directory/registry`.
    pub fn start(directory: &Path) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let root = directory.join("registry");
        let config = directory.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  \
             filesystem: {{rootdirectory: {}}}\nhttp: {{addr: '{address}'}}\n",
            root.display()
        );
        std::fs::write(&config, text)?;
        let mut registry = Command::new("docker-registry");
        registry
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = registry.spawn().context("cannot start docker-registry")?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&address).is_err() {
            if Instant::now() > deadline {
                bail!("docker-registry does not answer on {address}");
            }
            std::thread::yield_now();
        }
        Ok(Self { process, address })
    }

    /// Pushes `image` of `engine` and returns its name here.
    pub fn push_from(&self, engine: &Engine, image: &str) -> Result<String> {
        let reference = format!("{}/{image}", self.address);
        engine.fresh("cold0")?.quiet(&["tag", image, &reference])?;
        engine.fresh("cold0")?.quiet(&["push", &reference])?;
        Ok(reference)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("cannot stop docker-registry: {error}");
        }
    }
}
