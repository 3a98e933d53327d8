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

/// Gives every signal its default action and unblocks it, in a process whose handlers are its
/// own: also those that the parent ignores, as Rust programs ignore SIGPIPE.
pub(crate) fn reset_signals() {
    // SAFETY: `action` and `none` live across the calls. Signals that cannot be changed, and those
    // that the C library keeps to itself, are refused without effect.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=libc::SIGRTMAX() {
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}
