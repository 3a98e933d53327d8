//! What to start.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use sys::Capability;

use crate::Ulimit;

/// A container to start. Plain values, checked by [`crate::start`].
#[derive(Debug)]
pub struct Spec {
    /// Names the container's cgroup; must be unique among running containers.
    pub id: String,
    /// The root file system, not attached anywhere yet.
    pub rootfs: sys::Mount,
    /// Whether the program may change the root file system.
    pub rootfs_access: Access,
    /// What runs in it.
    pub process: Process,
    /// The host name, also shown by `hostname`.
    pub hostname: String,
    /// Files and directories from elsewhere, in the order in which they are mounted.
    pub mounts: Vec<BindMount>,
    /// Which network it sees.
    pub network: Network,
    /// What it may do.
    pub security: Security,
    /// How much its processes may take.
    pub limits: Limits,
    /// Where its input and output go.
    pub stdio: Stdio,
}

/// The first process of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// The program and its arguments; a program without a slash is searched in `PATH` of `env`.
    pub args: Vec<String>,
    /// The environment as `NAME=value`, complete but for `HOME`, which is added when missing
    /// (its value is known only once the user is resolved).
    pub env: Vec<String>,
    /// The directory to start in, absolute; made when missing. Empty is `/`.
    pub cwd: String,
    /// `user[:group]` by name or number, resolved in the container; empty is root.
    pub user: String,
}

/// A file or directory that the container sees.
#[derive(Debug)]
pub struct BindMount {
    /// Where it comes from.
    pub source: BindSource,
    /// The path in the source of what is shown, empty for all of it; must exist. Symbolic links
    /// in it resolve inside the source.
    pub inside: String,
    /// The absolute path in the container; made when missing. Symbolic links in it resolve
    /// inside the container's root.
    pub target: String,
    /// Whether the program may change it.
    pub access: Access,
}

/// Where a [`BindMount`] comes from.
#[derive(Debug)]
pub enum BindSource {
    /// This path on the host, with what is mounted below it; must exist.
    Host(PathBuf),
    /// A mount that is attached nowhere.
    Mount(sys::Mount),
    /// An empty directory in memory, of this size in bytes; 0 is no limit.
    Memory(u64),
    /// A file that is in memory only.
    MemoryFile(MemoryFile),
}

/// A file that never reaches a disk.
#[derive(Clone, PartialEq, Eq)]
pub struct MemoryFile {
    /// What is in it.
    pub content: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
    /// The numbers of its user and group.
    pub owner: (u32, u32),
}

/// Its content may be a secret.
impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFile")
            .field("mode", &self.mode)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// Whether something may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// It may only be read.
    ReadOnly,
    /// It may be read and changed.
    #[default]
    ReadWrite,
}

/// Which network a container sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Its own, with a loopback interface only.
    None,
    /// The host's.
    Host,
}

/// What a container may do. The default is docker's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Security {
    /// The bounding set, and what root in the container holds.
    pub capabilities: Vec<Capability>,
    /// Which system calls it may make.
    pub seccomp: Seccomp,
    /// Whether set-user-id programs gain nothing.
    pub no_new_privileges: NewPrivileges,
}

/// Whether executing a file can raise privileges (set-user-id, file capabilities).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NewPrivileges {
    /// As the file says.
    #[default]
    Allowed,
    /// Never.
    Denied,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            capabilities: Capability::DOCKER_DEFAULT.to_vec(),
            seccomp: Seccomp::Default,
            no_new_privileges: NewPrivileges::Allowed,
        }
    }
}

/// Which system calls a container may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Seccomp {
    /// Those of docker's default profile.
    #[default]
    Default,
    /// All.
    Unconfined,
}

/// How much a container's processes may take. The default is docker's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The size of `/dev/shm` in bytes.
    pub shm_size: u64,
    /// What each process inherits; others stay as the caller's.
    pub ulimits: Vec<Ulimit>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            shm_size: 64 << 20,
            ulimits: Vec::new(),
        }
    }
}

/// Where a container's input and output go.
#[derive(Debug)]
pub enum Stdio {
    /// This process's own.
    Inherit,
    /// The given ends; a missing input is `/dev/null`.
    Streams {
        /// Read by the container.
        stdin: Option<OwnedFd>,
        /// Written by the container.
        stdout: OwnedFd,
        /// Written by the container.
        stderr: OwnedFd,
    },
    /// A terminal in the container; see [`crate::Running::terminal`].
    Terminal {
        /// Height in characters; 0 leaves it unset.
        rows: u16,
        /// Width in characters; 0 leaves it unset.
        columns: u16,
    },
}
