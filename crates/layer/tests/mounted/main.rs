//! Layers on the running kernel, in both forms. These need root.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod capture;
mod hostile;
mod random;
mod rootfs;
mod snapshot;
mod stack;
mod tarball;
mod tree;
