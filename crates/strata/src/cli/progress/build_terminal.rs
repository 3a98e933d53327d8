//! The progress of a build on a terminal: one line for each step, drawn over itself.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use build::{CANCELED, Event, StepId};

use super::build_plain::{failure, warning_summary};

/// Lines of output that are kept of each step, and shown while it runs.
const TAIL: usize = 20;
const SHOWN_TAIL: usize = 6;

/// Turns events into frames.
#[derive(Debug)]
pub(crate) struct BuildTerminal {
    steps: Vec<Step>,
    planned: usize,
    started: Instant,
    /// Lines of the last frame, which the next one replaces.
    drawn: usize,
    warnings: Vec<String>,
    is_coloured: bool,
}

#[derive(Debug)]
struct Step {
    id: StepId,
    name: String,
    state: State,
    started: Instant,
    statuses: Vec<(String, Duration)>,
    tail: VecDeque<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Cached,
    Done(Duration),
    Failed(Duration),
    Canceled(Duration),
}

/// How large the terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// Whether frames are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    On,
    Off,
}

impl BuildTerminal {
    pub(crate) fn new(colour: Colour) -> Self {
        Self {
            steps: Vec::new(),
            planned: 0,
            started: Instant::now(),
            drawn: 0,
            warnings: Vec::new(),
            is_coloured: colour == Colour::On,
        }
    }

    /// Takes note of `event`; the next frame shows it.
    pub(crate) fn note(&mut self, event: &Event) {
        match event {
            Event::Planned { steps } => self.planned = *steps,
            Event::StepStarted { step, name } => self.steps.push(Step {
                id: *step,
                name: name.clone(),
                state: State::Running,
                started: Instant::now(),
                statuses: Vec::new(),
                tail: VecDeque::new(),
            }),
            Event::Status {
                step,
                text,
                elapsed,
            } => {
                if let Some(step) = self.step(*step) {
                    step.statuses.push((text.clone(), *elapsed));
                }
            }
            Event::Log {
                step,
                line,
                elapsed,
                ..
            } => {
                let line = format!("{:.3} {line}", elapsed.as_secs_f64());
                if let Some(step) = self.step(*step) {
                    if step.tail.len() == TAIL {
                        step.tail.pop_front();
                    }
                    step.tail.push_back(line);
                }
            }
            Event::StepCached { step } => self.end(*step, State::Cached),
            Event::StepDone { step, elapsed } => self.end(*step, State::Done(*elapsed)),
            Event::StepFailed {
                step,
                message,
                elapsed,
            } => {
                let state = match message == CANCELED {
                    true => State::Canceled(*elapsed),
                    false => State::Failed(*elapsed),
                };
                self.end(*step, state);
            }
            Event::Warning {
                rule,
                message,
                line,
                ..
            } => self
                .warnings
                .push(format!("{rule}: {message} (line {line})")),
        }
    }

    fn step(&mut self, id: StepId) -> Option<&mut Step> {
        self.steps.iter_mut().rfind(|step| step.id == id)
    }

    fn end(&mut self, id: StepId, state: State) {
        if let Some(step) = self.step(id) {
            step.state = state;
        }
    }

    /// Returns the text that replaces the last frame by one of the present state.
    pub(crate) fn frame(&mut self, size: Size) -> String {
        let body = self.body(size, "");
        self.replace(&body)
    }

    /// Returns the last frame of a build that succeeded, with every step, and the warnings.
    pub(crate) fn last_frame(&mut self, size: Size) -> String {
        let mut text = self.whole(size, " FINISHED");
        text.push_str(&warning_summary(&self.warnings));
        text
    }

    /// Returns the last frame of a build that failed.
    pub(crate) fn broken_frame(&mut self, size: Size) -> String {
        self.whole(size, "")
    }

    fn whole(&mut self, size: Size, suffix: &str) -> String {
        let all = Size {
            rows: usize::MAX,
            ..size
        };
        let body = self.body(all, suffix);
        self.replace(&body)
    }

    /// Returns what the failed step `name` printed last, between rulers.
    pub(crate) fn failure(&self, name: &str) -> String {
        let step = self.steps.iter().rfind(|step| step.name == name);
        failure(name, step.map(|step| &step.tail))
    }

