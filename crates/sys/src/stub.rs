//! The tiny program that stands between this binary and a container's program.
//!
//! A process that enters a container still has this binary as its executable, and a hostile
//! image can make it execute that once more (a program or interpreter named `/proc/self/exe`)
//! and so get hold of a descriptor that leads to the binary on the host, to overwrite it later
//! (CVE-2019-5736). Looking at the path beforehand is no remedy, because an interpreter is
//! resolved by the kernel, at its own time. So the child first executes a stub that lives in
//! sealed memory: from then on `/proc/self/exe` leads to the stub, which nobody can change.

#![expect(unsafe_code, reason = "the code is found between two labels")]

use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

/// Where the stub reports a failed execution, as eight bytes: the kernel's result.
pub(crate) const REPORT_FD: RawFd = 3;

/// The stub, ready to be executed. Its arguments are the path to execute and, after it, that
/// program's own arguments; the environment is passed on.
#[derive(Debug)]
pub struct Stub(OwnedFd);

impl Stub {
    /// Makes the stub in memory and seals it.
    pub fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = match memfd_create(c"strata-init", flags | MemfdFlags::EXEC) {
            // Kernels before 6.3 make every such file executable and do not know the flag.
            Err(Errno::INVAL) => memfd_create(c"strata-init", flags)?,
            result => result?,
        };
        let mut file = std::fs::File::from(fd);
        file.write_all(&image())?;
        let fd = OwnedFd::from(file);
        fcntl_add_seals(
            &fd,
            SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
        )?;
        Ok(Self(fd))
    }

    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Stub {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

const ELF_HEADER_SIZE: u16 = 64;
const PROGRAM_HEADER_SIZE: u16 = 56;
/// Above what `vm.mmap_min_addr` forbids, and aligned to the largest page of aarch64.
const LOAD_ADDRESS: u64 = 0x1_0000;

/// Returns an executable of one segment: two headers and the code.
fn image() -> Vec<u8> {
    let code = code();
    let headers = u64::from(ELF_HEADER_SIZE + PROGRAM_HEADER_SIZE);
    let size = headers + u64::try_from(code.len()).expect("the stub is short");
    let mut image = Vec::new();
    image.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2, MACHINE] {
        image.extend_from_slice(&half.to_le_bytes());
    }
    image.extend_from_slice(&1_u32.to_le_bytes());
    for word in [LOAD_ADDRESS + headers, u64::from(ELF_HEADER_SIZE), 0] {
        image.extend_from_slice(&word.to_le_bytes());
    }
    image.extend_from_slice(&0_u32.to_le_bytes());
    for half in [ELF_HEADER_SIZE, PROGRAM_HEADER_SIZE, 1, 0, 0, 0] {
        image.extend_from_slice(&half.to_le_bytes());
    }
    let (load, readable_and_executable) = (1_u32, 5_u32);
    image.extend_from_slice(&load.to_le_bytes());
    image.extend_from_slice(&readable_and_executable.to_le_bytes());
    for word in [0, LOAD_ADDRESS, LOAD_ADDRESS, size, size, 0x1_0000] {
        image.extend_from_slice(&word.to_le_bytes());
    }
    image.extend_from_slice(code);
    image
}

fn code() -> &'static [u8] {
    unsafe extern "C" {
        static strata_stub_begin: u8;
        static strata_stub_end: u8;
    }
    let (begin, end) = (&raw const strata_stub_begin, &raw const strata_stub_end);
    // SAFETY: the two labels enclose the assembly below, which is read-only data of this binary.
    unsafe { std::slice::from_raw_parts(begin, end.addr() - begin.addr()) }
}

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the stub is written for x86_64 and aarch64");

// fcntl(3, F_SETFD, FD_CLOEXEC); execve(argv[0], argv + 1, envp); write(3, &result, 8);
// exit_group(125). When the report is closed, the stub was executed by itself: that must not
// go on for ever, so it exits at once.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .rodata.strata_stub, \"a\", @progbits",
    ".globl strata_stub_begin, strata_stub_end",
    ".hidden strata_stub_begin, strata_stub_end",
    "strata_stub_begin:",
    "mov rbx, rsp",
    "mov eax, 72",
    "mov edi, 3",
    "mov esi, 2",
    "mov edx, 1",
    "syscall",
    "test rax, rax",
    "js 2f",
    "mov rdi, [rbx + 8]",
    "lea rsi, [rbx + 16]",
    "mov rcx, [rbx]",
    "lea rdx, [rbx + rcx * 8 + 16]",
    "mov eax, 59",
    "syscall",
    "push rax",
    "mov eax, 1",
    "mov edi, 3",
    "mov rsi, rsp",
    "mov edx, 8",
    "syscall",
    "2:",
    "mov eax, 231",
    "mov edi, 125",
    "syscall",
    "strata_stub_end:",
    ".popsection",
);

#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".pushsection .rodata.strata_stub, \"a\", @progbits",
    ".globl strata_stub_begin, strata_stub_end",
    ".hidden strata_stub_begin, strata_stub_end",
    "strata_stub_begin:",
    "mov x19, sp",
    "mov x8, #25",
    "mov x0, #3",
    "mov x1, #2",
    "mov x2, #1",
    "svc #0",
    "tbnz x0, #63, 2f",
    "ldr x0, [x19, #8]",
    "add x1, x19, #16",
    "ldr x3, [x19]",
    "add x2, x1, x3, lsl #3",
    "mov x8, #221",
    "svc #0",
    "str x0, [sp, #-16]!",
    "mov x8, #64",
    "mov x0, #3",
    "mov x1, sp",
    "mov x2, #8",
    "svc #0",
    "2:",
    "mov x8, #94",
    "mov x0, #125",
    "svc #0",
    "strata_stub_end:",
    ".popsection",
);
