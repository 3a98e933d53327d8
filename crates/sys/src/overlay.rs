//! Overlays of directories and mounts.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::{fsconfig_set_fd, fsconfig_set_string};
use rustix::thread::UnshareFlags;

use crate::mount::{Context, Mount, descriptor_path, open};
use crate::mount_error::MountError;

/// One lower directory of an overlay.
#[derive(Debug, Clone, Copy)]
pub enum Lower<'a> {
    /// A directory by its path.
    Path(&'a Path),
    /// An open directory or the root of a mount, also a detached one.
    Fd(BorrowedFd<'a>),
}

/// The writable directories of an overlay; both on one file system, both existing.
#[derive(Debug, Clone, Copy)]
pub struct Upper<'a> {
    /// Receives the changes.
    pub upper: &'a Path,
    /// The kernel's scratch directory; empty at the first mount.
    pub work: &'a Path,
}

/// What an overlay is made of.
#[derive(Debug, Clone, Copy)]
pub struct OverlayOptions<'a> {
    /// The read-only directories, topmost first; at least one, at most 500.
    pub lower: &'a [Lower<'a>],
    /// Where changes go; without it the overlay is read-only.
    pub upper: Option<Upper<'a>>,
    /// Never waits for the disk. After a crash the upper directory must be thrown away, and the
    /// kernel refuses to mount it again.
    pub volatile: bool,
}

/// The directories of an overlay, open.
struct Directories<'a> {
    lower: Vec<BorrowedFd<'a>>,
    upper: Option<[BorrowedFd<'a>; 2]>,
    volatile: bool,
}

/// How the kernel is told the directories, one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Linux 6.13: as descriptors.
    Descriptors,
    /// Linux 6.5: one parameter for each lower directory.
    Paths,
}

pub(crate) fn mount(options: &OverlayOptions<'_>) -> Result<Mount, MountError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let mut opened: Vec<OwnedFd> = Vec::new();
    for lower in options.lower {
        if let Lower::Path(path) = lower {
            opened.push(open(path, flags)?);
        }
    }
    let mut paths = opened.iter();
    let lower = options.lower.iter().filter_map(|lower| match lower {
        Lower::Path(_) => paths.next().map(OwnedFd::as_fd),
        Lower::Fd(fd) => Some(*fd),
    });
    let lower = lower.collect();
    let upper = match options.upper {
        Some(Upper { upper, work }) => Some([open(upper, flags)?, open(work, flags)?]),
        None => None,
    };
    let directories = Directories {
        lower,
        upper: upper
            .as_ref()
            .map(|[upper, work]| [upper.as_fd(), work.as_fd()]),
        volatile: options.volatile,
    };
    let (accepted, result) = try_each(&directories, Way::Descriptors);
    if accepted {
        return result;
    }
    match try_each(&directories, Way::Paths).1 {
        // Before 6.5 a parameter of any name is accepted and refused only in the end.
        Err(error) if is_invalid(&error) => try_joined(&directories).map_err(|_| error),
        result => result,
    }
}

fn is_invalid(error: &MountError) -> bool {
    error.io_error().raw_os_error() == Some(Errno::INVAL.raw_os_error())
}

/// Mounts with one parameter for each directory, and tells whether all of these were accepted.
fn try_each(directories: &Directories<'_>, way: Way) -> (bool, Result<Mount, MountError>) {
    let context = match begin(directories) {
        Ok(context) => context,
        Err(error) => return (true, Err(error)),
    };
    let lower = directories.lower.iter().map(|fd| ("lowerdir+", *fd));
    for (key, fd) in lower.chain(directories.writable()) {
        let result = match way {
            Way::Descriptors => fsconfig_set_fd(&context.fd, key, fd),
            Way::Paths => fsconfig_set_string(&context.fd, key, descriptor_path(fd)),
        };
        if let Err(errno) = result {
            return (errno != Errno::INVAL, Err(context.error(key, errno)));
        }
    }
    (true, context.mount())
}

