//! One `RUN`.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use layer::{CaptureOptions, LayerWriter, RootfsOptions, View};
use oci::DiffId;
use runtime::{Access, BindMount, BindSource, Exit, Process, Running, Security, Spec, Stdio};
use rustix::pipe::{PipeFlags, pipe_with};

use super::RunError;
use super::mounts::{self, Mounts};
use super::output::{Followed, Output};
use crate::lower::gofmt;
use crate::progress::Step;
use crate::solve::{Environment, MountInputs, Stacks};
use crate::vertex::{RunStep, Script};
use crate::{Network, SolveError};

/// The host name of build steps, BuildKit's.
const HOSTNAME: &str = "buildkitsandbox";
const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";
/// What the engine puts into every container: not a part of the layer unless it was there.
const MADE_BY_ENGINE: [&str; 7] = [
    "dev",
    "proc",
    "sys",
    "etc",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/hostname",
];
const RESOLV_CONF: &str = "/etc/resolv.conf";
const SIGKILL: i32 = 9;
/// The directory of the container's writable layer in its scratch.
const ROOTFS: &str = "rootfs";

/// Runs a step on top of its parent's layers and writes what it changed to the layer.
pub(crate) fn run(
    environment: &Environment<'_>,
    run_step: &RunStep,
    (stacks, inputs): (&Stacks, MountInputs),
    (step, writer): (&Step<'_>, &mut LayerWriter),
) -> Result<(), SolveError> {
    if !rustix::process::geteuid().is_root() {
        return Err(RunError::NotRoot.into());
    }
    let scratch = environment.build.store.scratch()?;
    let parent = &stacks.parent;
    let below = environment.view(parent)?;
    let mut mounts = mounts::prepare(environment, run_step, (stacks, inputs), scratch.path())?;
    let container = Container {
        environment,
        run_step,
        scratch: scratch.path(),
    };
    let (running, output) = container.start(parent, &mut mounts)?;
    let mut made = MADE_BY_ENGINE.map(|path| path.as_bytes().to_vec()).to_vec();
    made.extend(
        running
            .made_mount_points()
            .iter()
            .map(|path| path[1..].to_vec()),
    );
    let exit = supervise(environment, running, output, step)?;
    drop(mounts);
    if exit != Exit::Code(0) {
        let code = exit.exit_code();
        let command = quoted(run_step);
        return Err(RunError::ExitCode { command, code }.into());
    }
    let upper = scratch.path().join(ROOTFS).join("upper");
    capture(environment, &upper, &below, (made, writer))
}

/// The container of a step; what belongs to it is in `scratch`.
struct Container<'a> {
    environment: &'a Environment<'a>,
    run_step: &'a RunStep,
    scratch: &'a Path,
}

impl Container<'_> {
    fn start(
        &self,
        parent: &[DiffId],
        mounts: &mut Mounts,
    ) -> Result<(Running, Output), SolveError> {
        let (environment, run_step) = (self.environment, self.run_step);
        let upper = self.scratch.join(ROOTFS);
        fs::create_dir(&upper).map_err(RunError::Prepare)?;
        let layers = environment.layer_dirs(parent);
        let rootfs = layer::rootfs::mount(&RootfsOptions {
            layers: &layers,
            upper: Some(&upper),
            volatile: true,
            mounts: &environment.build.store.layer_mounts_dir(),
            form: environment.build.form,
        })
        .map_err(RunError::from)?;
        let (stdout, stdout_of_process) = pipe_with(PipeFlags::CLOEXEC).map_err(prepare)?;
        let (stderr, stderr_of_process) = pipe_with(PipeFlags::CLOEXEC).map_err(prepare)?;
        let output = Output::new(stdout, stderr).map_err(RunError::Prepare)?;
        let network = run_step
            .network
            .unwrap_or(environment.options.sandbox.network);
        let mut binds =
            own_files(environment, self.scratch, run_step).map_err(RunError::Prepare)?;
        binds.append(&mut mounts.binds);
        let spec = Spec {
            id: identity(),
            rootfs,
            rootfs_access: Access::ReadWrite,
            process: process(environment, run_step, mounts)?,
            hostname: HOSTNAME.to_owned(),
            mounts: binds,
            network: match network {
                Network::Host => runtime::Network::Host,
                Network::None => runtime::Network::None,
            },
            security: Security::default(),
            limits: environment.options.sandbox.limits.clone(),
            stdio: Stdio::Streams {
                stdin: None,
                stdout: stdout_of_process,
                stderr: stderr_of_process,
            },
        };
        let running = runtime::start(spec).map_err(|source| RunError::Start {
            command: quoted(run_step),
            source: Box::new(source),
        })?;
        Ok((running, output))
    }
}

