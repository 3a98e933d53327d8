//! Numbers for steps, and their events.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::{Event, LogStream, StepId};

/// Where the events of a build go.
pub(crate) struct Progress<'a> {
    sink: &'a (dyn Fn(Event) + Sync),
    next: AtomicUsize,
}

impl<'a> Progress<'a> {
    /// Sends events to `sink`.
    pub(crate) fn new(sink: &'a (dyn Fn(Event) + Sync)) -> Self {
        Self {
            sink,
            next: AtomicUsize::new(0),
        }
    }

    /// Sends an event that belongs to no step.
    pub(crate) fn send(&self, event: Event) {
        (self.sink)(event);
    }

    /// Starts a step.
    pub(crate) fn start(&self, name: &str) -> Step<'a> {
        let id = StepId(self.next.fetch_add(1, Ordering::Relaxed));
        self.send(Event::StepStarted {
            step: id,
            name: name.to_owned(),
        });
        Step {
            sink: self.sink,
            id,
            started: Instant::now(),
        }
    }
}

/// A step that has started; exactly one of `cached`, `done` and `failed` ends it.
pub(crate) struct Step<'a> {
    sink: &'a (dyn Fn(Event) + Sync),
    id: StepId,
    started: Instant,
}

impl Step<'_> {
    /// Returns the time since it started.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Sends a line of output.
    pub(crate) fn log(&self, stream: LogStream, line: &[u8]) {
        (self.sink)(Event::Log {
            step: self.id,
            stream,
            line: String::from_utf8_lossy(line).into_owned(),
            elapsed: self.elapsed(),
        });
    }

    /// Tells that a part has ended that took `elapsed`.
    pub(crate) fn status(&self, text: String, elapsed: Duration) {
        (self.sink)(Event::Status {
            step: self.id,
            text,
            elapsed,
        });
    }

    /// The result was there.
    pub(crate) fn cached(self) {
        (self.sink)(Event::StepCached { step: self.id });
    }

    /// It has ended well.
    pub(crate) fn done(self) {
        (self.sink)(Event::StepDone {
            step: self.id,
            elapsed: self.elapsed(),
        });
    }

    /// It has failed.
    pub(crate) fn failed(self, message: String) {
        (self.sink)(Event::StepFailed {
            step: self.id,
            message,
            elapsed: self.elapsed(),
        });
    }
}
