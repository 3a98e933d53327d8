//! Making a process in new namespaces, without copying this one.
//!
//! The child shares the parent's memory until it executes a program, and the calling thread is
//! stopped meanwhile, as with vfork(2): nothing has to be copied, which for a large process is
//! most of the cost of a fork, and the child reports errors as plain values.
//!
//! Why a closure may run there, and may even allocate: the child is the calling thread's
//! continuation under another process id. It has a stack of its own, uses the thread's local
//! storage while the thread stands still, and sees all locks in the same memory as the other
//! threads of the parent, which go on running and release what they hold. After a plain fork
//! none of this would be true. Descriptors are the exception: the child has its own table.

#![expect(
    unsafe_code,
    reason = "clone3 and executing in its child have no safe form"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::clone3::{Stack, address, clone3};
use crate::signal::{BlockedSignals, reset_signals};
use crate::stub::{REPORT_FD, Stub};

/// Namespaces for a new process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces(u64);

impl Namespaces {
    /// Process ids, mounts, IPC and host name: what every container has of its own.
    pub const CONTAINER: Self = Self(flags(
        libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS,
    ));
}

/// What a new process is made with.
#[derive(Debug, Clone, Copy)]
pub struct CloneOptions<'a> {
    /// Its own namespaces.
    pub namespaces: Namespaces,
    /// The v2 control group that it starts in; the parent's when `None`.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// A process that was made.
#[derive(Debug)]
pub struct Child {
    /// Its id, as the parent sees it.
    pub pid: i32,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
}

/// How the life of a child without a program went.
#[derive(Debug)]
pub enum Cloned<E> {
    /// It executes a program, or is about to: the report tells.
    Executing(Child),
    /// The closure returned; the process is gone already.
    Failed(E),
    /// It died before it came that far, by a signal or a panic; it is gone already.
    Died,
}

/// The child's means to become another program.
#[derive(Debug)]
pub struct Launcher<'a> {
    stub: &'a Stub,
    report: BorrowedFd<'a>,
    /// Atomic, because the parent reads it when this process has become another program.
    executing: AtomicBool,
}

impl Launcher<'_> {
    /// Executes `path` with `arguments` and `environment`, and closes every descriptor above 2.
    /// All signals get their default action and are unblocked.
    ///
    /// Returns only when that cannot even be tried. An error of the execution itself goes to the
    /// report; see [`read_report`].
    pub fn exec(
        &self,
        path: &std::ffi::CStr,
        arguments: &[std::ffi::CString],
        environment: &[std::ffi::CString],
    ) -> io::Error {
        let pointers = |strings: &[std::ffi::CString]| -> Vec<*const libc::c_char> {
            strings
                .iter()
                .map(|string| string.as_ptr())
                .chain([ptr::null()])
                .collect()
        };
        let mut argv = vec![path.as_ptr()];
        argv.extend(pointers(arguments));
        let envp = pointers(environment);
        match self.become_stub(&argv, &envp) {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    fn become_stub(
        &self,
        argv: &[*const libc::c_char],
        envp: &[*const libc::c_char],
    ) -> io::Result<std::convert::Infallible> {
        let stub = duplicate_above(self.stub.as_raw_fd())?;
        let report = duplicate_above(self.report.as_raw_fd())?;
        // SAFETY: plain descriptor numbers; REPORT_FD is not owned by anything in this process,
        // whose table is its own.
        check(unsafe { libc::syscall(libc::SYS_dup3, report, REPORT_FD, 0) })?;
        let (first, last) = (REPORT_FD + 1, libc::c_uint::MAX);
        // SAFETY: only marks descriptors of this process's own table.
        check(unsafe {
            libc::syscall(
                libc::SYS_close_range,
                first,
                last,
                libc::CLOSE_RANGE_CLOEXEC,
            )
        })?;
        reset_signals();
        self.executing.store(true, Ordering::SeqCst);
        // SAFETY: both arrays end with a null pointer and point to strings that outlive the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_execveat,
                stub,
                c"".as_ptr(),
                argv.as_ptr(),
                envp.as_ptr(),
                libc::AT_EMPTY_PATH,
            )
        };
        self.executing.store(false, Ordering::SeqCst);
        check(result)?;
        Err(io::Error::from_raw_os_error(libc::ENOEXEC))
    }
}

/// Numbers that cannot collide with the standard streams or [`REPORT_FD`].
const FIRST_SAFE_FD: RawFd = 10;

fn duplicate_above(fd: RawFd) -> io::Result<RawFd> {
    // SAFETY: makes a new descriptor of one that the caller keeps open.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, FIRST_SAFE_FD) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(copy)
}

