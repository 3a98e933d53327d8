//! The time from a container's start to its end: its streams, its log, signals, the terminal.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime::{Exit, Running, Stdio, WaitError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use sys::SignalQueue;

use super::log::{Log, Stream};

const BUFFER: usize = 64 << 10;

/// Buffers that a pipe can hold at the end: the largest pipe has a megabyte.
const MAX_LEFT: usize = (1 << 20) / BUFFER + 1;

/// As often as docker's client is asked to end before it does so by force.
const PATIENCE: u32 = 3;

/// Where a container's streams end on this side.
#[derive(Debug)]
pub enum Ends {
    /// The container has this process's own streams.
    Direct,
    /// Pipes.
    Pipes {
        /// Written to by us; `None` when the container has no input.
        stdin: Option<OwnedFd>,
        /// Read by us.
        stdout: OwnedFd,
        /// Read by us.
        stderr: OwnedFd,
    },
    /// The container's terminal.
    Terminal,
}

/// Whether a container gets input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// It reads what we write.
    Open,
    /// It reads nothing.
    Closed,
}

impl Ends {
    /// Makes pipes: the container's ends, and ours.
    pub fn pipes(input: Input) -> io::Result<(Stdio, Self)> {
        let (stdout, stdout_in) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, stderr_in) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stdin_out, stdin) = match input {
            Input::Open => {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
                (Some(read), Some(write))
            }
            Input::Closed => (None, None),
        };
        let theirs = Stdio::Streams {
            stdin: stdin_out,
            stdout: stdout_in,
            stderr: stderr_in,
        };
        let ours = Self::Pipes {
            stdin,
            stdout,
            stderr,
        };
        Ok((theirs, ours))
    }
}

/// What is done with a container while it runs.
#[derive(Debug, Default)]
pub struct Supervision<'a> {
    /// Passed on to the container's input.
    pub input: Option<BorrowedFd<'a>>,
    /// Gets what the container prints to its standard output, or to its terminal.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Gets what the container prints to its standard error.
    pub stderr: Option<BorrowedFd<'a>>,
    /// Keeps what the container prints.
    pub log: Option<&'a mut Log>,
    /// Signals that are passed on to the container.
    pub signals: Option<&'a SignalQueue>,
    /// The terminal whose size the container's terminal follows.
    pub screen: Option<BorrowedFd<'a>>,
}

/// How a supervised container ended.
#[derive(Debug)]
pub struct Supervised {
    /// How its first process ended.
    pub exit: Exit,
    /// Why its log is not complete.
    pub log_error: Option<io::Error>,
}

/// Why a container cannot be supervised any more; it is killed.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// Waiting for input or output failed.
    #[error("cannot wait for the streams of the container")]
    Streams(#[source] io::Error),
    /// Waiting for the end failed.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// One output of the container.
struct Channel<'a> {
    /// `None` once it has ended.
    from: Option<OwnedFd>,
    to: Option<BorrowedFd<'a>>,
    stream: Stream,
}

/// What can become ready.
#[derive(Clone, Copy)]
enum Source {
    End,
    Signal,
    Output(usize),
    Typed,
    Input,
}

struct Supervisor<'a> {
    channels: Vec<Channel<'a>>,
    /// The container's input, while it takes any.
    sink: Option<OwnedFd>,
    /// Where the input comes from, until its end.
    typed: Option<BorrowedFd<'a>>,
    pending: Vec<u8>,
    log: Option<&'a mut Log>,
    log_error: Option<io::Error>,
    impatience: u32,
}

/// Passes streams and signals on until the container ends.
pub fn supervise(
    running: &mut Running,
    ends: Ends,
    supervision: Supervision<'_>,
) -> Result<Supervised, SuperviseError> {
    let (signals, screen) = (supervision.signals, supervision.screen);
    let mut supervisor = open(running, ends, supervision).map_err(SuperviseError::Streams)?;
    while !supervisor.turn(running, signals, screen)? {}
    let exit = running.wait()?;
    supervisor.drain();
    let mut log_error = supervisor.log_error;
    if let Some(log) = supervisor.log
        && let Err(error) = log.flush()
    {
        log_error = log_error.or(Some(error));
    }
    Ok(Supervised { exit, log_error })
}

fn open<'a>(
    running: &Running,
    ends: Ends,
    supervision: Supervision<'a>,
) -> io::Result<Supervisor<'a>> {
    let (outputs, sink) = match ends {
        Ends::Direct => (Vec::new(), None),
        Ends::Pipes {
            stdin,
            stdout,
            stderr,
        } => (
            vec![
                (stdout, supervision.stdout, Stream::Stdout),
                (stderr, supervision.stderr, Stream::Stderr),
            ],
            stdin,
        ),
        Ends::Terminal => match running.terminal() {
            Some(terminal) => {
                let master = terminal.master();
                (
                    vec![(
                        master.try_clone_to_owned()?,
                        supervision.stdout,
                        Stream::Stdout,
                    )],
                    Some(master.try_clone_to_owned()?),
                )
            }
            None => (Vec::new(), None),
        },
    };
    let mut channels = Vec::with_capacity(outputs.len());
    for (from, to, stream) in outputs {
        set_nonblocking(&from)?;
        let from = Some(from);
        channels.push(Channel { from, to, stream });
    }
    if let Some(sink) = &sink {
        set_nonblocking(sink)?;
    }
    Ok(Supervisor {
        channels,
        typed: supervision.input.filter(|_| sink.is_some()),
        sink,
        pending: Vec::new(),
        log: supervision.log,
        log_error: None,
        impatience: 0,
    })
}

