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

    /// Writes a line to stderr. What cannot be said is dropped: the exit code still tells.
    #[expect(
        clippy::unused_self,
        reason = "printing takes the value, so that a function that prints says so"
    )]
    pub(crate) fn talk(&mut self, text: &str) {
        let mut stderr = io::stderr().lock();
        drop(stderr.write_all(format!("{text}\n").as_bytes()));
    }
}

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