    fn replace(&mut self, body: &[String]) -> String {
        let mut text = String::new();
        if self.drawn > 0 {
            write!(text, "\x1b[{}A", self.drawn).expect("writing to a String cannot fail");
        }
        for line in body {
            text.push_str("\x1b[2K\r");
            text.push_str(line);
            text.push('\n');
        }
        // A frame with fewer lines must not leave the end of the last one.
        text.push_str("\x1b[J");
        self.drawn = body.len();
        text
    }

    fn body(&self, size: Size, suffix: &str) -> Vec<String> {
        let ended = self.steps.iter().filter(|s| s.state != State::Running);
        let total = self.planned.max(self.steps.len());
        let title = format!(
            "[+] Building {:.1}s ({}/{total}){suffix}",
            self.started.elapsed().as_secs_f64(),
            ended.count()
        );
        let mut lines: Vec<String> = Vec::new();
        for step in &self.steps {
            lines.extend(self.step_lines(step, size.columns));
        }
        // The oldest lines give way: what runs is at the end.
        let room = size.rows.saturating_sub(2).max(1);
        let skipped = lines.len().saturating_sub(room);
        let mut body = vec![fit(&title, "docker:default", size.columns)];
        body.extend(lines.split_off(skipped));
        body
    }

    fn step_lines(&self, step: &Step, columns: usize) -> Vec<String> {
        let (label, elapsed, colour) = match step.state {
            State::Running => ("", step.started.elapsed(), None),
            State::Cached => ("CACHED ", Duration::ZERO, Some(BLUE)),
            State::Done(elapsed) => ("", elapsed, Some(BLUE)),
            State::Failed(elapsed) => ("ERROR ", elapsed, Some(RED)),
            State::Canceled(elapsed) => ("CANCELED ", elapsed, Some(YELLOW)),
        };
        let seconds = |elapsed: Duration| format!("{:.1}s", elapsed.as_secs_f64());
        let mut lines = vec![self.paint(
            fit(
                &format!(" => {label}{}", step.name),
                &seconds(elapsed),
                columns,
            ),
            colour,
        )];
        for (status, elapsed) in &step.statuses {
            let line = fit(&format!(" => => {status}"), &seconds(*elapsed), columns);
            lines.push(self.paint(line, colour));
        }
        if step.state == State::Running {
            let skipped = step.tail.len().saturating_sub(SHOWN_TAIL);
            for line in step.tail.iter().skip(skipped) {
                lines.push(fit(&format!(" => => # {}", printable(line)), "", columns));
            }
        }
        lines
    }

    fn paint(&self, line: String, colour: Option<&str>) -> String {
        match colour {
            Some(colour) if self.is_coloured => format!("{colour}{line}\x1b[0m"),
            _ => line,
        }
    }
}

const BLUE: &str = "\x1b[34m";
const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";

/// Puts `right` at the right edge and cuts `left` to what is free.
fn fit(left: &str, right: &str, columns: usize) -> String {
    let room = columns.saturating_sub(right.chars().count() + 1);
    let mut line: String = left.chars().take(room).collect();
    let padding = room - line.chars().count();
    line.extend(std::iter::repeat_n(' ', padding + 1));
    line.push_str(right);
    line.truncate(line.trim_end().len());
    line
}

/// A container's output must not move the cursor.
fn printable(line: &str) -> String {
    line.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_replaces_the_one_before() {
        let size = Size {
            rows: 24,
            columns: 60,
        };
        let mut progress = BuildTerminal::new(Colour::Off);
        progress.note(&Event::Planned { steps: 2 });
        progress.note(&Event::StepStarted {
            step: StepId(0),
            name: "[1/2] FROM busybox".to_owned(),
        });
        progress.note(&Event::StepCached { step: StepId(0) });
        let first = progress.frame(size);
        assert!(first.contains("(1/2)"), "{first}");
        assert!(
            first.contains(" => CACHED [1/2] FROM busybox                           0.0s\n"),
            "{first:?}"
        );
        assert!(progress.frame(size).starts_with("\x1b[2A"));
    }

    #[test]
    fn lines_never_exceed_the_width() {
        assert_eq!(fit("abcdef", "1s", 6), "abc 1s");
        assert_eq!(fit("ab", "1s", 6), "ab  1s");
        assert_eq!(printable("a\x1b[2Jb"), "a [2Jb");
    }
}
