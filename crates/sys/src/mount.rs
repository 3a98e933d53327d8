//! Mounts as values: built detached through the new mount API, attached where they are wanted.
//!
//! Every path may be longer than the 255 bytes that `fsconfig(2)` takes as a string: what does
//! not fit, or must not be resolved twice, is handed over as a file descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::mount_error::MountError;
use crate::overlay::{self, OverlayOptions};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags, openat, statx};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    open_tree,
};

/// A mount tree. It starts detached and goes away when dropped; once attached it stays where it
/// was put, whatever becomes of this value.
#[derive(Debug)]
pub struct Mount(OwnedFd);

/// Whether an operation on a mount includes the mounts below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recursion {
    /// Only the mount itself.
    Single,
    /// The mount and everything mounted below it.
    Recursive,
}

/// When an unmount happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// At once, or not at all when the mount is busy.
    Now,
    /// Out of sight at once, gone with its last user.
    Lazy,
}

/// How events travel between a mount and its copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Nothing travels.
    Private,
    /// In both directions.
    Shared,
    /// Only into this mount.
    Slave,
}

/// Attributes to add to a mount; what is `false` or `None` stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountAttributes {
    /// Nothing can be changed through the mount.
    pub read_only: bool,
    /// Set-user-ID bits and file capabilities have no effect.
    pub nosuid: bool,
    /// Device nodes cannot be opened.
    pub nodev: bool,
    /// Nothing can be executed.
    pub noexec: bool,
    /// Access times are not kept.
    pub noatime: bool,
    /// How events travel.
    pub propagation: Option<Propagation>,
}

impl Mount {
    /// Mounts the EROFS image `index`, whose file contents are in `device`, read-only.
    ///
    /// Needs no loop device, and kernel 6.12.
    pub fn erofs(index: &Path, device: &Path) -> Result<Self, MountError> {
        let context = Context::open("erofs")?;
        let image = context.set_file("source", index)?;
        let device = context.set_file("device", device)?;
        let mount = context.mount();
        drop((image, device));
        mount
    }

    /// Mounts an overlay whose own marks are `user.overlay.*` attributes.
    pub fn overlay(options: &OverlayOptions<'_>) -> Result<Self, MountError> {
        overlay::mount(options)
    }

    /// Returns a copy of the mount at `source`, as `mount --bind` makes one; of a file, too.
    pub fn bind(source: &Path, recursion: Recursion) -> Result<Self, MountError> {
        let flags = clone_flags(recursion);
        let tree = open_tree(CWD, source, flags).map_err(|errno| MountError::Open {
            path: source.to_owned(),
            source: errno.into(),
        })?;
        Ok(Self(tree))
    }

    /// Returns a copy of the mount that `file` is in, with `file` as its root.
    pub fn open_at(file: BorrowedFd<'_>, recursion: Recursion) -> Result<Self, MountError> {
        let flags = clone_flags(recursion) | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(file, "", flags).map_err(|errno| MountError::Open {
            path: descriptor_path(file),
            source: errno.into(),
        })?;
        Ok(Self(tree))
    }

    /// Mounts a new memory file system. `options` are those of tmpfs(5).
    pub fn tmpfs(options: &[(&str, &str)]) -> Result<Self, MountError> {
        Self::filesystem("tmpfs", options)
    }

    /// Mounts the process information of the caller's process namespace.
    pub fn proc() -> Result<Self, MountError> {
        Self::filesystem("proc", &[])
    }

    /// Mounts the kernel's object tree of the caller's network namespace.
    pub fn sysfs() -> Result<Self, MountError> {
        Self::filesystem("sysfs", &[])
    }

    /// Mounts the message queues of the caller's IPC namespace.
    pub fn mqueue() -> Result<Self, MountError> {
        Self::filesystem("mqueue", &[])
    }

