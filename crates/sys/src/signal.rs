//! Signals of the calling thread and of a process that is about to become another program.

#![expect(unsafe_code, reason = "rustix leaves signal actions to the C library")]

use std::io;

/// All signals of the calling thread are held back while this value lives.
#[derive(Debug)]
pub(crate) struct BlockedSignals {
    before: libc::sigset_t,
}

impl BlockedSignals {
    /// Blocks every signal that can be blocked.
    pub(crate) fn all() -> io::Result<Self> {
        // SAFETY: both sets live across the calls, which fill them.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            let mut before: libc::sigset_t = std::mem::zeroed();
            let result = libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            if result != 0 {
                return Err(io::Error::from_raw_os_error(result));
            }
            Ok(Self { before })
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set was filled by the kernel when this value was made.
        unsafe {
            libc::pthread_sigmask(
                libc::SIG_SETMASK,
                &raw const self.before,
                std::ptr::null_mut(),
            );
        }
    }
}

/// The kernel's form of an action, which differs from the C library's; all zero is the default.
#[repr(C)]
struct KernelAction([u64; 4]);

/// The size of the kernel's signal sets.
const SIGNAL_SET_SIZE: usize = 8;
const LAST_SIGNAL: i32 = 64;

/// Gives every signal its default action and unblocks it, in a process whose handlers are its
/// own: also those that the parent ignores, as Rust programs ignore SIGPIPE, and those that the
/// C library keeps to itself.
pub(crate) fn reset_signals() {
    let default = KernelAction([0; 4]);
    let none = 0_u64;
    let unwanted: *mut KernelAction = std::ptr::null_mut();
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: `default` lives across the call. SIGKILL and SIGSTOP are refused without effect.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const default,
                unwanted,
                SIGNAL_SET_SIZE,
            );
        }
    }
    // SAFETY: the set lives across the call and has the size that is passed.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            unwanted,
            SIGNAL_SET_SIZE,
        );
    }
}
