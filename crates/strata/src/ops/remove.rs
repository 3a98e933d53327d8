//! Removing containers.

use std::fs;
use std::io;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use store::{ContainerError, ContainerState, Remains, Store};

use crate::container::Container;
use crate::container::status::Status;

/// Whether a running container is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It is an error.
    No,
    /// It is killed first.
    Yes,
}

/// Why a container was not removed. `Display` is docker's own text.
#[derive(Debug, thiserror::Error)]
pub enum RemoveContainerError {
    /// It runs.
    #[error(
        "cannot remove container \"{0}\": container is running: stop the container before removing or force remove"
    )]
    Running(String),
    /// It could not be killed.
    #[error("cannot kill container \"{name}\"")]
    Kill {
        /// The container.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not end although it was killed.
    #[error("container \"{0}\" does not end although it was killed")]
    Unkillable(String),
    /// The record was not removed.
    #[error(transparent)]
    Container(#[from] ContainerError),
}

/// Seconds that the kernel gets to end a container that was killed.
const PATIENCE: i64 = 10;

/// How many files and directories are looked at to delete the files at once instead of leaving
/// them to the trash. What an ordinary command leaves behind is less; starting a process to
/// delete it would take longer.
const AT_ONCE: u32 = 64;

/// Ends a container if `force` says so, and removes it.
pub fn remove_forcibly(
    store: &Store,
    container: &Container,
    force: Force,
) -> Result<(), RemoveContainerError> {
    if matches!(Status::of(store, &container.record), Status::Running { .. }) {
        if force == Force::No {
            return Err(RemoveContainerError::Running(container.record.name.clone()));
        }
        kill(store, container)?;
    }
    Ok(remove(store, container)?)
}

/// Removes a container that does not run: its record, and its directory. One that is gone
/// already is no error.
pub fn remove(store: &Store, container: &Container) -> Result<(), ContainerError> {
    let directory = store.container_dir(&container.record.id);
    let mut budget = AT_ONCE;
    let remains = match delete_files(&directory, &mut budget) {
        Ok(()) => Remains::Directories,
        // What cannot be deleted now goes to the trash with the directory.
        Err(_) => Remains::Files,
    };
    match store.remove_container(&container.record.id, remains) {
        Err(ContainerError::NotFound(_)) => Ok(()),
        other => other,
    }
}

fn delete_files(directory: &Path, budget: &mut u32) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if *budget == 0 {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        *budget -= 1;
        if entry.file_type()?.is_dir() {
            delete_files(&entry.path(), budget)?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn kill(store: &Store, container: &Container) -> Result<(), RemoveContainerError> {
    let name = || container.record.name.clone();
    let failed = |error: Errno| RemoveContainerError::Kill {
        name: name(),
        source: error.into(),
    };
    let ContainerState::Running { pid, .. } = &container.record.state else {
        return Ok(());
    };
    let Some(pid) = Pid::from_raw(*pid) else {
        return Ok(());
    };
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    // Only now is the number held: it may have gone to another process before.
    if !store.is_running(&container.record) {
        return Ok(());
    }
    match pidfd_send_signal(&process, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => return Err(failed(error)),
    }
    let limit = Timespec {
        tv_sec: PATIENCE,
        tv_nsec: 0,
    };
    let mut polled = [PollFd::new(&process, PollFlags::IN)];
    match poll(&mut polled, Some(&limit)) {
        Ok(0) => Err(RemoveContainerError::Unkillable(name())),
        Ok(_) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}
