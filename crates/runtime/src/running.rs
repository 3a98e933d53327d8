//! A container that runs.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::termios::{Winsize, tcsetwinsize};
use sys::{Child, Ended};

use crate::cgroup::Cgroup;

/// A started container. Dropping it kills the container and waits for its end.
#[derive(Debug)]
pub struct Running {
    child: Child,
    terminal: Option<Terminal>,
    cgroup: Option<Cgroup>,
    mount_points: Vec<Vec<u8>>,
    exit: Option<Exit>,
}

/// The outer end of a container's terminal.
#[derive(Debug)]
pub struct Terminal {
    master: OwnedFd,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned a code.
    Code(u8),
    /// A signal killed it.
    Signal(i32),
}

/// Why a running container cannot be waited for or signalled.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The kernel refused to wait.
    #[error("cannot wait for the container's process {pid}")]
    Wait {
        /// The process.
        pid: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused the signal.
    #[error("cannot send signal {signal} to the container's process {pid}")]
    Signal {
        /// The process.
        pid: i32,
        /// The signal.
        signal: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Exit {
    /// Returns the code that a shell would show: the code itself, or 128 + signal.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

impl Running {
    pub(crate) fn new(
        child: Child,
        terminal: Option<Terminal>,
        cgroup: Option<Cgroup>,
        mount_points: Vec<Vec<u8>>,
    ) -> Self {
        Self {
            child,
            terminal,
            cgroup,
            mount_points,
            exit: None,
        }
    }

    /// Returns the process id of the first process, as the host sees it.
    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Returns a descriptor that becomes readable when the container ends.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// Returns the container's terminal, when it was started with one.
    pub fn terminal(&self) -> Option<&Terminal> {
        self.terminal.as_ref()
    }

    /// Returns the files and directories that were missing in the root file system and were
    /// made to mount on, parents first: absolute paths without symbolic links.
    pub fn made_mount_points(&self) -> &[Vec<u8>] {
        &self.mount_points
    }

    /// Sends a signal to the first process; one that has ended already is no error.
    ///
    /// The first process of a container ignores signals that it has no handler for, except for
    /// SIGKILL and SIGSTOP.
    pub fn signal(&self, signal: i32) -> Result<(), WaitError> {
        if self.exit.is_some() {
            return Ok(());
        }
        sys::send_signal(self.child.pidfd.as_fd(), signal).map_err(|source| WaitError::Signal {
            pid: self.child.pid,
            signal,
            source,
        })
    }

    /// Waits for the end of the first process, and with it of all others; returns the same
    /// again when called twice.
    pub fn wait(&mut self) -> Result<Exit, WaitError> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        let ended = sys::wait(&self.child).map_err(|source| WaitError::Wait {
            pid: self.child.pid,
            source,
        })?;
        let exit = match ended {
            Ended::Exited(code) => Exit::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
            Ended::Killed(signal) => Exit::Signal(signal),
        };
        self.exit = Some(exit);
        self.cgroup = None;
        Ok(exit)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.exit.is_some() {
            return;
        }
        // Both fail only for a process that is gone, which is what is wanted.
        self.signal(SIGKILL).ok();
        self.wait().ok();
    }
}

const SIGKILL: i32 = 9;

impl Terminal {
    pub(crate) fn new(master: OwnedFd) -> Self {
        Self { master }
    }

    /// Returns the master: read what the container prints, write what is typed. Reading fails
    /// with EIO once nobody in the container holds the terminal any more.
    pub fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// Sets the size; the container's foreground processes get SIGWINCH.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size)?;
        Ok(())
    }
}