/// Mounts with all lower directories in one parameter, of which each is just a number: the path
/// of its descriptor seen from `/proc/self/fd`.
fn try_joined(directories: &Directories<'_>) -> Result<Mount, MountError> {
    let names: Vec<_> = directories
        .lower
        .iter()
        .map(|fd| fd.as_raw_fd().to_string())
        .collect();
    let work = || {
        let context = begin(directories)?;
        enter_descriptors().map_err(|errno| context.error("chdir", errno))?;
        context.set_string("lowerdir", &names.join(":"))?;
        for (key, fd) in directories.writable() {
            context.set_string(key, &fd.as_raw_fd().to_string())?;
        }
        context.mount()
    };
    // The working directory belongs to a thread of its own.
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

#[expect(unsafe_code, reason = "some namespaces cannot be left safely")]
fn enter_descriptors() -> rustix::io::Result<()> {
    // SAFETY: only the working directory, root and umask become the thread's own; no descriptor
    // and no memory is unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS)? };
    rustix::process::chdir("/proc/self/fd")
}

fn begin(directories: &Directories<'_>) -> Result<Context<'static>, MountError> {
    let context = Context::open("overlay")?;
    context.set_flag("userxattr")?;
    // An index ties the upper directory to these very lower ones, which may be made anew; a
    // kernel can have it on by default.
    context.set_string("index", "off")?;
    if directories.volatile && directories.upper.is_some() {
        context.set_flag("volatile")?;
    }
    Ok(context)
}

impl<'a> Directories<'a> {
    fn writable(&self) -> impl Iterator<Item = (&'static str, BorrowedFd<'a>)> {
        let [upper, work] = self.upper.map_or([None; 2], |upper| upper.map(Some));
        let upper = upper.map(|fd| ("upperdir", fd));
        upper.into_iter().chain(work.map(|fd| ("workdir", fd)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;

    use super::*;

    #[test]
    fn privileged_every_way_to_name_the_directories_gives_the_same_overlay() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = |name: &str| {
            let path = scratch.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("name"), name).unwrap();
            fs::write(path.join(name), "").unwrap();
            path
        };
        let paths: Vec<_> = (0..40)
            .map(|number| directory(&format!("lower{number}")))
            .collect();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let opened: Vec<_> = paths
            .iter()
            .map(|path| open(path, flags).unwrap())
            .collect();
        type Mounting = fn(&Directories<'_>) -> Result<Mount, MountError>;
        let ways: [(&str, Mounting); 3] = [
            ("descriptors", |directories| {
                try_each(directories, Way::Descriptors).1
            }),
            ("paths", |directories| try_each(directories, Way::Paths).1),
            ("joined", try_joined),
        ];
        for (way, mount) in ways {
            for is_writable in [false, true] {
                let upper = [
                    format!("upper{way}{is_writable}"),
                    format!("work{way}{is_writable}"),
                ]
                .map(|name| scratch.path().join(name));
                for path in &upper {
                    fs::create_dir(path).unwrap();
                }
                let upper = upper.map(|path| open(&path, flags).unwrap());
                let directories = Directories {
                    lower: opened.iter().map(OwnedFd::as_fd).collect(),
                    upper: is_writable.then(|| [upper[0].as_fd(), upper[1].as_fd()]),
                    volatile: true,
                };
                let mount = mount(&directories).unwrap();
                let path = descriptor_path(mount.as_fd());
                let mut name = String::new();
                let mut file = fs::File::open(path.join("name")).unwrap();
                file.read_to_string(&mut name).unwrap();
                assert_eq!(name, "lower0", "{way}");
                assert!(path.join("lower39").exists(), "{way}");
                assert_eq!(
                    fs::write(path.join("new"), "").is_ok(),
                    is_writable,
                    "{way}"
                );
            }
        }
    }
}
