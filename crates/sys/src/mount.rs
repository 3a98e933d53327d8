//! Detached mounts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A mount tree that is attached nowhere; it goes away when dropped.
#[derive(Debug)]
pub struct Mount(OwnedFd);

impl AsFd for Mount {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Mount {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}
