//! The one place that prints: stdout is data, stderr is talk.

use std::io::{self, IsTerminal as _, Write as _};

/// The two streams. Data is written as it comes, whole lines at a time.
#[derive(Debug, Default)]
pub(crate) struct Output;

impl Output {
    /// Writes `text` to stdout as it is.
    #[expect(
        clippy::unused_self,
        reason = "printing takes the value, so that a function that prints says so"
    )]
    pub(crate) fn data(&mut self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// Writes a line to stdout.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        self.data(&format!("{text}\n"))
    }

    /// Writes `text` to stderr as it is. What cannot be said is dropped: the exit code still tells.
    #[expect(
        clippy::unused_self,
        reason = "printing takes the value, so that a function that prints says so"
    )]
    pub(crate) fn remark(&mut self, text: &str) {
        let mut stderr = io::stderr().lock();
        drop(stderr.write_all(text.as_bytes()));
    }

    /// Writes a line to stderr.
    pub(crate) fn talk(&mut self, text: &str) {
        self.remark(&format!("{text}\n"));
    }
}

/// A stream that progress is drawn on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Stdout,
    Stderr,
}

impl Channel {
    /// Writes `text`. What cannot be shown of progress is dropped: the work goes on.
    pub(crate) fn write(self, text: &str) {
        let mut out = Output;
        match self {
            Self::Stdout => drop(out.data(text)),
            Self::Stderr => out.remark(text),
        }
    }

    /// Returns the columns of the terminal, if it is one.
    pub(crate) fn columns(self) -> Option<usize> {
        let (is_terminal, size) = match self {
            Self::Stdout => (
                stdout_is_terminal(),
                rustix::termios::tcgetwinsize(io::stdout()),
            ),
            Self::Stderr => (
                stderr_is_terminal(),
                rustix::termios::tcgetwinsize(io::stderr()),
            ),
        };
        let columns = size.map_or(0, |size| usize::from(size.ws_col));
        is_terminal.then_some(if columns == 0 {
            DEFAULT_COLUMNS
        } else {
            columns
        })
    }
}

/// The width of a terminal that does not tell.
const DEFAULT_COLUMNS: usize = 80;

/// Tells whether stdout is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Tells whether stderr is a terminal.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Tells whether stdin is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}
