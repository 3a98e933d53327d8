//! The progress of a build as lines, as BuildKit's `--progress=plain` writes it.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use build::{CANCELED, Event, StepId};

/// How many lines of a failed step's output are shown again at the end.
const TAIL: usize = 20;

/// Turns events into lines.
#[derive(Debug, Default)]
pub(crate) struct BuildPlain {
    steps: HashMap<StepId, Step>,
    /// The step whose lines were written last, and whether it goes on.
    current: Option<(StepId, bool)>,
    warnings: Vec<String>,
}

#[derive(Debug)]
struct Step {
    number: usize,
    name: String,
    tail: VecDeque<String>,
}

impl BuildPlain {
    /// Returns what docker writes before the first step.
    pub(crate) fn heading() -> &'static str {
        "#0 building with \"default\" instance using docker driver\n"
    }

    /// Returns the lines that tell `event`.
    pub(crate) fn lines(&mut self, event: &Event) -> String {
        match event {
            Event::Planned { .. } => String::new(),
            Event::StepStarted { step, name } => {
                let number = self.steps.len() + 1;
                let started = Step {
                    number,
                    name: name.clone(),
                    tail: VecDeque::new(),
                };
                self.steps.insert(*step, started);
                self.line(*step, None, true)
            }
            Event::Status {
                step,
                text,
                elapsed,
            } => {
                let status = format!("{text}{} done", tenths(*elapsed));
                self.line(*step, Some(&status), true)
            }
            Event::Log {
                step,
                line,
                elapsed,
                ..
            } => {
                let line = format!("{:.3} {line}", elapsed.as_secs_f64());
                let text = self.line(*step, Some(&line), true);
                if let Some(step) = self.steps.get_mut(step) {
                    if step.tail.len() == TAIL {
                        step.tail.pop_front();
                    }
                    step.tail.push_back(line);
                }
                text
            }
            Event::StepCached { step } => self.line(*step, Some("CACHED"), false),
            Event::StepDone { step, elapsed } => {
                let done = format!("DONE {:.1}s", elapsed.as_secs_f64());
                self.line(*step, Some(&done), false)
            }
            Event::StepFailed { step, message, .. } if message == CANCELED => {
                self.line(*step, Some("CANCELED"), false)
            }
            Event::StepFailed { step, message, .. } => {
                self.line(*step, Some(&format!("ERROR: {message}")), false)
            }
            Event::Warning {
                rule,
                message,
                line,
                ..
            } => {
                let warning = format!("{rule}: {message} (line {line})");
                let text = match self.current {
                    Some((step, _)) => self.line(step, Some(&format!("WARN: {warning}")), true),
                    None => String::new(),
                };
                self.warnings.push(warning);
                text
            }
        }
    }

    /// Returns the list of warnings that ends a build which succeeded.
    pub(crate) fn summary(&self) -> String {
        warning_summary(&self.warnings)
    }

    /// Returns what the failed step `name` printed last, between rulers.
    pub(crate) fn failure(&self, name: &str) -> String {
        let tail = self.steps.values().find(|step| step.name == name);
        failure(name, tail.map(|step| &step.tail))
    }

    /// Writes one line of a step, with the step's name before it when another step wrote last.
    fn line(&mut self, id: StepId, text: Option<&str>, goes_on: bool) -> String {
        let Some(step) = self.steps.get(&id) else {
            return String::new();
        };
        let mut lines = String::new();
        let is_same = self.current.is_some_and(|(current, _)| current == id);
        if !is_same {
            if let Some((other, true)) = self.current
                && let Some(other) = self.steps.get(&other)
            {
                push(&mut lines, other.number, "...");
            }
            lines.push('\n');
            push(&mut lines, step.number, &step.name);
        }
        if let Some(text) = text {
            push(&mut lines, step.number, text);
        }
        self.current = Some((id, goes_on));
        lines
    }
}

fn push(lines: &mut String, number: usize, text: &str) {
    writeln!(lines, "#{number} {text}").expect("writing to a String cannot fail");
}

/// BuildKit leaves out times that would read as nothing.
fn tenths(elapsed: Duration) -> String {
    match elapsed.as_secs_f64() {
        seconds if seconds > 0.01 => format!(" {seconds:.1}s"),
        _ => String::new(),
    }
}

