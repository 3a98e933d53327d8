//! A container in the foreground: started here, supervised here.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use strata::container::Container;
use strata::container::log::Log;
use strata::container::status::Supervisor;
use strata::container::supervise::{Supervised, Supervision, supervise};
use strata::ops::launch::{launch, record_end};
use strata::ops::remove::remove;
use sys::SignalQueue;

use super::background;
use super::error::{CommandError, Exit};
use super::output::stdin_is_terminal;
use super::run::streams;
use super::session::Session;

/// How a container is attached to this terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// It gets our input.
    pub(crate) stdin: bool,
    /// It gets the signals that we get.
    pub(crate) proxies_signals: bool,
}

/// Starts a container, passes streams and signals on until it ends, and returns its exit code.
pub(crate) fn run_attached(
    container: &Container,
    attachment: &Attachment,
    session: &mut Session,
) -> Result<Exit, CommandError> {
    let result = supervised(container, attachment, session);
    if container.record.auto_remove {
        remove(session.store()?, container)?;
    }
    background::tidy(session);
    let supervised = result?;
    if let Some(error) = supervised.log_error {
        session.out.talk(&format!(
            "the log of the container is not complete: {error}"
        ));
    }
    Ok(Exit(supervised.exit.exit_code()))
}

fn supervised(
    container: &Container,
    attachment: &Attachment,
    session: &Session,
) -> Result<Supervised, CommandError> {
    let engine = session.engine()?;
    let store = engine.store();
    let id = container.record.id.as_str();
    let (mut log, supervisor) = match container.record.auto_remove {
        true => (None, None),
        false => (
            Some(Log::open(&container.log_path(store))?),
            Some(Supervisor::announce(store, id)?),
        ),
    };
    // Signals are held back before there is a container that they could be meant for.
    let mut forwarded = vec![SignalQueue::WINDOW_CHANGED];
    if attachment.proxies_signals {
        forwarded.extend(SignalQueue::FORWARDED);
    }
    let signals = SignalQueue::new(&forwarded)?;
    let (theirs, ours) = streams(container, attachment.stdin)?;
    let mut launched = launch(engine, container, theirs).map_err(|error| {
        let exit = Exit(error.exit_code());
        CommandError::from(error).exit(exit)
    })?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let raw = match container.options.tty && attachment.stdin && stdin_is_terminal() {
        true => Some(RawMode::enter(stdin.as_fd())?),
        false => None,
    };
    let supervised = supervise(
        &mut launched.running,
        ours,
        Supervision {
            input: attachment.stdin.then(|| stdin.as_fd()),
            stdout: Some(stdout.as_fd()),
            stderr: Some(stderr.as_fd()),
            log: log.as_mut(),
            signals: Some(&signals),
            screen: container.options.tty.then(|| stdout.as_fd()),
        },
    )?;
    drop(raw);
    if !container.record.auto_remove {
        record_end(store, id, launched.started, supervised.exit)?;
    }
    drop(supervisor);
    Ok(supervised)
}

/// The terminal passes every key on; dropped, it is what it was.
struct RawMode<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> RawMode<'a> {
    fn enter(terminal: BorrowedFd<'a>) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(terminal, OptionalActions::Now, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        // A terminal that went away needs no mode.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}
