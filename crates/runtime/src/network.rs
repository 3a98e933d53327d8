//! A container's network namespace, made while the rest is prepared.

use std::io;
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};

use crate::StartError;

/// A network namespace in the making, with its loopback interface up. The kernel takes a tenth
/// of a container's start for it, and a thread of its own does not keep the others waiting.
#[derive(Debug)]
pub(crate) struct NewNetwork(JoinHandle<Result<OwnedFd, StartError>>);

/// The thread makes three system calls.
const STACK_SIZE: usize = 64 << 10;

impl NewNetwork {
    /// Begins to make it.
    pub(crate) fn begin() -> Result<Self, StartError> {
        thread::Builder::new()
            .name("network".to_owned())
            .stack_size(STACK_SIZE)
            .spawn(make)
            .map(Self)
            .map_err(StartError::step("start a thread"))
    }

    /// Waits until it is made.
    pub(crate) fn finish(self) -> Result<OwnedFd, StartError> {
        self.0.join().unwrap_or_else(|_| {
            let panicked = io::Error::other("the thread panicked");
            Err(StartError::step("make a network namespace")(panicked))
        })
    }
}

fn make() -> Result<OwnedFd, StartError> {
    let namespace = sys::unshare_network().map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => StartError::NotPermitted(source),
        _ => StartError::step("make a network namespace")(source),
    })?;
    sys::bring_up_loopback().map_err(StartError::step("bring up the loopback interface"))?;
    Ok(namespace)
}
