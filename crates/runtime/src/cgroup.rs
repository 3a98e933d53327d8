//! The container's control group: it restricts devices, and nothing else yet.
//!
//! On a pure v2 host the container starts in a group with a device filter attached. On v1 and
//! hybrid hosts only the `devices` hierarchy is joined. The group is a child of this process's
//! own group and is removed when the container has ended.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    CWD, FlockOperation, FsWord, Mode, OFlags, flock, fstat, mkdirat, openat, rmdir, stat, statfs,
};
use rustix::io::Errno;

use sys::{Mount, Recursion};

use crate::StartError;
use crate::devices::{CONSOLE, Device, NODES, PTMX, PTS_MAJOR};
use crate::filesystem::Hierarchies;

const CGROUP2_SUPER_MAGIC: FsWord = 0x6367_7270;
const CGROUP_SUPER_MAGIC: FsWord = 0x0027_e0eb;
const HIERARCHIES: &str = "/sys/fs/cgroup";
/// The v1 hierarchy that is joined, and its usual place in [`HIERARCHIES`].
const DEVICES: &str = "devices";

/// A group of one container; removed when dropped.
///
/// Its directory is locked as long as this value lives. A killed process leaves an empty group
/// behind without a lock, and the next one that makes a group beside it removes it, or
/// [`remove_abandoned_groups`] does.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    directory: OwnedFd,
    entrance: Entrance,
}

/// How a process gets into the group.
#[derive(Debug)]
enum Entrance {
    /// v1: it writes itself into this file.
    Tasks(OwnedFd),
    /// v2: it is made in the directory.
    Directory,
}

/// Which control groups the host has, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Version 2.
    Unified(PathBuf),
    /// A v1 `devices` hierarchy, perhaps v2 beside it.
    Devices(PathBuf),
    /// Nothing that restricts devices.
    Absent,
}

impl Layout {
    /// Looks at the usual mount points.
    pub(crate) fn detect() -> Self {
        let magic = |path: &str| statfs(path).map(|status| status.f_type);
        if magic(HIERARCHIES) == Ok(CGROUP2_SUPER_MAGIC) {
            return Self::Unified(PathBuf::from(HIERARCHIES));
        }
        let devices = format!("{HIERARCHIES}/{DEVICES}");
        if magic(&devices) == Ok(CGROUP_SUPER_MAGIC) {
            return Self::Devices(PathBuf::from(devices));
        }
        Self::Absent
    }
}

impl Cgroup {
    /// Makes the group of container `id`. Returns `None` when this process may not make groups or
    /// the host has none: then nothing restricts the use of device nodes.
    pub(crate) fn create(id: &str, layout: &Layout) -> Result<Option<Self>, StartError> {
        let own = layout.own_group();
        let own = own.map_err(StartError::step("read this process's control groups"))?;
        let Some(own) = own else {
            return Ok(None);
        };
        let path = own.join(format!("{PREFIX}{id}"));
        let failed = |source: io::Error| StartError::Cgroup {
            path: path.clone(),
            source,
        };
        remove_abandoned(&own);
        let directory = match make_and_lock(&path) {
            Ok(directory) => directory,
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno.into())),
        };
        let entrance = match layout {
            Layout::Unified(_) => sys::attach_device_filter(directory.as_fd(), &filter())
                .map(|()| Entrance::Directory),
            Layout::Devices(_) | Layout::Absent => restrict_devices(&directory),
        };
        match entrance {
            Ok(entrance) => Ok(Some(Self {
                path,
                directory,
                entrance,
            })),
            Err(source) => {
                // The first error is the one to tell; an empty group left behind does no harm.
                rmdir(&path).ok();
                Err(failed(source))
            }
        }
    }

    /// Returns the directory to make the container's process in, on v2.
    pub(crate) fn directory(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        match &self.entrance {
            Entrance::Directory => Some(self.directory.as_fd()),
            Entrance::Tasks(_) => None,
        }
    }

    /// Returns what the container shall find in `/sys/fs/cgroup`.
    pub(crate) fn hierarchies(&self) -> Result<Hierarchies, StartError> {
        match &self.entrance {
            Entrance::Directory => Ok(Hierarchies::Unified),
            Entrance::Tasks(_) => Mount::open_at(self.directory.as_fd(), Recursion::Single)
                .map(|group| Hierarchies::Own(vec![(DEVICES, group)]))
                .map_err(StartError::mount("/sys/fs/cgroup")),
        }
    }

    /// Moves the calling process into the group, where it is not in it already.
    pub(crate) fn join(&self) -> Result<(), StartError> {
        let Entrance::Tasks(tasks) = &self.entrance else {
            return Ok(());
        };
        // A thread that moves itself by `tasks` spares the kernel a lock that takes milliseconds.
        rustix::io::write(tasks, b"0")
            .map(drop)
            .map_err(|errno| StartError::Cgroup {
                path: self.path.clone(),
                source: errno.into(),
            })
    }
}

