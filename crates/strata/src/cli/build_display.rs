//! Drawing a build while it runs, and ending it when the user asks for that.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use build::{BuildError, BuildOptions, Built, Event, Location};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use store::Timestamp;
use strata::Engine;
use strata::ops::image_build::{Conversation, ImageBuildError, Surroundings, build_image};
use sys::SignalQueue;

use super::error::Exit;
use super::output::{Channel, stderr_is_terminal};
use super::progress::{BuildPlain, BuildRaw, BuildTerminal, Colour, Size};

/// How a build is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Not at all.
    Quiet,
    /// As lines.
    Plain,
    /// As JSON for programs.
    Raw,
    /// Drawn over itself.
    Terminal(Colour),
}

impl Style {
    /// On a terminal drawn, else as lines.
    pub(crate) fn auto(no_color: bool) -> Self {
        match stderr_is_terminal() {
            true => Self::terminal(no_color),
            false => Self::Plain,
        }
    }

    pub(crate) fn terminal(no_color: bool) -> Self {
        Self::Terminal(match no_color {
            true => Colour::Off,
            false => Colour::On,
        })
    }
}

/// A build as it is shown.
#[derive(Debug)]
pub(crate) enum BuildDisplay {
    Quiet,
    Plain(BuildPlain),
    Raw(BuildRaw),
    Terminal(BuildTerminal),
}

impl BuildDisplay {
    pub(crate) fn new(style: Style) -> Self {
        match style {
            Style::Quiet => Self::Quiet,
            Style::Plain => {
                Channel::Stderr.write(BuildPlain::heading());
                Self::Plain(BuildPlain::default())
            }
            Style::Raw => Self::Raw(BuildRaw::default()),
            Style::Terminal(colour) => Self::Terminal(BuildTerminal::new(colour)),
        }
    }

    fn note(&mut self, event: &Event) {
        match self {
            Self::Quiet => {}
            Self::Plain(progress) => Channel::Stderr.write(&progress.lines(event)),
            Self::Raw(progress) => {
                Channel::Stderr.write(&progress.line(Timestamp::now(), event));
            }
            Self::Terminal(progress) => progress.note(event),
        }
    }

    fn redraw(&mut self) {
        if let Self::Terminal(progress) = self {
            Channel::Stderr.write(&progress.frame(screen()));
        }
    }

    /// Shows the end of a build that succeeded.
    pub(crate) fn succeed(&mut self) {
        match self {
            Self::Quiet | Self::Raw(_) => {}
            Self::Plain(progress) => Channel::Stderr.write(&progress.summary()),
            Self::Terminal(progress) => Channel::Stderr.write(&progress.last_frame(screen())),
        }
    }

    /// Shows the end of a build that was ended.
    pub(crate) fn cancel(&mut self) {
        if let Self::Terminal(progress) = self {
            Channel::Stderr.write(&progress.broken_frame(screen()));
        }
    }

    /// Shows where a build failed: the step and its last output, the lines of the Dockerfile.
    pub(crate) fn fail(&mut self, error: &BuildError) {
        let mut text = String::new();
        match self {
            Self::Quiet | Self::Raw(_) => {}
            Self::Plain(progress) => {
                text.extend(error.step.as_deref().map(|step| progress.failure(step)));
            }
            Self::Terminal(progress) => {
                text.push_str(&progress.broken_frame(screen()));
                text.extend(error.step.as_deref().map(|step| progress.failure(step)));
            }
        }
        if let Some(place) = &error.location {
            text.push_str(&place.excerpt);
            text.push_str(&pointer(place));
        }
        if let Some(hint) = error.hint() {
            let hint: String = hint.chars().map(visible).collect();
            text.push_str(&format!("hint: {hint}\n"));
        }
        Channel::Stderr.write(&text);
    }
}

/// Names the place below docker's box, which has no column.
fn pointer(place: &Location) -> String {
    let file: String = place.file.chars().flat_map(char::escape_default).collect();
    format!("at {file}:{}:{}\n", place.line, place.column)
}

