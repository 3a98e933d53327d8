//! The container's file system tree: its root, docker's default mounts, binds, and what is
//! hidden or made read-only.
//!
//! Runs in the child, in its own mount namespace. Nothing is looked up by a path that the image
//! could bend: the default mounts refuse symbolic links, masks are applied through the
//! descriptors of the fresh `/proc` and `/sys`, binds walk through [`crate::mountpoint`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use sys::{Mount, MountAttributes, MountError, Recursion, Root};

use crate::mountpoint::{Kind, is_in_proc, open_or_make, open_or_make_plain};
use crate::{Access, StartError, devices};

/// A bind mount whose source is open already.
#[derive(Debug)]
pub(crate) struct PreparedBind {
    pub(crate) mount: Mount,
    /// What of it is shown: a path without slashes at its ends, empty for its root.
    pub(crate) inside: String,
    pub(crate) target: String,
}

/// What the tree is built from.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) rootfs: Mount,
    pub(crate) rootfs_access: Access,
    pub(crate) devpts: Mount,
    /// The size of `/dev/shm` in bytes.
    pub(crate) shm_size: u64,
    pub(crate) binds: Vec<PreparedBind>,
    pub(crate) cgroups: Hierarchies,
}

/// What the container finds in `/sys/fs/cgroup`.
#[derive(Debug)]
pub(crate) enum Hierarchies {
    /// Version 2, as its cgroup namespace shows it.
    Unified,
    /// One directory for each v1 hierarchy in which it has a group of its own: its name, and that
    /// group. Of the others it would see the group of whoever started it.
    Own(Vec<(&'static str, Mount)>),
}

/// The parts of a finished tree that later steps need.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) root: OwnedFd,
    pub(crate) proc: Root,
    sys: Root,
    dev: Mount,
}

const SAFE: MountAttributes = MountAttributes {
    read_only: false,
    nosuid: true,
    nodev: true,
    noexec: true,
    noatime: false,
    propagation: None,
};

/// Hidden as docker 28 hides them; what the kernel does not have is passed over.
const MASKED_IN_PROC: [&str; 10] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
const MASKED_IN_SYS: [&str; 2] = ["firmware", "devices/virtual/powercap"];
const READ_ONLY_IN_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

impl Tree {
    /// Makes the root file system the root of this process and drops every mount of the host.
    /// Then mounts docker's default file systems and the binds into it. The umask must be 0.
    ///
    /// `made` receives the mount points that were missing in the root file system.
    pub(crate) fn build(&self, made: &mut Vec<Vec<u8>>) -> Result<Built, StartError> {
        self.enter_root()?;
        let root = openat(
            CWD,
            c"/",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(StartError::step("open the container's root"))?;
        let at = root.as_fd();

        let proc = Mount::proc().map_err(StartError::mount("/proc"))?;
        attach(&proc, &SAFE, at, "proc", made)?;

        let dev = Mount::tmpfs(&[("mode", "755"), ("size", "65536k")])
            .map_err(StartError::mount("/dev"))?;
        devices::populate(dev.as_fd()).map_err(StartError::step("make the nodes of /dev"))?;
        let nosuid = MountAttributes {
            nosuid: true,
            ..MountAttributes::default()
        };
        attach(&dev, &nosuid, at, "dev", made)?;
        self.attach_below_dev(&dev)?;

        let sys = Mount::sysfs().map_err(StartError::mount("/sys"))?;
        let read_only = MountAttributes {
            read_only: true,
            ..SAFE
        };
        attach(&sys, &read_only, at, "sys", made)?;
        let sys = Root::from(OwnedFd::from(sys));
        self.attach_cgroups(&sys)?;
        for bind in &self.binds {
            attach_bind(bind, at, &dev, made)?;
        }
        Ok(Built {
            proc: Root::from(OwnedFd::from(proc)),
            sys,
            dev,
            root,
        })
    }

    fn enter_root(&self) -> Result<(), StartError> {
        // Otherwise what is unmounted here would go away on the host as well.
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )
        .map_err(StartError::step("make the container's mounts private"))?;
        let private = MountAttributes {
            propagation: Some(sys::Propagation::Private),
            ..MountAttributes::default()
        };
        self.rootfs
            .set_attributes(&private, Recursion::Recursive)
            .and_then(|()| self.rootfs.attach("/".as_ref()))
            .map_err(StartError::mount("/"))?;
        // Both the new root and the place for the old one are the working directory: the old
        // root ends up on top of the new one and is taken off again.
        rustix::process::fchdir(&self.rootfs)
            .and_then(|()| rustix::process::pivot_root(".", "."))
            .and_then(|()| unmount(".", UnmountFlags::DETACH))
            .and_then(|()| rustix::process::chdir("/"))
            .map_err(StartError::step("enter the container's root"))
    }