impl Supervisor<'_> {
    /// Waits until something is ready and deals with it; true when the container has ended.
    fn turn(
        &mut self,
        running: &Running,
        signals: Option<&SignalQueue>,
        screen: Option<BorrowedFd<'_>>,
    ) -> Result<bool, SuperviseError> {
        let ready = self.wait(running, signals)?;
        let mut has_ended = false;
        for source in ready {
            match source {
                Source::End => has_ended = true,
                Source::Signal => {
                    if let Some(signals) = signals {
                        self.pass_signals(running, signals, screen)?;
                    }
                }
                Source::Output(index) => drop(self.pass_output(index)),
                Source::Typed => self.read_input(),
                Source::Input => self.write_input(),
            }
        }
        Ok(has_ended)
    }

    fn wait(
        &self,
        running: &Running,
        signals: Option<&SignalQueue>,
    ) -> Result<Vec<Source>, SuperviseError> {
        let pidfd = running.pidfd();
        let mut sources = vec![Source::End];
        let mut polled = vec![PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
        if let Some(signals) = signals {
            sources.push(Source::Signal);
            polled.push(PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN));
        }
        for (index, channel) in self.channels.iter().enumerate() {
            if let Some(from) = &channel.from {
                sources.push(Source::Output(index));
                polled.push(PollFd::new(from, PollFlags::IN));
            }
        }
        match (&self.typed, &self.sink) {
            (_, Some(sink)) if !self.pending.is_empty() => {
                sources.push(Source::Input);
                polled.push(PollFd::new(sink, PollFlags::OUT));
            }
            (Some(typed), _) => {
                sources.push(Source::Typed);
                polled.push(PollFd::from_borrowed_fd(*typed, PollFlags::IN));
            }
            (None, _) => {}
        }
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(SuperviseError::Streams(error.into())),
        }
        let ready = sources.into_iter().zip(&polled);
        Ok(ready
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|(source, _)| source)
            .collect())
    }

    fn pass_signals(
        &mut self,
        running: &Running,
        signals: &SignalQueue,
        screen: Option<BorrowedFd<'_>>,
    ) -> Result<(), SuperviseError> {
        while let Some(signal) = signals.next().map_err(SuperviseError::Streams)? {
            if signal == SignalQueue::WINDOW_CHANGED {
                if let (Some(terminal), Some((rows, columns))) =
                    (running.terminal(), screen.and_then(size))
                {
                    terminal
                        .resize(rows, columns)
                        .map_err(SuperviseError::Streams)?;
                }
                continue;
            }
            let ends = [rustix::process::Signal::INT, rustix::process::Signal::TERM];
            if ends.iter().any(|end| end.as_raw() == signal) {
                self.impatience += 1;
            }
            // The first process of a container ignores signals that it has no handler for.
            if self.impatience >= PATIENCE {
                running.signal(rustix::process::Signal::KILL.as_raw())?;
            } else {
                running.signal(signal)?;
            }
        }
        Ok(())
    }

    /// Passes on what one output holds; false when it holds nothing.
    fn pass_output(&mut self, index: usize) -> bool {
        let mut buffer = [0; BUFFER];
        let channel = &mut self.channels[index];
        let Some(from) = &channel.from else {
            return false;
        };
        let length = match rustix::io::read(from, &mut buffer) {
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return false,
            // A terminal whose other side is closed answers EIO.
            Err(_) => 0,
        };
        if length == 0 {
            channel.from = None;
            return false;
        }
        let bytes = &buffer[..length];
        // Kept before it is shown: what someone has seen is in the log.
        if let (Some(log), None) = (&mut self.log, &self.log_error)
            && let Err(error) = log.write(channel.stream, bytes)
        {
            self.log_error = Some(error);
        }
        if let Some(to) = channel.to
            && write_fully(to, bytes).is_err()
        {
            // Nobody listens: the container shall learn it as from a closed pipe.
            channel.from = None;
        }
        true
    }

    fn read_input(&mut self) {
        let Some(typed) = self.typed else { return };
        let mut buffer = [0; BUFFER];
        match rustix::io::read(typed, &mut buffer) {
            Ok(0) => self.end_input(),
            Ok(length) => {
                self.pending.extend_from_slice(&buffer[..length]);
                self.write_input();
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.end_input(),
        }
    }

    fn write_input(&mut self) {
        let Some(sink) = &self.sink else { return };
        match rustix::io::write(sink, &self.pending) {
            Ok(length) => drop(self.pending.drain(..length)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.pending.clear();
                self.end_input();
            }
        }
    }

    fn end_input(&mut self) {
        self.typed = None;
        self.sink = None;
    }

    /// Takes what is still in the pipes. A descriptor that left the container keeps a pipe open
    /// after its end, so nothing is waited for.
    fn drain(&mut self) {
        for index in 0..self.channels.len() {
            for _ in 0..MAX_LEFT {
                if !self.pass_output(index) {
                    break;
                }
            }
        }
    }
}

/// Returns the rows and columns of a terminal.
pub fn size(terminal: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    Some((size.ws_row, size.ws_col))
}

fn set_nonblocking(file: &OwnedFd) -> io::Result<()> {
    fcntl_setfl(file, fcntl_getfl(file)? | OFlags::NONBLOCK)?;
    Ok(())
}

/// Another program may have made our output non-blocking: wait then.
fn write_fully(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut polled = [PollFd::from_borrowed_fd(to, PollFlags::OUT)];
                poll(&mut polled, None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
