//! Starting a container: the parent's side.
//!
//! Everything that can be prepared is prepared here; [`crate::child`] does the rest in the new
//! namespaces. Errors of both sides are the same plain values, because the child shares this
//! process's memory until it executes the program.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, openat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use sys::{
    Capability, CloneOptions, Cloned, Mount, MountAttributes, Namespaces, Propagation, Recursion,
    Root, Stub,
};

use crate::cgroup::{Cgroup, Layout};
use crate::child::{Plan, Streams};
use crate::filesystem::{Hierarchies, PreparedBind, Tree};
use crate::network::NewNetwork;
use crate::program::c_string;
use crate::{
    Access, BindMount, BindSource, DEFAULT_PATH, Environment, MemoryFile, Network, Running,
    Seccomp, Spec, StartError, Stdio, Terminal, seccomp, user,
};

/// Starts a container and returns once its program has been executed.
///
/// Nothing is left behind on an error, except for mount points that were missing in the root
/// file system. The container is killed when the thread that called `start` ends: call it from
/// a thread that lives as long as the container should.
pub fn start(spec: Spec) -> Result<Running, StartError> {
    start_on(spec, &Layout::detect())
}

fn start_on(spec: Spec, layout: &Layout) -> Result<Running, StartError> {
    check(&spec)?;
    check_privileges()?;
    let network = match spec.network {
        Network::None => Some(NewNetwork::begin()?),
        Network::Host => None,
    };
    let root = spec
        .rootfs
        .as_fd()
        .try_clone_to_owned()
        .map(Root::from)
        .map_err(StartError::step("open the container's root"))?;
    let user = resolve_user(&root, &spec.process.user)?;
    drop(root);
    let stub = Stub::new().map_err(StartError::step("make the container's first program"))?;
    let (read_end, write_end) =
        pipe_with(PipeFlags::CLOEXEC).map_err(StartError::step("make a pipe"))?;
    let cgroup = Cgroup::create(&spec.id, layout)?;
    let (mut plan, terminal) = plan(spec, user, cgroup, layout, write_end)?;
    plan.network = network.map(NewNetwork::finish).transpose()?;
    let options = CloneOptions {
        namespaces: Namespaces::CONTAINER,
        cgroup: plan.cgroup.as_ref().and_then(Cgroup::directory),
    };
    let mut made = Vec::new();
    let cloned = sys::clone_into(&options, &stub, plan.report.as_fd(), |launcher| {
        plan.run(launcher, &mut made)
    });
    let child = match cloned {
        Ok(Cloned::Executing(child)) => child,
        Ok(Cloned::Failed(error)) => return Err(error),
        Ok(Cloned::Died) => return Err(StartError::Died),
        Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            return Err(StartError::NotPermitted(source));
        }
        Err(source) => return Err(StartError::step("make the container's process")(source)),
    };
    let Plan {
        cgroup,
        program,
        report,
        ..
    } = plan;
    drop(report);
    let running = Running::new(child, terminal, cgroup, made);
    let outcome =
        sys::read_report(read_end).map_err(StartError::step("read the container's report"))?;
    match outcome {
        None => Ok(running),
        Some(source) => Err(exec_error(program, source)),
    }
}

fn check(spec: &Spec) -> Result<(), StartError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if spec.id.is_empty() || !spec.id.bytes().all(fits) {
        return Err(StartError::InvalidId(spec.id.clone()));
    }
    let process = &spec.process;
    if process.args.is_empty() {
        return Err(StartError::NoCommand);
    }
    if !process.cwd.is_empty() && !process.cwd.starts_with('/') {
        return Err(StartError::RelativeCwd(process.cwd.clone()));
    }
    let relative = spec
        .mounts
        .iter()
        .find(|bind| !bind.target.starts_with('/'));
    if let Some(bind) = relative {
        return Err(StartError::RelativeTarget(bind.target.clone()));
    }
    Ok(())
}

/// Says it in one sentence, before one of many steps fails for the same reason.
fn check_privileges() -> Result<(), StartError> {
    let held = sys::holds(Capability::SysAdmin)
        .map_err(StartError::step("read this process's capabilities"))?;
    if held {
        return Ok(());
    }
    Err(StartError::NotPermitted(io::Error::from(
        rustix::io::Errno::PERM,
    )))
}

