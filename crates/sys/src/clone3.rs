//! The system call that makes a process, with a stack to begin on.

#![expect(unsafe_code, reason = "clone3 has no form in the C library")]

use std::io;
use std::ptr;

/// Enough for a deep call tree of an unoptimised build.
const STACK_SIZE: u64 = 512 << 10;
const GUARD_SIZE: usize = 4096;

/// The child's stack, with a page below it that nothing may touch.
pub(crate) struct Stack(*mut libc::c_void, *mut libc::c_void);

impl Stack {
    pub(crate) fn new() -> io::Result<Self> {
        let size = Self::mapped_size();
        // SAFETY: asks for new memory at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let usable = base.cast::<u8>().wrapping_add(GUARD_SIZE).cast();
        let stack = Self(usable, base);
        // SAFETY: the page lies inside the mapping made above.
        if unsafe { libc::mprotect(base, GUARD_SIZE, libc::PROT_NONE) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stack)
    }

    /// Returns the lowest address and the size, as clone3(2) wants them.
    pub(crate) fn extent(&self) -> (u64, u64) {
        (address(self.0), STACK_SIZE)
    }

    fn mapped_size() -> usize {
        GUARD_SIZE + usize::try_from(STACK_SIZE).expect("a stack fits in memory")
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no process uses it any more.
        unsafe { libc::munmap(self.1, Self::mapped_size()) };
    }
}

/// Returns the address that `pointer` holds, for the kernel to write to.
pub(crate) fn address<T>(pointer: *mut T) -> u64 {
    u64::try_from(pointer.expose_provenance()).expect("an address fits in 64 bits")
}

/// What the child begins with.
pub(crate) type Entered = extern "C" fn(*mut libc::c_void) -> !;

/// Calls clone3(2); the child calls `enter(argument)` on the stack that `arguments` names.
///
/// # Safety
///
/// The stack must be unused and large enough, `enter` must never return, and what `argument`
/// points to must stay valid while the child shares this memory.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn clone3(
    arguments: &libc::clone_args,
    enter: Entered,
    argument: *mut libc::c_void,
) -> io::Result<libc::c_long> {
    let result: libc::c_long;
    // SAFETY: registers that the kernel changes are declared; the child never comes back here.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") ptr::from_ref(arguments),
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") argument,
            in("r13") enter,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    outcome(result)
}

/// Calls clone3(2); the child calls `enter(argument)` on the stack that `arguments` names.
///
/// # Safety
///
/// The stack must be unused and large enough, `enter` must never return, and what `argument`
/// points to must stay valid while the child shares this memory.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn clone3(
    arguments: &libc::clone_args,
    enter: Entered,
    argument: *mut libc::c_void,
) -> io::Result<libc::c_long> {
    let result: libc::c_long;
    // SAFETY: registers that the kernel changes are declared; the child never comes back here.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") ptr::from_ref(arguments) => result,
            in("x1") size_of::<libc::clone_args>(),
            in("x20") argument,
            in("x21") enter,
        );
    }
    outcome(result)
}

fn outcome(result: libc::c_long) -> io::Result<libc::c_long> {
    if result >= 0 {
        return Ok(result);
    }
    let errno = i32::try_from(-result).unwrap_or(libc::EINVAL);
    Err(io::Error::from_raw_os_error(errno))
}