/// Passes the output on until the container ends, or ends it when the build is.
fn supervise(
    environment: &Environment<'_>,
    mut running: Running,
    mut output: Output,
    step: &Step<'_>,
) -> Result<Exit, SolveError> {
    let is_canceled = || environment.is_canceled();
    let followed = output
        .follow(running.pidfd(), step, &is_canceled)
        .map_err(RunError::Output)?;
    if followed == Followed::Canceled {
        running.signal(SIGKILL).map_err(RunError::from)?;
        running.wait().map_err(RunError::from)?;
        return Err(SolveError::Canceled);
    }
    let exit = running.wait().map_err(RunError::from)?;
    output.finish(step).map_err(RunError::Output)?;
    Ok(exit)
}

/// Returns the words of a step as messages show them.
fn quoted(step: &RunStep) -> String {
    gofmt::quote(&step.args.join(" "))
}

fn prepare(error: rustix::io::Errno) -> RunError {
    RunError::Prepare(error.into())
}

fn capture(
    environment: &Environment<'_>,
    upper: &Path,
    below: &View,
    (made, writer): (Vec<Vec<u8>>, &mut LayerWriter),
) -> Result<(), SolveError> {
    let mut exclude = Vec::with_capacity(made.len());
    for path in made {
        if below.lookup_no_follow(&path)?.is_none() {
            exclude.push(path);
        }
    }
    let options = CaptureOptions {
        clamp_mtime: Some(environment.epoch()?),
        exclude: &exclude,
    };
    layer::capture(upper, below, writer, &options).map_err(RunError::from)?;
    Ok(())
}

/// Returns an identity that no other running container has.
fn identity() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("build-{}-{number}", std::process::id())
}

fn process(
    environment: &Environment<'_>,
    step: &RunStep,
    mounts: &Mounts,
) -> Result<Process, SolveError> {
    let mut env = step.env.clone();
    let name_of = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let missing = |env: &[String], name: &str| {
        let sets = |variable: &String| name_of(variable) == name;
        !env.iter().any(sets)
    };
    for default in step.proxies.iter().chain(&mounts.defaults) {
        if missing(&env, &name_of(default)) {
            env.push(default.clone());
        }
    }
    for secret in &mounts.secrets {
        env.retain(|variable| name_of(variable) != name_of(secret));
        env.push(secret.clone());
    }
    if missing(&env, SOURCE_DATE_EPOCH) {
        let seconds = environment.epoch()?.seconds;
        env.push(format!("{SOURCE_DATE_EPOCH}={seconds}"));
    }
    Ok(Process {
        args: step.args.clone(),
        env,
        cwd: step.cwd.clone(),
        user: step.user.clone(),
    })
}

/// Writes the files that each step has for itself, and says where it sees them.
fn own_files(
    environment: &Environment<'_>,
    directory: &Path,
    step: &RunStep,
) -> io::Result<Vec<BindMount>> {
    let mut hosts =
        format!("127.0.0.1\tlocalhost {HOSTNAME}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in &environment.options.sandbox.hosts {
        hosts.push_str(&format!("{address}\t{name}\n"));
    }
    let resolv_conf = match fs::read(RESOLV_CONF) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let file = |name: &str, content: &[u8], mode, target: String| {
        let path = directory.join(name);
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok::<_, io::Error>(BindMount {
            source: BindSource::Host(path),
            inside: String::new(),
            target,
            access: Access::ReadWrite,
        })
    };
    let mut files = vec![
        file("hosts", hosts.as_bytes(), 0o644, "/etc/hosts".to_owned())?,
        file("resolv.conf", &resolv_conf, 0o644, RESOLV_CONF.to_owned())?,
    ];
    if let Some(script) = &step.script {
        let target = format!("{}/{}", Script::DIRECTORY, script.name);
        files.push(BindMount {
            access: Access::ReadOnly,
            ..file("script", script.content.as_bytes(), 0o755, target)?
        });
    }
    Ok(files)
}
