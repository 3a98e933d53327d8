//! What happens in the child, between its making and the execution of the program.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fchown, fstat};
use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};
use sys::{FilterInstruction, Launcher};

use crate::cgroup::Cgroup;
use crate::filesystem::{Built, Tree};
use crate::mountpoint::{Kind, open_or_make};
use crate::spec::NewPrivileges;
use crate::user::User;
use crate::{Security, StartError, Ulimit, program};

/// Everything that the child needs, made by the parent.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) tree: Tree,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) hostname: String,
    /// Its own network namespace, if any, with the loopback interface up.
    pub(crate) network: Option<OwnedFd>,
    pub(crate) security: Security,
    pub(crate) ulimits: Vec<Ulimit>,
    /// Loaded unless empty.
    pub(crate) filter: Vec<FilterInstruction>,
    pub(crate) user: User,
    pub(crate) cwd: String,
    pub(crate) program: String,
    pub(crate) search_path: String,
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    pub(crate) streams: Streams,
    /// The writing end of the report; its other end closes when the parent dies.
    pub(crate) report: OwnedFd,
}

/// The child's standard streams.
#[derive(Debug)]
pub(crate) enum Streams {
    /// As they are.
    Inherit,
    /// These.
    Given([OwnedFd; 3]),
    /// All three are this terminal, which controls the container's session.
    Terminal(OwnedFd),
}

impl Plan {
    /// Prepares the process and executes the program; returns only when that failed.
    pub(crate) fn run(&self, launcher: &Launcher<'_>, made: &mut Vec<Vec<u8>>) -> StartError {
        match self.prepare(made) {
            Ok(path) => {
                let source = launcher.exec(&path, &self.arguments, &self.environment);
                StartError::Exec {
                    path: self.program.clone(),
                    source,
                }
            }
            Err(error) => error,
        }
    }

    fn prepare(&self, made: &mut Vec<Vec<u8>>) -> Result<CString, StartError> {
        die_with_parent()?;
        rustix::process::setsid().map_err(StartError::step("start a session"))?;
        if let Some(cgroup) = &self.cgroup {
            cgroup.join()?;
        }
        // After joining, so that the group is the root of what the container sees.
        sys::unshare_cgroup().map_err(StartError::step("make a cgroup namespace"))?;
        sys::join_new_session_keyring().map_err(StartError::step("make a session keyring"))?;
        rustix::system::sethostname(self.hostname.as_bytes())
            .map_err(StartError::step("set the host name"))?;
        rustix::process::umask(Mode::empty());
        // Before /sys is mounted, which shows the interfaces of the mounter's network.
        if let Some(network) = &self.network {
            sys::enter_network(network.as_fd())
                .map_err(StartError::step("enter the container's network"))?;
        }
        let built = self.tree.build(made)?;
        if self.network.is_some() {
            allow_ping_and_low_ports(&built)?;
        }
        self.connect_streams(&built)?;
        self.enter_cwd(&built)?;
        built.protect()?;
        self.tree.seal_root()?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        // Raising them takes a capability; a low one must not end what comes before.
        for limit in &self.ulimits {
            limit
                .set()
                .map_err(StartError::step("set a limit of the container's processes"))?;
        }
        self.drop_privileges()?;
        program::find(&self.program, &self.search_path)
    }

    fn connect_streams(&self, built: &Built) -> Result<(), StartError> {
        match &self.streams {
            Streams::Inherit => {
                use rustix::stdio::{stderr, stdin, stdout};
                [stdin(), stdout(), stderr()]
                    .into_iter()
                    .try_for_each(|stream| self.give_pipe(stream))
            }
            Streams::Given(streams) => {
                for stream in streams {
                    self.give_pipe(stream.as_fd())?;
                }
                let [stdin, stdout, stderr] = streams;
                set_streams([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])
            }
            Streams::Terminal(slave) => {
                let slave = slave.as_fd();
                fchown(slave, Some(Uid::from_raw(self.user.uid)), None).map_err(
                    StartError::step("give the terminal to the container's user"),
                )?;
                rustix::process::ioctl_tiocsctty(slave)
                    .map_err(StartError::step("take control of the terminal"))?;
                built.attach_console(slave)?;
                set_streams([slave; 3])
            }
        }
    }