impl Layout {
    /// Returns the directory of the group that this process is in.
    fn own_group(&self) -> io::Result<Option<PathBuf>> {
        let (mount, controller) = match self {
            Self::Absent => return Ok(None),
            Self::Unified(mount) => (mount, ""),
            Self::Devices(mount) => (mount, DEVICES),
        };
        let group = own_group(controller)?;
        Ok(Some(mount.join(group.trim_start_matches('/'))))
    }
}

/// Removes the control groups that killed processes left beside where this process would make one.
/// The next container would do it too.
pub fn remove_abandoned_groups() {
    if let Ok(Some(own)) = Layout::detect().own_group() {
        remove_abandoned(&own);
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // It is empty once the container has ended; nothing depends on its removal.
        rmdir(&self.path).ok();
    }
}

const PREFIX: &str = "strata-";

/// Makes the group and locks it. Between the two, another process may take it for an abandoned
/// one and remove it: then it is made again.
fn make_and_lock(path: &Path) -> Result<OwnedFd, Errno> {
    loop {
        mkdirat(CWD, path, Mode::from_raw_mode(0o755))?;
        let directory = match open_directory(path) {
            Err(Errno::NOENT) => continue,
            result => result?,
        };
        // Someone who clears up may hold it, and is about to remove it.
        flock(&directory, FlockOperation::LockExclusive)?;
        if is_at(&directory, path) {
            return Ok(directory);
        }
    }
}

/// Removes the groups of containers whose process was killed. What is in use is locked, and what
/// has processes in it cannot be removed; so errors do not matter.
fn remove_abandoned(own: &Path) {
    let Ok(entries) = fs::read_dir(own) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes())
        {
            continue;
        }
        let path = entry.path();
        let Ok(directory) = open_directory(&path) else {
            continue;
        };
        // The path may lead to another group by now, made after the one that was opened had gone.
        if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok()
            && is_at(&directory, &path)
        {
            rmdir(&path).ok();
        }
    }
}

/// Tells whether `path` still leads to the directory. Who holds its lock can rely on the answer:
/// nobody else removes it.
fn is_at(directory: &OwnedFd, path: &Path) -> bool {
    stat(path).is_ok_and(|found| fstat(directory).is_ok_and(|opened| opened.st_ino == found.st_ino))
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
}

fn restrict_devices(directory: &OwnedFd) -> io::Result<Entrance> {
    let open = |name: &str| {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        openat(directory, name, flags, Mode::empty())
    };
    rustix::io::write(open("devices.deny")?, b"a")?;
    let allow = open("devices.allow")?;
    for rule in rules() {
        rustix::io::write(&allow, rule.to_string().as_bytes())?;
    }
    Ok(Entrance::Tasks(open("tasks")?))
}

/// Returns this process's group in the hierarchy of `controller`, or in that of v2 when empty.
fn own_group(controller: &str) -> io::Result<String> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    group_of(controller, &text)
        .map(str::to_owned)
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

fn group_of<'a>(controller: &str, text: &'a str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let group = fields.next()?;
        controllers
            .split(',')
            .any(|name| name == controller)
            .then_some(group)
    })
}

/// A kind of device, and whether a container may only make nodes of it or also use them.
struct Rule {
    kind: char,
    major: Option<u32>,
    minor: Option<u32>,
    access: &'static str,
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |n| n.to_string());
        write!(
            f,
            "{} {}:{} {}",
            self.kind,
            number(self.major),
            number(self.minor),
            self.access
        )
    }
}

/// Docker's rules: nodes may be made for any device, but only harmless ones can be used.
fn rules() -> impl Iterator<Item = Rule> {
    let make = ['c', 'b'].map(|kind| Rule {
        kind,
        major: None,
        minor: None,
        access: "m",
    });
    let terminals = Rule {
        kind: 'c',
        major: Some(PTS_MAJOR),
        minor: None,
        access: "rwm",
    };
    make.into_iter()
        .chain(usable().map(|device| Rule {
            kind: 'c',
            major: Some(device.major),
            minor: Some(device.minor),
            access: "rwm",
        }))
        .chain([terminals])
}

fn usable() -> impl Iterator<Item = Device> {
    NODES.into_iter().chain([CONSOLE, PTMX])
}