/// A hint may hold words of the Dockerfile, whose control characters must not reach a terminal.
fn visible(c: char) -> char {
    if c.is_control() {
        char::REPLACEMENT_CHARACTER
    } else {
        c
    }
}

fn screen() -> Size {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    let (rows, columns) = size.map_or((0, 0), |size| (size.ws_row, size.ws_col));
    // A terminal that does not know its size says 0.
    let known = |length: u16, default| match length {
        0 => default,
        length => usize::from(length),
    };
    Size {
        rows: known(rows, 24),
        columns: known(columns, 80),
    }
}

/// The time between two frames.
const FRAME: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// How a build ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// With an image.
    Built(Box<Built>),
    /// With an error.
    Failed(ImageBuildError),
    /// Because a signal asked for it.
    Canceled,
}

/// How long a build has to end when a signal asks for it. Then, or with the next signal, the program
/// ends as it is: the kernel takes its containers along.
const PATIENCE: Duration = Duration::from_secs(2);

/// Builds, and shows it on `display`. A signal that asks the program to end ends the build.
pub(crate) fn watch(
    engine: &Engine,
    options: &BuildOptions,
    surroundings: &mut Surroundings,
    display: &mut BuildDisplay,
) -> io::Result<Ended> {
    let is_drawn = matches!(display, BuildDisplay::Terminal(_));
    let display = Mutex::new(display);
    let cancel = AtomicBool::new(false);
    // Held back before the build makes threads, so that none of them is interrupted.
    let signals = SignalQueue::new(SignalQueue::FORWARDED)?;
    let (ended, ending) = pipe_with(PipeFlags::CLOEXEC)?;
    let frame = is_drawn.then_some(FRAME);
    thread::scope(|scope| {
        let watcher = || {
            let mut asked: Option<Instant> = None;
            loop {
                let mut polled = [
                    PollFd::new(&ended, PollFlags::IN),
                    PollFd::new(&signals, PollFlags::IN),
                ];
                let timeout = match asked {
                    None => frame,
                    Some(_) => Some(FRAME),
                };
                let polling = poll(&mut polled, timeout.as_ref());
                if polling.is_err() || !polled[0].revents().is_empty() {
                    return;
                }
                while let Ok(Some(_)) = signals.next() {
                    if asked.is_some() {
                        give_up();
                    }
                    cancel.store(true, Ordering::Relaxed);
                    asked = Some(Instant::now());
                }
                if asked.is_some_and(|asked| asked.elapsed() > PATIENCE) {
                    give_up();
                }
                // Nobody may be reading, and then whoever writes has the lock.
                if asked.is_none() {
                    lock(&display).redraw();
                }
            }
        };
        let watcher = scope.spawn(watcher);
        let built = build_image(
            engine,
            options,
            surroundings,
            &Conversation {
                cancel: &cancel,
                progress: &|event| lock(&display).note(&event),
            },
        );
        drop(ending);
        drop(watcher.join());
        Ok(match built {
            Ok(built) => Ended::Built(Box::new(built)),
            Err(_) if cancel.load(Ordering::Relaxed) => Ended::Canceled,
            Err(error) => Ended::Failed(error),
        })
    })
}

/// Ends the program in the middle of what it does.
#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "the thread that could return waits for something that does not end"
)]
fn give_up() -> ! {
    Channel::Stderr.write(&format!("ERROR: failed to build: {SOLVE_CANCELED}\n"));
    std::process::exit(i32::from(Exit::CANCELED.0))
}

/// docker's words for a build that a signal ended.
pub(crate) const SOLVE_CANCELED: &str = "failed to solve: Canceled: context canceled";

fn lock<'a, 'b>(
    display: &'a Mutex<&'b mut BuildDisplay>,
) -> std::sync::MutexGuard<'a, &'b mut BuildDisplay> {
    display.lock().unwrap_or_else(PoisonError::into_inner)
}