    /// Lets a user other than root open `/dev/stdout` again when it is a pipe.
    fn give_pipe(&self, stream: BorrowedFd<'_>) -> Result<(), StartError> {
        let given = fstat(stream).and_then(|status| {
            let pipe = FileType::from_raw_mode(status.st_mode) == FileType::Fifo;
            if !pipe || status.st_uid == self.user.uid {
                return Ok(());
            }
            fchown(stream, Some(Uid::from_raw(self.user.uid)), None)
        });
        match given {
            // A stream that is closed, or a named pipe that may not change hands.
            Ok(()) | Err(Errno::BADF | Errno::PERM | Errno::ROFS) => Ok(()),
            Err(errno) => Err(StartError::step("give a pipe to the container's user")(
                errno,
            )),
        }
    }

    fn enter_cwd(&self, built: &Built) -> Result<(), StartError> {
        let failed = |errno: Errno| match errno {
            Errno::NOTDIR => StartError::CwdNotDirectory(self.cwd.clone()),
            errno => StartError::Cwd {
                path: self.cwd.clone(),
                source: errno.into(),
            },
        };
        // Not among the mount points that were made: what docker makes here stays, too.
        let cwd = open_or_make(
            built.root.as_fd(),
            &self.cwd,
            Kind::Directory,
            &mut Vec::new(),
        )
        .map_err(failed)?;
        rustix::process::fchdir(cwd).map_err(failed)
    }

    fn drop_privileges(&self) -> Result<(), StartError> {
        let step = StartError::step::<Errno>;
        let kept = &self.security.capabilities;
        if self.security.no_new_privileges == NewPrivileges::Denied {
            rustix::thread::set_no_new_privs(true).map_err(step("forbid new privileges"))?;
        }
        // Takes CAP_SYS_ADMIN, so it comes first; the filter allows all that follows.
        if !self.filter.is_empty() {
            sys::load_seccomp(&self.filter)
                .map_err(StartError::step("load the system call filter"))?;
        }
        sys::drop_from_bounding_set(kept)
            .map_err(StartError::step("limit the capability bounding set"))?;
        let (uid, gid) = (Uid::from_raw(self.user.uid), Gid::from_raw(self.user.gid));
        let mut groups = vec![gid];
        groups.extend(
            self.user
                .groups
                .iter()
                .filter(|group| **group != self.user.gid)
                .map(|group| Gid::from_raw(*group)),
        );
        rustix::thread::set_thread_groups(&groups).map_err(step("set the groups"))?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(step("set the group id"))?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(step("set the user id"))?;
        let held: &[sys::Capability] = if uid.is_root() { kept } else { &[] };
        sys::drop_capabilities(held).map_err(StartError::step("drop capabilities"))?;
        // The change of user has undone this.
        die_with_parent()?;
        self.check_parent()
    }

    /// A parent that died before the line above sends no signal any more.
    fn check_parent(&self) -> Result<(), StartError> {
        let mut report = [PollFd::new(&self.report, PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut report, Some(&now)).map_err(StartError::step("look for the parent"))?;
        if report[0].revents().contains(PollFlags::ERR) {
            return Err(StartError::Died);
        }
        Ok(())
    }
}

fn die_with_parent() -> Result<(), StartError> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(StartError::step(
        "bind the container's life to its parent's",
    ))
}

fn set_streams([stdin, stdout, stderr]: [BorrowedFd<'_>; 3]) -> Result<(), StartError> {
    rustix::stdio::dup2_stdin(stdin)
        .and_then(|()| rustix::stdio::dup2_stdout(stdout))
        .and_then(|()| rustix::stdio::dup2_stderr(stderr))
        .map_err(StartError::step("connect the standard streams"))
}

/// What docker sets in a network of its own; a kernel without these settings is no error.
fn allow_ping_and_low_ports(built: &Built) -> Result<(), StartError> {
    let settings: [(&[u8], &[u8]); 2] = [
        (b"sys/net/ipv4/ip_unprivileged_port_start", b"0"),
        (b"sys/net/ipv4/ping_group_range", b"0 2147483647"),
    ];
    for (path, value) in settings {
        let Ok(file) = built.proc.open_beneath(path, OFlags::WRONLY) else {
            continue;
        };
        rustix::io::write(file, value).map_err(StartError::step("set a network parameter"))?;
    }
    Ok(())
}
