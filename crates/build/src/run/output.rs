//! The output of a step, line by line, while it runs.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::LogStream;
use crate::progress::Step;

/// How often a wait is interrupted to see whether the user wants to end.
const CANCEL_INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};
/// How often one stream is read before the other, and the wish to end, are looked at.
const READS_IN_A_ROW: usize = 64;
/// A longer line is passed on in parts.
const MAX_LINE: usize = 64 << 10;

/// Why following ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Followed {
    /// The process ended.
    Ended,
    /// It should be killed.
    Canceled,
}

/// One stream of a process.
struct Lines {
    file: File,
    stream: LogStream,
    partial: Vec<u8>,
    is_open: bool,
    received: u64,
}

/// The streams of a process.
pub(super) struct Output {
    streams: [Lines; 2],
}

impl Output {
    /// Reads the ends of two pipes.
    pub(super) fn new(stdout: OwnedFd, stderr: OwnedFd) -> io::Result<Self> {
        let lines = |fd: OwnedFd, stream| {
            rustix::io::ioctl_fionbio(&fd, true)?;
            Ok::<_, io::Error>(Lines {
                file: File::from(fd),
                stream,
                partial: Vec::new(),
                is_open: true,
                received: 0,
            })
        };
        Ok(Self {
            streams: [
                lines(stdout, LogStream::Stdout)?,
                lines(stderr, LogStream::Stderr)?,
            ],
        })
    }

    /// Passes lines on until `process` ends or `is_canceled` says so.
    pub(super) fn follow(
        &mut self,
        process: BorrowedFd<'_>,
        step: &Step<'_>,
        is_canceled: &dyn Fn() -> bool,
    ) -> io::Result<Followed> {
        loop {
            if is_canceled() {
                return Ok(Followed::Canceled);
            }
            let mut fds = vec![PollFd::new(&process, PollFlags::IN)];
            for lines in self.streams.iter().filter(|lines| lines.is_open) {
                fds.push(PollFd::from_borrowed_fd(lines.file.as_fd(), PollFlags::IN));
            }
            match poll(&mut fds, Some(&CANCEL_INTERVAL)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let has_ended = !fds[0].revents().is_empty();
            drop(fds);
            self.read(step)?;
            if has_ended {
                return Ok(Followed::Ended);
            }
        }
    }

    /// Passes on what is left, once no process holds the other ends.
    pub(super) fn finish(mut self, step: &Step<'_>) -> io::Result<()> {
        while self.streams.iter().any(|lines| lines.is_open) {
            let before = self.streams.each_ref().map(|lines| lines.received);
            self.read(step)?;
            // A process that left the container can hold the other end.
            if before == self.streams.each_ref().map(|lines| lines.received) {
                break;
            }
        }
        for lines in &mut self.streams {
            if !lines.partial.is_empty() {
                step.log(lines.stream, &lines.partial);
            }
        }
        Ok(())
    }

    fn read(&mut self, step: &Step<'_>) -> io::Result<()> {
        for lines in self.streams.iter_mut().filter(|lines| lines.is_open) {
            lines.read(step)?;
        }
        Ok(())
    }
}

impl Lines {
    fn read(&mut self, step: &Step<'_>) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        // A program that never stops printing must not keep the build from being ended.
        for _ in 0..READS_IN_A_ROW {
            match self.file.read(&mut buffer) {
                Ok(0) => {
                    self.is_open = false;
                    return Ok(());
                }
                Ok(length) => {
                    self.received += 1;
                    self.push(&buffer[..length], step);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn push(&mut self, mut bytes: &[u8], step: &Step<'_>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(&bytes[..end]);
            let line = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
            step.log(self.stream, line);
            self.partial.clear();
            bytes = &bytes[end + 1..];
        }
        self.partial.extend_from_slice(bytes);
        if self.partial.len() > MAX_LINE {
            step.log(self.stream, &self.partial);
            self.partial.clear();
        }
    }
}
