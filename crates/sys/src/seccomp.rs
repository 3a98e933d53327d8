//! Loading a system call filter.

#![expect(unsafe_code, reason = "rustix has no seccomp")]

use std::io;

/// One instruction of a filter, `struct sock_filter` of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct FilterInstruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip when a test holds.
    pub jump_true: u8,
    /// How many to skip when it does not.
    pub jump_false: u8,
    /// The operand.
    pub operand: u32,
}

/// `struct sock_fprog` of the kernel.
#[repr(C)]
struct Program {
    length: libc::c_ushort,
    filter: *const FilterInstruction,
}

/// Puts the calling thread, and all it becomes, under `filter` for good.
///
/// Needs `CAP_SYS_ADMIN`, or no-new-privileges to be set before.
pub fn load_seccomp(filter: &[FilterInstruction]) -> io::Result<()> {
    let program = Program {
        length: libc::c_ushort::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_ptr(),
    };
    // SAFETY: the program lives across the call, and its length is that of the slice.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const program,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
