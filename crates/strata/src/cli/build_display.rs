//! Drawing a build while it runs, and ending it when the user asks for that.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use build::{BuildError, BuildOptions, Built, Event, Location};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use store::Timestamp;
use strata::Engine;
use strata::ops::image_build::{Conversation, ImageBuildError, Surroundings, build_image};
use sys::SignalQueue;

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

/// Milliseconds between two frames.
const FRAME: i64 = 100;

/// Builds, and shows it on `display`. A signal that asks the program to end ends the build.
pub(crate) fn watch(
    engine: &Engine,
    options: &BuildOptions,
    surroundings: &mut Surroundings,
    display: &mut BuildDisplay,
) -> io::Result<Result<Built, ImageBuildError>> {
    let is_drawn = matches!(display, BuildDisplay::Terminal(_));
    let display = Mutex::new(display);
    let cancel = AtomicBool::new(false);
    // Held back before the build makes threads, so that none of them is interrupted.
    let signals = SignalQueue::new(SignalQueue::FORWARDED)?;
    let (ended, ending) = pipe_with(PipeFlags::CLOEXEC)?;
    let frame = is_drawn.then_some(Timespec {
        tv_sec: 0,
        tv_nsec: FRAME * 1_000_000,
    });
    thread::scope(|scope| {
        let watcher = || {
            loop {
                let mut polled = [
                    PollFd::new(&ended, PollFlags::IN),
                    PollFd::new(&signals, PollFlags::IN),
                ];
                let polling = poll(&mut polled, frame.as_ref());
                if polling.is_err() || !polled[0].revents().is_empty() {
                    return;
                }
                while let Ok(Some(_)) = signals.next() {
                    cancel.store(true, Ordering::Relaxed);
                }
                lock(&display).redraw();
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
        Ok(built)
    })
}

fn lock<'a, 'b>(
    display: &'a Mutex<&'b mut BuildDisplay>,
) -> std::sync::MutexGuard<'a, &'b mut BuildDisplay> {
    display.lock().unwrap_or_else(PoisonError::into_inner)
}