    fn attach_below_dev(&self, dev: &Mount) -> Result<(), StartError> {
        let pts = MountAttributes {
            nodev: false,
            ..SAFE
        };
        attach_in(&self.devpts, &pts, (dev, "/dev"), "pts")?;
        let size = self.shm_size.to_string();
        let shm = Mount::tmpfs(&[("mode", "1777"), ("size", &size)])
            .map_err(StartError::mount("/dev/shm"))?;
        attach_in(&shm, &SAFE, (dev, "/dev"), "shm")?;
        let mqueue = Mount::mqueue().map_err(StartError::mount("/dev/mqueue"))?;
        attach_in(&mqueue, &SAFE, (dev, "/dev"), "mqueue")
    }

    fn attach_cgroups(&self, sys: &Root) -> Result<(), StartError> {
        let name = "/sys/fs/cgroup";
        let read_only = MountAttributes {
            read_only: true,
            ..SAFE
        };
        let mount = match &self.cgroups {
            Hierarchies::Own(groups) if groups.is_empty() => return Ok(()),
            Hierarchies::Own(_) => Mount::tmpfs(&[("mode", "755")]),
            Hierarchies::Unified => Mount::cgroup2(),
        }
        .map_err(StartError::mount(name))?;
        let groups = match &self.cgroups {
            Hierarchies::Own(groups) => groups.as_slice(),
            Hierarchies::Unified => &[],
        };
        for (hierarchy, _) in groups {
            mkdirat(&mount, *hierarchy, Mode::from_raw_mode(0o755))
                .map_err(|errno| target_error(name, errno.into()))?;
        }
        let target = sys
            .open_beneath(b"fs/cgroup", OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|error| target_error(name, error.source))?;
        finish(&mount, &read_only, target.as_fd()).map_err(StartError::mount(name))?;
        for (hierarchy, group) in groups {
            attach_in(group, &read_only, (&mount, name), hierarchy)?;
        }
        Ok(())
    }

    /// Makes the root file system read-only when that is wanted.
    pub(crate) fn seal_root(&self) -> Result<(), StartError> {
        if self.rootfs_access == Access::ReadWrite {
            return Ok(());
        }
        let read_only = MountAttributes {
            read_only: true,
            ..MountAttributes::default()
        };
        self.rootfs
            .set_attributes(&read_only, Recursion::Single)
            .map_err(StartError::mount("/"))
    }
}

impl Built {
    /// Shows the terminal `slave` at `/dev/console`.
    pub(crate) fn attach_console(&self, slave: BorrowedFd<'_>) -> Result<(), StartError> {
        let name = "/dev/console";
        let flags = OFlags::CREATE | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = openat(&self.dev, "console", flags, Mode::from_raw_mode(0o666))
            .map_err(|errno| target_error(name, errno.into()))?;
        Mount::open_at(slave, Recursion::Single)
            .and_then(|console| console.attach_at(target.as_fd()))
            .map_err(StartError::mount(name))
    }

    /// Hides and write-protects what would tell about the host or change it.
    pub(crate) fn protect(&self) -> Result<(), StartError> {
        for path in READ_ONLY_IN_PROC {
            let Some(target) = find(&self.proc, path)? else {
                continue;
            };
            let read_only = MountAttributes {
                read_only: true,
                ..SAFE
            };
            Mount::open_at(target.as_fd(), Recursion::Single)
                .and_then(|mount| finish(&mount, &read_only, target.as_fd()))
                .map_err(StartError::mount(path))?;
        }
        let null = openat(
            &self.dev,
            "null",
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(StartError::step("open the container's /dev/null"))?;
        let mut masks = Masks {
            null,
            directory: None,
        };
        for path in MASKED_IN_PROC {
            masks.hide(&self.proc, path)?;
        }
        for path in MASKED_IN_SYS {
            masks.hide(&self.sys, path)?;
        }
        // Tells of the load of other users of the processor.
        for cpu in 0_u32.. {
            let directory = format!("devices/system/cpu/cpu{cpu}");
            if find(&self.sys, &directory)?.is_none() {
                break;
            }
            masks.hide(&self.sys, &format!("{directory}/thermal_throttle"))?;
        }
        Ok(())
    }
}

struct Masks {
    null: OwnedFd,
    /// An empty directory, attached once it has been used.
    directory: Option<Mount>,
}

impl Masks {
    fn hide(&mut self, root: &Root, path: &str) -> Result<(), StartError> {
        let Some(target) = find(root, path)? else {
            return Ok(());
        };
        let status = fstat(&target).map_err(|errno| target_error(path, errno.into()))?;
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            self.hide_directory(target.as_fd())
        } else {
            Mount::open_at(self.null.as_fd(), Recursion::Single)
                .and_then(|mount| mount.attach_at(target.as_fd()))
        }
        .map_err(StartError::mount(path))
    }

