//! One container: start, wait, kill.
//!
//! [`start`] turns a [`Spec`] into a process in namespaces of its own, with docker's default
//! isolation. It knows nothing of images or stores: the root file system comes as a detached
//! mount, and everything else as plain values.

mod cgroup;
mod child;
mod devices;
mod environment;
mod error;
mod filesystem;
mod mountpoint;
mod network;
mod program;
mod running;
mod seccomp;
pub mod signal;
mod spec;
mod start;
mod ulimit;
pub mod user;

pub use cgroup::remove_abandoned_groups;
pub use environment::{DEFAULT_PATH, Environment};
pub use error::StartError;
pub use running::{Exit, Running, Terminal, WaitError};
pub use spec::{
    Access, BindMount, BindSource, Limits, MemoryFile, Network, NewPrivileges, Process, Seccomp,
    Security, Spec, Stdio,
};
pub use start::start;
pub use ulimit::{Ulimit, UlimitError};
