//! A container that runs.

use std::os::fd::{BorrowedFd, OwnedFd};

/// A started container. Dropping it kills the container and waits for its end.
#[derive(Debug)]
pub struct Running {
    pid: i32,
    pidfd: OwnedFd,
    terminal: Option<Terminal>,
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
        source: std::io::Error,
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
        source: std::io::Error,
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
    /// Returns the process id of the first process, as the host sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns a descriptor that becomes readable when the container ends.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.pidfd)
    }

    /// Returns the container's terminal, when it was started with one.
    pub fn terminal(&self) -> Option<&Terminal> {
        self.terminal.as_ref()
    }

    /// Sends a signal to the first process; one that has ended already is no error.
    pub fn signal(&self, _signal: i32) -> Result<(), WaitError> {
        unimplemented!()
    }

    /// Waits for the end of the first process, and with it of all others; returns the same
    /// again when called twice.
    pub fn wait(&mut self) -> Result<Exit, WaitError> {
        unimplemented!()
    }
}

impl Terminal {
    /// Returns the master: read what the container prints, write what is typed.
    pub fn master(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.master)
    }

    /// Sets the size; the container's foreground processes get SIGWINCH.
    pub fn resize(&self, _rows: u16, _columns: u16) -> std::io::Result<()> {
        unimplemented!()
    }
}