    /// Mounts a new set of pseudo terminals.
    pub fn devpts(options: &[(&str, &str)]) -> Result<Self, MountError> {
        Self::filesystem("devpts", options)
    }

    /// Mounts the control groups of the caller's cgroup namespace.
    pub fn cgroup2() -> Result<Self, MountError> {
        Self::filesystem("cgroup2", &[])
    }

    /// Mounts a file system that needs no files of its own. An option with an empty value is a flag.
    pub fn filesystem(name: &str, options: &[(&str, &str)]) -> Result<Self, MountError> {
        let context = Context::open(name)?;
        // A file system without a source is shown as `none` in mount tables.
        context.set_string("source", name)?;
        for (key, value) in options {
            if value.is_empty() {
                context.set_flag(key)?;
            } else {
                context.set_string(key, value)?;
            }
        }
        context.mount()
    }

    /// Adds `attributes` to the mount, or to it and all mounts below.
    pub fn set_attributes(
        &self,
        attributes: &MountAttributes,
        recursion: Recursion,
    ) -> Result<(), MountError> {
        mount_setattr(self.0.as_fd(), attributes, recursion)
            .map_err(|source| MountError::Attributes { source })
    }

    /// Attaches the mount at `path`, following symbolic links.
    pub fn attach(&self, path: &Path) -> Result<(), MountError> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
            | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS
            | MoveMountFlags::MOVE_MOUNT_T_AUTOMOUNTS;
        move_mount(&self.0, "", CWD, path, flags).map_err(|errno| MountError::Attach {
            at: Some(path.to_owned()),
            source: errno.into(),
        })
    }

    /// Attaches the mount on top of what `at` is open on; an `O_PATH` descriptor will do.
    pub fn attach_at(&self, at: BorrowedFd<'_>) -> Result<(), MountError> {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&self.0, "", at, "", flags).map_err(|errno| MountError::Attach {
            at: None,
            source: errno.into(),
        })
    }
}

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

impl From<Mount> for OwnedFd {
    fn from(mount: Mount) -> Self {
        mount.0
    }
}

/// Removes the mount at `path`, without following a symbolic link there.
pub fn unmount(path: &Path, when: Unmount) -> Result<(), MountError> {
    let flags = match when {
        Unmount::Now => UnmountFlags::NOFOLLOW,
        Unmount::Lazy => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
    };
    rustix::mount::unmount(path, flags).map_err(|errno| MountError::Unmount {
        path: path.to_owned(),
        source: errno.into(),
    })
}

/// Tells whether something is mounted at `path`; what does not exist is no mount point.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match statx(CWD, path, flags, StatxFlags::empty()) {
        Ok(status) => Ok(status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn clone_flags(recursion: Recursion) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    match recursion {
        Recursion::Single => flags,
        Recursion::Recursive => flags | OpenTreeFlags::AT_RECURSIVE,
    }
}

pub(crate) fn descriptor_path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// A file system in the making.
pub(crate) struct Context<'a> {
    filesystem: &'a str,
    pub(crate) fd: OwnedFd,
}

/// The longest string that `fsconfig(2)` takes.
const MAX_PARAMETER: usize = 255;

impl<'a> Context<'a> {
    pub(crate) fn open(filesystem: &'a str) -> Result<Self, MountError> {
        let fd = fsopen(filesystem, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| {
            if errno == Errno::NODEV {
                return MountError::UnknownFilesystem {
                    filesystem: filesystem.to_owned(),
                    source: errno.into(),
                };
            }
            MountError::Create {
                filesystem: filesystem.to_owned(),
                step: "fsopen".to_owned(),
                log: String::new(),
                source: errno.into(),
            }
        })?;
        Ok(Self { filesystem, fd })
    }

    pub(crate) fn set_flag(&self, key: &str) -> Result<(), MountError> {
        fsconfig_set_flag(&self.fd, key).map_err(|errno| self.error(key, errno))
    }

