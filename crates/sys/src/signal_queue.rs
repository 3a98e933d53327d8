//! Signals that are read like input instead of interrupting the process.

#![expect(unsafe_code, reason = "rustix has no signalfd")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Signals held back from the calling thread, and from threads that it makes later, to be read
/// one at a time. The descriptor is readable when one waits. Dropping it lets them through again.
#[derive(Debug)]
pub struct SignalQueue {
    file: OwnedFd,
    before: libc::sigset_t,
}

impl SignalQueue {
    /// Terminal interrupt, hang-up, termination and the other signals that people send to a
    /// program to have it passed on.
    pub const FORWARDED: &'static [i32] = &[
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGCONT,
        libc::SIGTSTP,
        libc::SIGIO,
        libc::SIGPWR,
        libc::SIGVTALRM,
    ];

    /// The terminal has another size.
    pub const WINDOW_CHANGED: i32 = libc::SIGWINCH;

    /// Holds `signals` back and queues them; numbers that are no signals are left out.
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        // SAFETY: the sets live across the calls, which fill them; the descriptor is new and
        // owned by nobody else.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in signals {
                libc::sigaddset(&raw mut set, *signal);
            }
            let file = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if file < 0 {
                return Err(io::Error::last_os_error());
            }
            let file = OwnedFd::from_raw_fd(file);
            let mut before: libc::sigset_t = std::mem::zeroed();
            let result = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before);
            if result != 0 {
                return Err(io::Error::from_raw_os_error(result));
            }
            Ok(Self { file, before })
        }
    }

    /// Takes the next signal, or `None` when none waits.
    pub fn next(&self) -> io::Result<Option<i32>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        // SAFETY: the buffer is as long as it is said to be.
        let length = unsafe {
            libc::read(
                self.file.as_raw_fd(),
                info.as_mut_ptr().cast(),
                size_of::<libc::signalfd_siginfo>(),
            )
        };
        if length < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock => Ok(None),
                _ => Err(error),
            };
        }
        // SAFETY: a read from a signalfd that succeeds fills the whole structure.
        let info = unsafe { info.assume_init() };
        Ok(i32::try_from(info.ssi_signo).ok())
    }
}

impl AsFd for SignalQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for SignalQueue {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_in_turn_and_do_not_interrupt() {
        let queue = SignalQueue::new(&[libc::SIGUSR1, libc::SIGWINCH]).expect("a queue");
        assert_eq!(queue.next().expect("reads"), None);
        // SAFETY: raising a signal that is blocked in this thread has no effect but to queue it.
        unsafe {
            libc::raise(libc::SIGUSR1);
        }
        assert_eq!(queue.next().expect("reads"), Some(libc::SIGUSR1));
        assert_eq!(queue.next().expect("reads"), None);
    }
}
