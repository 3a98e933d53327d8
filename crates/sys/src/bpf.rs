//! Device filters of v2 control groups.

#![expect(unsafe_code, reason = "rustix has no bpf")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Loads `instructions` as a device filter and attaches it to the group `cgroup`, where it stays
/// as long as the group exists. Filters of the groups above go on to apply as well.
pub fn attach_device_filter(cgroup: BorrowedFd<'_>, instructions: &[u64]) -> io::Result<()> {
    let program = load(instructions)?;
    let mut attributes = Attach {
        target: descriptor(cgroup.as_raw_fd()),
        program: descriptor(program.as_raw_fd()),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
        replaced: 0,
    };
    // SAFETY: the attributes have the layout that this command reads.
    unsafe { bpf(BPF_PROG_ATTACH, &raw mut attributes) }?;
    Ok(())
}

fn load(instructions: &[u64]) -> io::Result<OwnedFd> {
    let licence = c"Apache-2.0";
    let mut attributes = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        length: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: address(instructions.as_ptr()),
        licence: address(licence.as_ptr()),
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"strata_devices\0\0",
    };
    // SAFETY: the attributes have the layout that this command reads, and what they point to
    // lives across the call.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &raw mut attributes) }?;
    // SAFETY: the command returned a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

#[repr(C)]
struct Load {
    kind: u32,
    length: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

/// # Safety
///
/// `attributes` must have the layout that `command` reads, and point to live memory.
unsafe fn bpf<T>(command: libc::c_int, attributes: *mut T) -> io::Result<libc::c_int> {
    // SAFETY: as the caller promises; the size is that of the structure.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result).map_err(io::Error::other)
}

fn address<T>(pointer: *const T) -> u64 {
    u64::try_from(pointer.expose_provenance()).expect("an address fits in 64 bits")
}

fn descriptor(fd: libc::c_int) -> u32 {
    fd.unsigned_abs()
}