    pub(crate) fn set_string(&self, key: &str, value: &str) -> Result<(), MountError> {
        fsconfig_set_string(&self.fd, key, value)
            .map_err(|errno| self.error(&format!("{key}={value}"), errno))
    }

    /// Sets a parameter to the file at `path`. The file is returned open when the kernel was
    /// given a path through its descriptor, which must then live until the mount is made.
    fn set_file(&self, key: &str, path: &Path) -> Result<Option<OwnedFd>, MountError> {
        if path.as_os_str().as_bytes().len() <= MAX_PARAMETER {
            fsconfig_set_string(&self.fd, key, path)
                .map_err(|errno| self.error(&format!("{key}={}", path.display()), errno))?;
            return Ok(None);
        }
        let file = open(path, OFlags::RDONLY)?;
        fsconfig_set_string(&self.fd, key, descriptor_path(file.as_fd()))
            .map_err(|errno| self.error(&format!("{key}={}", path.display()), errno))?;
        Ok(Some(file))
    }

    pub(crate) fn mount(&self) -> Result<Mount, MountError> {
        fsconfig_create(&self.fd).map_err(|errno| self.error("create", errno))?;
        let mount = fsmount(
            &self.fd,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )
        .map_err(|errno| self.error("fsmount", errno))?;
        Ok(Mount(mount))
    }

    pub(crate) fn error(&self, step: &str, errno: Errno) -> MountError {
        MountError::Create {
            filesystem: self.filesystem.to_owned(),
            step: step.to_owned(),
            log: self.log(),
            source: errno.into(),
        }
    }

    /// Reads the messages that the kernel keeps for this context, one a read.
    fn log(&self) -> String {
        let mut lines = Vec::new();
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = rustix::io::read(&self.fd, &mut buffer) {
            let line = String::from_utf8_lossy(&buffer[..length]);
            let line = line.trim_end();
            // The first two bytes are the message's weight: `e `, `w ` or `i `.
            lines.push(line.get(2..).unwrap_or(line).to_owned());
        }
        lines.join("; ")
    }
}

pub(crate) fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, MountError> {
    openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| MountError::Open {
        path: path.to_owned(),
        source: errno.into(),
    })
}

/// `struct mount_attr` of the kernel.
#[repr(C)]
struct RawAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

#[expect(unsafe_code, reason = "rustix has no mount_setattr")]
fn mount_setattr(
    mount: BorrowedFd<'_>,
    attributes: &MountAttributes,
    recursion: Recursion,
) -> io::Result<()> {
    let flag = |wanted: bool, flag: MountAttrFlags| if wanted { flag.bits() } else { 0 };
    let set = flag(attributes.read_only, MountAttrFlags::MOUNT_ATTR_RDONLY)
        | flag(attributes.nosuid, MountAttrFlags::MOUNT_ATTR_NOSUID)
        | flag(attributes.nodev, MountAttrFlags::MOUNT_ATTR_NODEV)
        | flag(attributes.noexec, MountAttrFlags::MOUNT_ATTR_NOEXEC)
        | flag(attributes.noatime, MountAttrFlags::MOUNT_ATTR_NOATIME);
    let raw = RawAttributes {
        set: u64::from(set),
        // One access time rule replaces another only when the field is cleared first.
        clear: u64::from(flag(attributes.noatime, MountAttrFlags::MOUNT_ATTR__ATIME)),
        propagation: match attributes.propagation {
            None => 0,
            Some(Propagation::Private) => libc::MS_PRIVATE,
            Some(Propagation::Shared) => libc::MS_SHARED,
            Some(Propagation::Slave) => libc::MS_SLAVE,
        },
        userns_fd: 0,
    };
    let flags = match recursion {
        Recursion::Single => libc::AT_EMPTY_PATH,
        Recursion::Recursive => libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
    };
    // SAFETY: the path is a static C string, `raw` lives across the call and its size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const raw,
            size_of::<RawAttributes>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
