//! Progress of a build, for whoever draws it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A step within one build; numbers are given in the order in which steps start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub usize);

/// The stream that a line of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The message of a [`Event::StepFailed`] that was ended because the build was.
pub const CANCELED: &str = "context canceled";

/// Something happened in a build. Every step that starts ends as done, cached or failed; steps
/// interleave when they run in parallel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Event {
    /// The plan is known: how many steps there will be in all.
    Planned {
        /// Steps, with the internal ones.
        steps: usize,
    },
    /// A step starts.
    StepStarted {
        /// The step.
        step: StepId,
        /// As docker shows it: `[2/6] WORKDIR /app`, `[internal] load build context`.
        name: String,
    },
    /// Part of a step has ended: `transferring context: 616B`, `writing image sha256:…`.
    Status {
        /// The step.
        step: StepId,
        /// What, in docker's words.
        text: String,
        /// How long it took.
        elapsed: Duration,
    },
    /// A line of output, without its end.
    Log {
        /// The step.
        step: StepId,
        /// Where it came from.
        stream: LogStream,
        /// The text; invalid UTF-8 is replaced.
        line: String,
        /// Time since the step started.
        elapsed: Duration,
    },
    /// The result of the step was there already.
    StepCached {
        /// The step.
        step: StepId,
    },
    /// The step has ended well.
    StepDone {
        /// The step.
        step: StepId,
        /// How long it took.
        elapsed: Duration,
    },
    /// The step has failed; the build fails with it.
    StepFailed {
        /// The step.
        step: StepId,
        /// In docker's words: what follows `ERROR: `.
        message: String,
        /// How long it took.
        elapsed: Duration,
    },
    /// The Dockerfile could be better.
    Warning {
        /// The rule: `FromAsCasing`.
        rule: String,
        /// What is wrong.
        message: String,
        /// The line, from 1.
        line: usize,
        /// The page about the rule.
        #[serde(default)]
        url: String,
    },
}