struct Entry<'a, F, E> {
    body: Option<F>,
    launcher: Launcher<'a>,
    outcome: Option<E>,
}

/// Makes a child process and runs `body` in it, while the calling thread waits until the child
/// executes a program with its [`Launcher`] or ends.
///
/// `body` shares all memory with the parent, but not the table of descriptors: what it opens
/// exists in the child only and must not be kept, what it closes stays open in the parent. It
/// must not start threads or wait for one. The error it returns is the caller's to keep.
/// `report` is the writing end of a pipe whose other end goes to [`read_report`].
pub fn clone_into<F, E>(
    options: &CloneOptions<'_>,
    stub: &Stub,
    report: BorrowedFd<'_>,
    body: F,
) -> io::Result<Cloned<E>>
where
    F: FnOnce(&Launcher<'_>) -> E,
{
    let stack = Stack::new()?;
    let mut entry = Entry {
        body: Some(body),
        launcher: Launcher {
            stub,
            report,
            executing: AtomicBool::new(false),
        },
        outcome: None,
    };
    let mut pidfd: RawFd = -1;
    // SAFETY: an all-zero clone_args asks for nothing.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = options.namespaces.0
        | flags(libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD)
        | CLONE_CLEAR_SIGHAND;
    arguments.pidfd = address(&raw mut pidfd);
    arguments.exit_signal = flags(libc::SIGCHLD);
    (arguments.stack, arguments.stack_size) = stack.extent();
    if let Some(cgroup) = options.cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // A handler of the parent must not run in the child, on the parent's memory.
    let blocked = BlockedSignals::all()?;
    // SAFETY: the stack is fresh and large, `entry` outlives the child's use of this memory
    // because CLONE_VFORK stops this thread until then, and `enter` never returns.
    let pid = unsafe { clone3(&arguments, enter::<F, E>, (&raw mut entry).cast()) };
    drop(blocked);
    let pid = pid?;
    // SAFETY: CLONE_PIDFD has stored a new descriptor in this process's table.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let child = Child {
        pid: i32::try_from(pid).map_err(io::Error::other)?,
        pidfd,
    };
    if let Some(error) = entry.outcome {
        wait(&child)?;
        return Ok(Cloned::Failed(error));
    }
    if !entry.launcher.executing.load(Ordering::SeqCst) {
        wait(&child)?;
        return Ok(Cloned::Died);
    }
    Ok(Cloned::Executing(child))
}

/// Waits for the outcome of a child's execution: `None` when its program runs.
///
/// Every other copy of the writing end must be closed, or this waits for ever.
pub fn read_report(report: OwnedFd) -> io::Result<Option<io::Error>> {
    let mut buffer = [0; 8];
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::read(&report, &mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    if filled < buffer.len() {
        return Ok(None);
    }
    // The stub writes the kernel's result: the negated error number.
    let errno = i64::from_ne_bytes(buffer).saturating_neg();
    let errno = i32::try_from(errno).map_err(io::Error::other)?;
    Ok(Some(io::Error::from_raw_os_error(errno)))
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with a code.
    Exited(i32),
    /// A signal killed it.
    Killed(i32),
}

/// Waits for the end of `child` and removes it from the process table; works once.
pub fn wait(child: &Child) -> io::Result<Ended> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::os::fd::AsFd as _;
    loop {
        match waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => {
                if let Some(code) = status.exit_status() {
                    return Ok(Ended::Exited(code));
                }
                return Ok(Ended::Killed(status.terminating_signal().unwrap_or(0)));
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Sends `signal` to a process; one that has ended and was not waited for yet ignores it.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info: *const libc::siginfo_t = ptr::null();
    // SAFETY: the descriptor is open and the kernel fills in the signal's information itself.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            no_info,
            0,
        )
    };
    check(result)?;
    Ok(())
}

const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Widens flags that the C headers declare as `int`; the top one may be the sign bit.
const fn flags(bits: i32) -> u64 {
    bits.cast_unsigned() as u64
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// The first function on the child's stack.
extern "C" fn enter<F, E>(entry: *mut libc::c_void) -> !
where
    F: FnOnce(&Launcher<'_>) -> E,
{
    let entry = entry.cast::<Entry<'_, F, E>>();
    // SAFETY: `clone_into` passes its own entry and stands still while this process uses it. It
    // is written through the pointer, so that the compiler knows it to be seen by others.
    unsafe {
        if let Some(body) = (*entry).body.take() {
            let outcome = body(&(*entry).launcher);
            (*entry).outcome = Some(outcome);
        }
    }
    loop {
        // SAFETY: ends this process only; nothing of the shared memory is torn down.
        unsafe { libc::syscall(libc::SYS_exit_group, 125) };
    }
}

#[cfg(test)]
mod tests;