/// Returns docker's list of warnings, or nothing when there are none.
pub(super) fn warning_summary(warnings: &[String]) -> String {
    if warnings.is_empty() {
        return String::new();
    }
    let (count, plural) = match warnings.len() {
        1 => (1, ""),
        count => (count, "s"),
    };
    let mut text = format!("\n {count} warning{plural} found (use docker --debug to expand):\n");
    for warning in warnings {
        writeln!(text, " - {warning}").expect("writing to a String cannot fail");
    }
    text
}

/// Returns a failed step and the end of its output, between rulers.
pub(super) fn failure(name: &str, tail: Option<&VecDeque<String>>) -> String {
    let mut text = format!("------\n > {name}:\n");
    for line in tail.into_iter().flatten() {
        text.push_str(line);
        text.push('\n');
    }
    text.push_str("------\n");
    text
}

#[cfg(test)]
mod tests {
    use build::LogStream;

    use super::*;

    fn started(step: usize, name: &str) -> Event {
        Event::StepStarted {
            step: StepId(step),
            name: name.to_owned(),
        }
    }

    fn log(step: usize, millis: u64, line: &str) -> Event {
        Event::Log {
            step: StepId(step),
            stream: LogStream::Stdout,
            line: line.to_owned(),
            elapsed: Duration::from_millis(millis),
        }
    }

    fn done(step: usize, millis: u64) -> Event {
        Event::StepDone {
            step: StepId(step),
            elapsed: Duration::from_millis(millis),
        }
    }

    fn check(events: &[Event], expected: &str) -> BuildPlain {
        let mut progress = BuildPlain::default();
        let text: String = events.iter().map(|event| progress.lines(event)).collect();
        assert_eq!(text, expected);
        progress
    }

    #[test]
    fn steps_are_written_as_buildkit_writes_them() {
        check(
            &[
                started(0, "[internal] load build definition from Dockerfile"),
                Event::Status {
                    step: StepId(0),
                    text: "transferring dockerfile: 510B".to_owned(),
                    elapsed: Duration::from_millis(20),
                },
                done(0, 100),
                started(1, "[2/3] WORKDIR /app"),
                Event::StepCached { step: StepId(1) },
                started(2, "[3/3] RUN echo installing"),
                log(2, 630, "installing"),
                done(2, 800),
            ],
            "\n#1 [internal] load build definition from Dockerfile\n\
             #1 transferring dockerfile: 510B 0.0s done\n\
             #1 DONE 0.1s\n\
             \n#2 [2/3] WORKDIR /app\n#2 CACHED\n\
             \n#3 [3/3] RUN echo installing\n#3 0.630 installing\n#3 DONE 0.8s\n",
        );
    }

    #[test]
    fn a_step_that_is_interrupted_is_named_again() {
        check(
            &[
                started(0, "[a 1/1] RUN x"),
                log(0, 100, "one"),
                started(1, "[b 1/1] RUN y"),
                log(0, 200, "two"),
                done(1, 300),
                done(0, 300),
            ],
            "\n#1 [a 1/1] RUN x\n#1 0.100 one\n#1 ...\n\
             \n#2 [b 1/1] RUN y\n#2 ...\n\
             \n#1 [a 1/1] RUN x\n#1 0.200 two\n#1 ...\n\
             \n#2 [b 1/1] RUN y\n#2 DONE 0.3s\n\
             \n#1 [a 1/1] RUN x\n#1 DONE 0.3s\n",
        );
    }

    #[test]
    fn a_failure_shows_the_end_of_the_output_again() {
        let progress = check(
            &[
                started(0, "[2/2] RUN echo installing; exit 7"),
                log(0, 585, "installing"),
                Event::StepFailed {
                    step: StepId(0),
                    message:
                        "process \"/bin/sh -c exit 7\" did not complete successfully: exit code: 7"
                            .to_owned(),
                    elapsed: Duration::from_millis(600),
                },
            ],
            "\n#1 [2/2] RUN echo installing; exit 7\n#1 0.585 installing\n\
             #1 ERROR: process \"/bin/sh -c exit 7\" did not complete successfully: exit code: 7\n",
        );
        assert_eq!(
            progress.failure("[2/2] RUN echo installing; exit 7"),
            "------\n > [2/2] RUN echo installing; exit 7:\n0.585 installing\n------\n"
        );
    }
}