    fn hide_directory(&mut self, target: BorrowedFd<'_>) -> Result<(), MountError> {
        // Only an attached mount can be copied on older kernels, so the first use attaches it.
        if let Some(directory) = &self.directory {
            return Mount::open_at(directory.as_fd(), Recursion::Single)?.attach_at(target);
        }
        let directory = Mount::tmpfs(&[("size", "4k"), ("nr_inodes", "1"), ("mode", "755")])?;
        let read_only = MountAttributes {
            read_only: true,
            ..SAFE
        };
        finish(&directory, &read_only, target)?;
        self.directory = Some(directory);
        Ok(())
    }
}

fn find(root: &Root, path: &str) -> Result<Option<OwnedFd>, StartError> {
    match root.open_beneath(path.as_bytes(), OFlags::PATH) {
        Ok(target) => Ok(Some(target)),
        Err(error) if error.source.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(None),
        Err(error) => Err(target_error(path, error.source)),
    }
}

fn attach(
    mount: &Mount,
    attributes: &MountAttributes,
    root: BorrowedFd<'_>,
    name: &str,
    made: &mut Vec<Vec<u8>>,
) -> Result<(), StartError> {
    let target = open_or_make_plain(root, name, made)
        .map_err(|errno| target_error(&format!("/{name}"), errno.into()))?;
    finish(mount, attributes, target.as_fd()).map_err(StartError::mount(name))
}

/// Attaches the mount at the directory `name` of `parent`, which is mounted at the path beside it.
fn attach_in(
    mount: &Mount,
    attributes: &MountAttributes,
    (parent, path): (&Mount, &str),
    name: &str,
) -> Result<(), StartError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = openat(parent, name, flags, Mode::empty())
        .map_err(|errno| target_error(&format!("{path}/{name}"), errno.into()))?;
    finish(mount, attributes, target.as_fd()).map_err(StartError::mount(name))
}

fn attach_bind(
    bind: &PreparedBind,
    root: BorrowedFd<'_>,
    dev: &Mount,
    made: &mut Vec<Vec<u8>>,
) -> Result<(), StartError> {
    let cut = match bind.inside.as_str() {
        "" => None,
        path => Some(cut_out(bind, path, dev)?),
    };
    let mount = cut.as_ref().unwrap_or(&bind.mount);
    let failed = |errno: Errno| target_error(&bind.target, errno.into());
    let status = fstat(mount).map_err(failed)?;
    let kind = match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => Kind::Directory,
        _ => Kind::File,
    };
    let target = open_or_make(root, &bind.target, kind, made).map_err(failed)?;
    if is_in_proc(target.as_fd()).map_err(failed)? {
        return Err(StartError::TargetInProc(bind.target.clone()));
    }
    mount
        .attach_at(target.as_fd())
        .map_err(StartError::mount(&bind.target))
}

/// Returns a mount of `path` in the mount of `bind`. Only what is attached can be copied on older
/// kernels, so it is attached in `/dev` for the while.
fn cut_out(bind: &PreparedBind, path: &str, dev: &Mount) -> Result<Mount, StartError> {
    const PLACE: &str = ".bind";
    let failed = |errno: Errno| target_error(&bind.target, errno.into());
    mkdirat(dev, PLACE, Mode::from_raw_mode(0o700)).map_err(failed)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = openat(dev, PLACE, flags, Mode::empty()).map_err(failed)?;
    bind.mount
        .attach_at(place.as_fd())
        .map_err(StartError::mount(&bind.target))?;
    let whole = bind.mount.as_fd().try_clone_to_owned().map(Root::from);
    let whole = whole.map_err(|error| target_error(&bind.target, error))?;
    let source = whole
        .open_in_root(path.as_bytes(), OFlags::PATH)
        .map_err(|error| StartError::NoPathInMount {
            path: path.to_owned(),
            target: bind.target.clone(),
            source: error.source,
        })?;
    let mount = Mount::open_at(source.as_fd(), Recursion::Recursive)
        .map_err(StartError::mount(&bind.target))?;
    rustix::process::fchdir(&bind.mount)
        .and_then(|()| unmount(".", UnmountFlags::DETACH))
        .and_then(|()| rustix::process::chdir("/"))
        .and_then(|()| unlinkat(dev, PLACE, AtFlags::REMOVEDIR))
        .map_err(failed)?;
    Ok(mount)
}

fn finish(
    mount: &Mount,
    attributes: &MountAttributes,
    target: BorrowedFd<'_>,
) -> Result<(), MountError> {
    mount.set_attributes(attributes, Recursion::Single)?;
    mount.attach_at(target)
}

fn target_error(target: &str, source: std::io::Error) -> StartError {
    StartError::Target {
        target: target.to_owned(),
        source,
    }
}