fn plan(
    spec: Spec,
    user: user::User,
    cgroup: Option<Cgroup>,
    layout: &Layout,
    report: OwnedFd,
) -> Result<(Plan, Option<Terminal>), StartError> {
    let mut environment = Environment::default();
    environment.extend(&spec.process.env);
    if environment.get("HOME").is_none_or(str::is_empty) {
        environment.set(&format!("HOME={}", user.home));
    }
    let search_path = environment.get("PATH").unwrap_or(DEFAULT_PATH).to_owned();
    let mut security = spec.security;
    if cgroup.is_none() {
        // Nothing restricts devices, so none but those of /dev can be reached.
        security
            .capabilities
            .retain(|held| *held != Capability::Mknod);
        let nodev = MountAttributes {
            nodev: true,
            ..MountAttributes::default()
        };
        spec.rootfs
            .set_attributes(&nodev, Recursion::Single)
            .map_err(StartError::mount("/"))?;
    }
    let filter = match security.seccomp {
        Seccomp::Default => seccomp::compile(&security.capabilities),
        Seccomp::Unconfined => Vec::new(),
    };
    let devpts = Mount::devpts(&[
        ("newinstance", ""),
        ("ptmxmode", "0666"),
        ("mode", "0620"),
        ("gid", "5"),
    ])
    .map_err(StartError::mount("/dev/pts"))?;
    let (streams, terminal) = streams(spec.stdio, &devpts)?;
    let plan = Plan {
        tree: Tree {
            rootfs: spec.rootfs,
            rootfs_access: spec.rootfs_access,
            devpts,
            shm_size: spec.limits.shm_size,
            binds: spec
                .mounts
                .into_iter()
                .map(prepare_bind)
                .collect::<Result<_, _>>()?,
            cgroups: match (&cgroup, layout) {
                (Some(cgroup), _) => cgroup.hierarchies()?,
                (None, Layout::Unified(_)) => Hierarchies::Unified,
                (None, Layout::Devices(_) | Layout::Absent) => Hierarchies::Own(Vec::new()),
            },
        },
        cgroup,
        hostname: spec.hostname,
        network: None,
        security,
        ulimits: spec.limits.ulimits,
        filter,
        user,
        cwd: if spec.process.cwd.is_empty() {
            "/".to_owned()
        } else {
            spec.process.cwd
        },
        program: spec.process.args[0].clone(),
        search_path,
        arguments: c_strings(&spec.process.args)?,
        environment: c_strings(&environment.into_variables())?,
        streams,
        report,
    };
    Ok((plan, terminal))
}

fn c_strings(texts: &[String]) -> Result<Vec<CString>, StartError> {
    texts.iter().map(|text| c_string(text)).collect()
}

/// The longest `/etc/passwd` or `/etc/group` that is read.
const MAX_ACCOUNTS: u64 = 16 << 20;

fn resolve_user(root: &Root, user: &str) -> Result<user::User, StartError> {
    let passwd = read_accounts(root, b"etc/passwd")?;
    let group = read_accounts(root, b"etc/group")?;
    Ok(user::resolve(user, &passwd, &group)?)
}

