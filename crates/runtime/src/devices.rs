//! The container's `/dev`: the nodes that docker gives every container.

use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, makedev, mkdirat, mknodat, symlinkat};
use rustix::io::Errno;

/// A character device that every container has and may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Device {
    pub(crate) name: &'static str,
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

const fn device(name: &'static str, major: u32, minor: u32) -> Device {
    Device { name, major, minor }
}

/// The nodes of `/dev`.
pub(crate) const NODES: [Device; 6] = [
    device("null", 1, 3),
    device("zero", 1, 5),
    device("full", 1, 7),
    device("random", 1, 8),
    device("urandom", 1, 9),
    device("tty", 5, 0),
];

/// The major number of pseudo terminals.
pub(crate) const PTS_MAJOR: u32 = 136;

/// Terminals that are used under other names than their nodes'.
pub(crate) const CONSOLE: Device = device("console", 5, 1);
pub(crate) const PTMX: Device = device("ptmx", 5, 2);

const LINKS: [(&str, &str); 5] = [
    ("pts/ptmx", "ptmx"),
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
];

/// As runc has it: a link where the kernel has the file.
const CORE: (&str, &str) = ("/proc/kcore", "core");

const DIRECTORIES: [&str; 3] = ["pts", "shm", "mqueue"];

/// Fills the empty directory `dev`. The caller's umask must be 0.
pub(crate) fn populate(dev: BorrowedFd<'_>) -> Result<(), Errno> {
    for node in NODES {
        mknodat(
            dev,
            node.name,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            makedev(node.major, node.minor),
        )?;
    }
    for (target, name) in LINKS {
        symlinkat(target, dev, name)?;
    }
    let (core, name) = CORE;
    if rustix::fs::stat(core).is_ok() {
        symlinkat(core, dev, name)?;
    }
    for name in DIRECTORIES {
        mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
    }
    Ok(())
}