/// Returns the same rules as a program of the kernel's virtual machine. It is given a structure
/// of three words: `access << 16 | type`, major, minor; it returns 1 to allow.
fn filter() -> Vec<u64> {
    const MAKE_NODE: u32 = 1;
    const CHARACTER: u32 = 2;
    let mut program = vec![
        load(2, 0),
        move_register(3, 2),
        shift_right(3, 16),
        // Only making a node: allowed.
        skip_unless_equal(3, MAKE_NODE, 2),
        move_constant(0, 1),
        EXIT,
        and(2, 0xffff),
        // A block device: refused.
        skip_if_equal(2, CHARACTER, 2),
        move_constant(0, 0),
        EXIT,
        load(4, 4),
        load(5, 8),
    ];
    for device in usable() {
        program.extend([
            skip_unless_equal(4, device.major, 3),
            skip_unless_equal(5, device.minor, 2),
            move_constant(0, 1),
            EXIT,
        ]);
    }
    program.extend([
        skip_unless_equal(4, PTS_MAJOR, 2),
        move_constant(0, 1),
        EXIT,
        move_constant(0, 0),
        EXIT,
    ]);
    program
}

const EXIT: u64 = 0x95;

/// Puts one instruction together: opcode, destination, source, jump or memory offset, constant.
fn instruction(opcode: u8, registers: u8, offset: u16, constant: u32) -> u64 {
    u64::from(opcode)
        | u64::from(registers) << 8
        | u64::from(offset) << 16
        | u64::from(constant) << 32
}

/// Loads a word of the structure that register 1 points to.
fn load(destination: u8, offset: u16) -> u64 {
    instruction(0x61, destination | 1 << 4, offset, 0)
}

fn move_register(destination: u8, source: u8) -> u64 {
    instruction(0xbc, destination | source << 4, 0, 0)
}

fn move_constant(destination: u8, constant: u32) -> u64 {
    instruction(0xb4, destination, 0, constant)
}

fn shift_right(destination: u8, bits: u32) -> u64 {
    instruction(0x74, destination, 0, bits)
}

fn and(destination: u8, mask: u32) -> u64 {
    instruction(0x54, destination, 0, mask)
}

fn skip_if_equal(register: u8, constant: u32, count: u16) -> u64 {
    instruction(0x16, register, count, constant)
}

fn skip_unless_equal(register: u8, constant: u32, count: u16) -> u64 {
    instruction(0x56, register, count, constant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_in_both_versions() {
        let text = "9:name=systemd:/a\n5:cpu,devices:/user/one:two\n0::/unified\n";
        assert_eq!(group_of("devices", text), Some("/user/one:two"));
        assert_eq!(group_of("", text), Some("/unified"));
        assert_eq!(group_of("memory", text), None);
    }

    #[test]
    fn v1_rules_are_dockers() {
        let rules: Vec<String> = rules().map(|rule| rule.to_string()).collect();
        assert_eq!(
            rules,
            [
                "c *:* m",
                "b *:* m",
                "c 1:3 rwm",
                "c 1:5 rwm",
                "c 1:7 rwm",
                "c 1:8 rwm",
                "c 1:9 rwm",
                "c 5:0 rwm",
                "c 5:1 rwm",
                "c 5:2 rwm",
                "c 136:* rwm",
            ]
        );
    }

    /// Runs the few instructions that the filter is made of.
    fn run(program: &[u64], context: [u32; 3]) -> u32 {
        let mut registers = [0_u32; 11];
        let mut at = 0;
        loop {
            let word = program[at];
            let bytes = word.to_le_bytes();
            let destination = usize::from(bytes[1] & 15);
            let source = usize::from(bytes[1] >> 4);
            let offset = usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
            let constant = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            at += 1;
            match bytes[0] {
                0x61 => registers[destination] = context[offset / 4],
                0xbc => registers[destination] = registers[source],
                0xb4 => registers[destination] = constant,
                0x74 => registers[destination] >>= constant,
                0x54 => registers[destination] &= constant,
                0x16 if registers[destination] == constant => at += offset,
                0x56 if registers[destination] != constant => at += offset,
                0x16 | 0x56 => {}
                0x95 => return registers[0],
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn the_v2_filter_decides_as_the_v1_rules() {
        let program = filter();
        for (kind, name) in [(1_u32, 'b'), (2, 'c')] {
            for access in 1..8_u32 {
                for major in [0, 1, 5, 8, 10, 136, 137] {
                    for minor in 0..12 {
                        let allowed = rules().any(|rule| {
                            let letters = [(1, 'm'), (2, 'r'), (4, 'w')];
                            rule.kind == name
                                && rule.major.is_none_or(|number| number == major)
                                && rule.minor.is_none_or(|number| number == minor)
                                && letters.iter().all(|(bit, letter)| {
                                    access & bit == 0 || rule.access.contains(*letter)
                                })
                        });
                        let result = run(&program, [access << 16 | kind, major, minor]);
                        assert_eq!(result == 1, allowed, "{name} {major}:{minor} {access}");
                    }
                }
            }
        }
    }
}