/// Reads a regular file of the container; anything else counts as empty.
fn read_accounts(root: &Root, path: &[u8]) -> Result<Vec<u8>, StartError> {
    let step = "read the container's users and groups";
    // A pipe in place of the file must not make this wait for a writer.
    let Ok(file) = root.open_in_root(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    else {
        return Ok(Vec::new());
    };
    let status = fstat(&file).map_err(StartError::step(step))?;
    let mut text = Vec::new();
    if FileType::from_raw_mode(status.st_mode) == FileType::RegularFile {
        File::from(file)
            .take(MAX_ACCOUNTS)
            .read_to_end(&mut text)
            .map_err(StartError::step(step))?;
    }
    Ok(text)
}

fn prepare_bind(bind: BindMount) -> Result<PreparedBind, StartError> {
    let target = bind.target;
    let (mount, inside) = match bind.source {
        BindSource::Mount(mount) => (mount, bind.inside),
        BindSource::Memory(size) => {
            let size = size.to_string();
            let mount = Mount::tmpfs(&[("size", &size)]).map_err(StartError::mount(&target))?;
            (mount, bind.inside)
        }
        BindSource::MemoryFile(file) => {
            const NAME: &str = "file";
            let mount = Mount::tmpfs(&[]).map_err(StartError::mount(&target))?;
            write_memory_file(&mount, NAME, &file)
                .map_err(StartError::step("write a file of the container's"))?;
            (mount, NAME.to_owned())
        }
        BindSource::Host(source) => match Mount::bind(&source, Recursion::Recursive) {
            Err(error) if error.io_error().kind() == io::ErrorKind::NotFound => {
                return Err(StartError::NoBindSource(source));
            }
            result => (result.map_err(StartError::mount(&target))?, bind.inside),
        },
    };
    let attributes = MountAttributes {
        read_only: bind.access == Access::ReadOnly,
        propagation: Some(Propagation::Private),
        ..MountAttributes::default()
    };
    mount
        .set_attributes(&attributes, Recursion::Recursive)
        .map_err(StartError::mount(&target))?;
    Ok(PreparedBind {
        mount,
        inside: inside.trim_matches('/').to_owned(),
        target,
    })
}

fn write_memory_file(mount: &Mount, name: &str, file: &MemoryFile) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let opened = openat(mount, name, flags, Mode::empty())?;
    let (user, group) = file.owner;
    fchown(
        &opened,
        Some(Uid::from_raw(user)),
        Some(Gid::from_raw(group)),
    )?;
    fchmod(&opened, Mode::from_raw_mode(file.mode))?;
    File::from(opened).write_all(&file.content)
}

fn streams(stdio: Stdio, devpts: &Mount) -> Result<(Streams, Option<Terminal>), StartError> {
    match stdio {
        Stdio::Inherit => Ok((Streams::Inherit, None)),
        Stdio::Streams {
            stdin,
            stdout,
            stderr,
        } => {
            let stdin = stdin.map_or_else(open_null, Ok)?;
            let streams = [
                above_standard(stdin)?,
                above_standard(stdout)?,
                above_standard(stderr)?,
            ];
            Ok((Streams::Given(streams), None))
        }
        Stdio::Terminal { rows, columns } => {
            let step = StartError::step::<rustix::io::Errno>;
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            let master =
                openat(devpts, "ptmx", flags, Mode::empty()).map_err(step("open a terminal"))?;
            unlockpt(&master).map_err(step("unlock a terminal"))?;
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let slave =
                ioctl_tiocgptpeer(&master, flags).map_err(step("open a terminal's inner end"))?;
            let terminal = Terminal::new(master);
            if rows != 0 && columns != 0 {
                terminal
                    .resize(rows, columns)
                    .map_err(StartError::step("set a terminal's size"))?;
            }
            Ok((Streams::Terminal(slave), Some(terminal)))
        }
    }
}

/// Moves a descriptor out of the way of the numbers that the child gives to its streams.
fn above_standard(stream: OwnedFd) -> Result<OwnedFd, StartError> {
    if stream.as_raw_fd() > STDERR {
        return Ok(stream);
    }
    rustix::io::fcntl_dupfd_cloexec(stream, STDERR + 1)
        .map_err(StartError::step("move a stream's descriptor"))
}

const STDERR: i32 = 2;

fn open_null() -> Result<OwnedFd, StartError> {
    openat(
        rustix::fs::CWD,
        c"/dev/null",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(StartError::step("open /dev/null"))
}

/// The program was there and executable a moment ago, so what is missing is its interpreter.
fn exec_error(path: String, source: io::Error) -> StartError {
    use rustix::io::Errno;
    match Errno::from_io_error(&source) {
        Some(Errno::NOEXEC) => StartError::ExecFormat(path),
        Some(Errno::NOENT) => StartError::NoInterpreter(path),
        Some(Errno::ACCESS) => StartError::PermissionDenied(path),
        _ => StartError::Exec { path, source },
    }
}

#[cfg(test)]
mod tests;
