//! `cargo xtask demo`: the whole way on a real image, each command printed before it runs.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{command, dist, packages};

const DOCKERFILE: &str = r#"# What changes least stands highest: the cache keeps it.
ARG BASE=base:1
FROM ${BASE} AS build
WORKDIR /src
COPY parts.txt .
RUN sort parts.txt > sorted.txt && wc -l < sorted.txt > count.txt

FROM ${BASE}
LABEL org.opencontainers.image.title="strata demo"
ENV GREETING="Hello from"
WORKDIR /app
COPY --from=build /src/sorted.txt /src/count.txt ./
COPY hello.sh .
USER 1000:1000
ENTRYPOINT ["/bin/sh", "/app/hello.sh"]
CMD ["strata"]
"#;

const HELLO: &str = "echo \"$GREETING $1: $(cat count.txt) layers, as uid $(id -u), pid $$\"\n";

/// Shows the whole way. Needs root (mounts), which it asks of sudo when it has to.
pub fn run() -> Result<()> {
    let started = Instant::now();
    packages::ensure(packages::DEMO)?;
    let binary = dist::build()?;
    let stage = Stage::new(binary)?;
    stage.make_inputs()?;
    let address = free_address()?;
    let base = format!("{address}/base:1");

    title("A base image, made on the spot, in a store that plays the far registry");
    stage.far(&["import", "-c", "CMD [\"/bin/sh\"]", "base.tar", "base:1"])?;
    let serve = ["registry", "serve", "--addr", &address];
    let server = Server(stage.command("far", &serve).stdin(Stdio::null()).spawn()?);
    wait_for(&address)?;

    title("Pull it into an empty store, and build on it");
    stage.near(&["pull", &base])?;
    let build_arg = format!("BASE={base}");
    let build = [
        "build",
        "-t",
        "demo:1",
        "--build-arg",
        &build_arg,
        "context",
    ];
    stage.near(&build)?;
    stage.near(&["run", "--rm", "--network", "none", "demo:1"])?;
    stage.near(&["run", "--rm", "--network", "none", "demo:1", "you"])?;

    title("What is here");
    stage.near(&["images"])?;
    stage.near(&["image", "inspect", "--format", "{{json .Config}}", "demo:1"])?;
    stage.near(&["history", "demo:1"])?;

    title("Again: nothing has changed, then only the last file");
    stage.near(&build)?;
    fs::write(
        stage.path("context/hello.sh"),
        HELLO.replace("layers", "lines"),
    )?;
    stage.near(&build)?;
    stage.near(&["run", "--rm", "--network", "none", "demo:1"])?;

    title("The image that lost its name is dangling: prune it");
    stage.near(&["images", "--filter", "dangling=true"])?;
    stage.near(&["image", "prune", "-f"])?;
    stage.near(&["images"])?;
    drop(server);
    stage.remove()?;
    println!("\nThe demo took {} s.", started.elapsed().as_secs());
    Ok(())
}

struct Stage {
    binary: PathBuf,
    directory: PathBuf,
}

impl Stage {
    fn new(binary: PathBuf) -> Result<Self> {
        let name = format!("strata-demo.{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Self { binary, directory })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn make_inputs(&self) -> Result<()> {
        let bin = self.path("base/bin");
        fs::create_dir_all(&bin)?;
        fs::create_dir(self.path("base/tmp"))?;
        let busybox = find_busybox()?;
        fs::copy(&busybox, bin.join("busybox"))?;
        for applet in command::output(Command::new(&busybox).arg("--list"))?.lines() {
            if applet != "busybox" {
                symlink("busybox", bin.join(applet))?;
            }
        }
        let mut tar = Command::new("tar");
        tar.args([
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "-C",
            "base",
            "-cf",
            "base.tar",
            ".",
        ]);
        command::run_command(tar.current_dir(&self.directory))?;
        fs::create_dir(self.path("context"))?;
        fs::write(self.path("context/Dockerfile"), DOCKERFILE)?;
        fs::write(self.path("context/parts.txt"), "upper\nmerged\nlower\n")?;
        fs::write(self.path("context/hello.sh"), HELLO)?;
        Ok(())
    }

    fn near(&self, args: &[&str]) -> Result<()> {
        self.run("near", args)
    }

    fn far(&self, args: &[&str]) -> Result<()> {
        self.run("far", args)
    }

    fn run(&self, store: &str, args: &[&str]) -> Result<()> {
        let status = self.command(store, args).status()?;
        if !status.success() {
            bail!(
                "`strata {}`: {status}; files are kept in {}",
                args.join(" "),
                self.directory.display()
            );
        }
        Ok(())
    }

    /// Returns the command, having printed it.
    fn command(&self, store: &str, args: &[&str]) -> Command {
        let mut shown = Command::new("strata");
        shown.args(args);
        println!("\n$ {}", command::line_of(&shown));
        let root = format!("STRATA_ROOT={}", self.path(store).display());
        let run = format!("STRATA_RUN={}", self.path(store).join("run").display());
        let mut command = if command::is_root() {
            Command::new("env")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.arg("env");
            sudo
        };
        // Nothing waits in the background when the directory is removed.
        let window = "STRATA_UNDO_WINDOW=0".to_owned();
        command
            .args([root, run, window])
            .arg(&self.binary)
            .args(args);
        command.current_dir(&self.directory);
        command
    }

    fn remove(&self) -> Result<()> {
        for store in ["near", "far"] {
            unmount_below(&self.path(store))?;
        }
        let mut remove = Command::new(if command::is_root() { "rm" } else { "sudo" });
        if !command::is_root() {
            remove.arg("rm");
        }
        command::run_command(
            remove
                .args(["-rf", "--one-file-system"])
                .arg(&self.directory),
        )
    }
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("cannot stop the registry: {error}");
        }
    }
}

fn title(text: &str) {
    println!("\n== {text}");
}

fn find_busybox() -> Result<PathBuf> {
    let places = ["/bin/busybox", "/usr/bin/busybox", "/sbin/busybox"];
    places
        .iter()
        .map(Path::new)
        .find(|path| path.is_file())
        .map(Path::to_owned)
        .context("no busybox")
}

fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn wait_for(address: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_err() {
        if Instant::now() > deadline {
            bail!("the registry does not answer on {address}");
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// Unmounts the shared layer mounts that the runs left for the next ones.
pub fn unmount_below(directory: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let points = mounts
        .lines()
        .rev()
        .filter_map(|line| line.split(' ').nth(1));
    for point in points.filter(|point| Path::new(point).starts_with(directory)) {
        let mut unmount = Command::new(if command::is_root() { "umount" } else { "sudo" });
        if !command::is_root() {
            unmount.arg("umount");
        }
        command::output(unmount.arg(point))?;
    }
    Ok(())
}
