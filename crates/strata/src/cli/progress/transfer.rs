//! The progress of a pull or push: a line for each step of each layer, or on a terminal one line
//! for each layer, drawn over itself.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use store::{BlobOutcome, Event, LayerId};

use crate::cli::units;

/// Which way images go. docker has other words for each, and other ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Ids are digests of blobs.
    Pull,
    /// Ids are digests of uncompressed layers.
    Push,
}

/// Turns events into text.
#[derive(Debug)]
pub(crate) struct Transfer {
    direction: Direction,
    /// What is written once the manifest is known.
    heading: Option<String>,
    /// The columns of the terminal; `None` when there is none.
    columns: Option<usize>,
    lines: HashMap<usize, Line>,
    queued: usize,
    /// What stands under the lines of a terminal once something is transferred.
    total: Option<Total>,
}

/// All layers together, on a terminal.
#[derive(Debug)]
struct Total {
    started: Instant,
    drawn: Instant,
}

/// One layer on a terminal.
#[derive(Debug)]
struct Line {
    /// Its place from the top.
    row: usize,
    size: u64,
    /// How much was there before the transfer began.
    kept: u64,
    done: u64,
    started: Instant,
    drawn: Instant,
}

/// A terminal shows no more than this many frames a second.
const FRAME: Duration = Duration::from_millis(100);

/// docker sends this many layers at once, and says of the others that they wait.
const UPLOADS: usize = 5;

/// docker leaves the bar out on narrower terminals.
const BAR_COLUMNS: usize = 110;
const BAR_WIDTH: u64 = 50;

impl Transfer {
    pub(crate) fn new(
        direction: Direction,
        heading: Option<String>,
        columns: Option<usize>,
    ) -> Self {
        Self {
            direction,
            heading,
            columns,
            lines: HashMap::new(),
            queued: 0,
            total: None,
        }
    }

    /// Returns the text that tells `event`.
    pub(crate) fn text(&mut self, event: &Event) -> String {
        let pull = self.direction == Direction::Pull;
        match event {
            Event::Image { layers } => {
                // The images of an index come one after the other.
                self.lines.clear();
                self.queued = 0;
                self.total = None;
                let mut text = self.heading.take().map_or_else(String::new, |h| h + "\n");
                if !pull {
                    text.extend(layers.iter().rev().map(|layer| self.prepare(layer)));
                }
                text
            }
            Event::LayerQueued { layer, size } => self.queued(layer, *size),
            Event::LayerExists { layer } => self.step(layer, existing(pull)),
            Event::LayerStarted { layer } => match (pull, self.columns) {
                (true, None) => self.step(layer, "Pulling fs layer"),
                (true, Some(_)) => self.begin_total() + &self.step(layer, "Pulling fs layer"),
                (false, Some(_)) => self.begin_total() + &self.step(layer, "Pushing"),
                (false, None) => String::new(),
            },
            Event::LayerResumed { layer, kept } => {
                if let Some(line) = self.lines.get_mut(&layer.index) {
                    (line.kept, line.done) = (*kept, *kept);
                }
                let kept = units::precise_size(*kept);
                self.step(layer, &format!("Resuming after {kept} kept"))
            }
            Event::LayerProgress { layer, done } => self.progress(layer, *done),
            Event::LayerRetry { layer, error } => {
                self.step(layer, &format!("Retrying: {}", printable(error)))
            }
            Event::LayerDone { layer, outcome } => {
                if let Some(line) = self.lines.get_mut(&layer.index) {
                    if matches!(outcome, BlobOutcome::Mounted { .. } | BlobOutcome::Existed) {
                        line.kept = line.size;
                    }
                    line.done = line.size;
                }
                self.done(layer, outcome) + &self.redraw_total()
            }
        }
    }

    fn done(&mut self, layer: &LayerId, outcome: &BlobOutcome) -> String {
        let pull = self.direction == Direction::Pull;
        match (outcome, pull) {
            (BlobOutcome::Existed, _) => self.step(layer, existing(pull)),
            (BlobOutcome::Stored | BlobOutcome::Mounted { .. }, true) => {
                let mut text = String::new();
                if self.columns.is_none() {
                    text.push_str(&self.step(layer, "Verifying Checksum"));
                    text.push_str(&self.step(layer, "Download complete"));
                }
                text.push_str(&self.step(layer, "Pull complete"));
                text
            }
            (BlobOutcome::Stored, false) => self.step(layer, "Pushed"),
            (BlobOutcome::Mounted { from }, false) => {
                self.step(layer, &format!("Mounted from {}", printable(from)))
            }
        }
    }

    /// docker lists what it will push, the top layer first, before it looks at any.
    fn prepare(&mut self, layer: &LayerId) -> String {
        self.add(layer);
        format!("{}: Preparing\n", self.id(layer))
    }

    fn queued(&mut self, layer: &LayerId, size: u64) -> String {
        let is_new = !self.lines.contains_key(&layer.index);
        if is_new {
            self.add(layer);
        }
        if let Some(line) = self.lines.get_mut(&layer.index) {
            line.size = size;
        }
        self.queued += 1;
        match self.columns {
            Some(_) if is_new => self.append(&format!("{}: Waiting", self.id(layer))),
            None if self.direction == Direction::Push && self.queued > UPLOADS => {
                self.step(layer, "Waiting")
            }
            Some(_) | None => String::new(),
        }
    }

    fn add(&mut self, layer: &LayerId) {
        let now = Instant::now();
        let line = Line {
            row: self.lines.len(),
            size: 0,
            kept: 0,
            done: 0,
            started: now,
            drawn: now,
        };
        self.lines.insert(layer.index, line);
    }

    fn step(&mut self, layer: &LayerId, step: &str) -> String {
        let text = format!("{}: {step}", self.id(layer));
        match self.columns {
            None => format!("{text}\n"),
            Some(_) => self.redraw(layer, &text),
        }
    }

    fn progress(&mut self, layer: &LayerId, done: u64) -> String {
        let Some(columns) = self.columns else {
            return String::new();
        };
        let Some(line) = self.lines.get_mut(&layer.index) else {
            return String::new();
        };
        let now = Instant::now();
        if now.duration_since(line.drawn) < FRAME {
            return String::new();
        }
        line.drawn = now;
        line.done = done;
        let bar = bar(done, line.size, columns, now.duration_since(line.started));
        let verb = match self.direction {
            Direction::Pull => "Downloading",
            Direction::Push => "Pushing",
        };
        let text = format!("{}: {verb} {bar}", self.id(layer));
        let mut text = self.redraw(layer, &text);
        if self
            .total
            .as_ref()
            .is_some_and(|total| now.duration_since(total.drawn) >= FRAME)
        {
            text.push_str(&self.redraw_total());
        }
        text
    }

    /// Writes a new line under the others, above the total.
    fn append(&self, text: &str) -> String {
        match &self.total {
            None => format!("{text}\n"),
            Some(total) => format!("\x1b[1A\x1b[2K\r{text}\n{}\n", self.total_text(total)),
        }
    }

    fn begin_total(&mut self) -> String {
        if self.total.is_some() {
            return String::new();
        }
        let now = Instant::now();
        let total = Total {
            started: now,
            drawn: now,
        };
        let text = format!("{}\n", self.total_text(&total));
        self.total = Some(total);
        text
    }

    fn redraw_total(&mut self) -> String {
        let Some(mut total) = self.total.take() else {
            return String::new();
        };
        total.drawn = Instant::now();
        let text = format!("\x1b[1A\x1b[2K\r{} \r\x1b[1B", self.total_text(&total));
        self.total = Some(total);
        text
    }

    fn total_text(&self, total: &Total) -> String {
        let sum = |part: fn(&Line) -> u64| -> u64 { self.lines.values().map(part).sum() };
        let amount = Amount {
            size: sum(|line| line.size),
            kept: sum(|line| line.kept),
            done: sum(|line| line.done),
        };
        amount.text(total.drawn.duration_since(total.started))
    }

    fn redraw(&self, layer: &LayerId, text: &str) -> String {
        let Some(line) = self.lines.get(&layer.index) else {
            return format!("{text}\n");
        };
        let up = self.lines.len() - line.row + usize::from(self.total.is_some());
        format!("\x1b[{up}A\x1b[2K\r{text} \r\x1b[{up}B")
    }

    fn id(&self, layer: &LayerId) -> String {
        match self.direction {
            Direction::Pull => layer.digest.short(),
            Direction::Push => layer.diff_id.digest().short(),
        }
    }
}

/// How much of everything has been transferred.
struct Amount {
    size: u64,
    kept: u64,
    done: u64,
}

impl Amount {
    /// `Total: 35.75MB/62.69MB 117.3MB/s 1s`
    fn text(&self, elapsed: Duration) -> String {
        let (done, size) = (self.done, self.size);
        let mut text = format!(
            "Total: {}/{}",
            units::precise_size(done),
            units::precise_size(size)
        );
        let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let moved = done.saturating_sub(self.kept);
        let rate = moved.saturating_mul(1000).checked_div(milliseconds);
        if let Some(rate) = rate.filter(|rate| *rate > 0) {
            text.push_str(&format!(" {}/s", units::precise_size(rate)));
            if done < size {
                text.push_str(&format!(" {}s", (size - done).div_ceil(rate)));
            }
        }
        text
    }
}

fn existing(pull: bool) -> &'static str {
    match pull {
        true => "Already exists",
        false => "Layer already exists",
    }
}

/// `[====>    ]  35.75MB/62.69MB 12s`
fn bar(done: u64, size: u64, columns: usize, elapsed: Duration) -> String {
    let numbers = format!("{:>8}", units::precise_size(done));
    if size == 0 || done > size {
        return numbers;
    }
    let numbers = format!("{numbers}/{}", units::precise_size(size));
    let left = match done {
        0 => String::new(),
        done => {
            let seconds = elapsed.as_secs().saturating_mul(size - done) / done;
            format!(" {seconds}s")
        }
    };
    if columns <= BAR_COLUMNS {
        return format!("{numbers}{left}");
    }
    let full = usize::try_from(done.saturating_mul(BAR_WIDTH) / size).unwrap_or(0);
    let width = usize::try_from(BAR_WIDTH).unwrap_or(full);
    let empty = width.saturating_sub(full);
    format!(
        "[{}>{}] {numbers}{left}",
        "=".repeat(full),
        " ".repeat(empty)
    )
}

/// A registry's words must not move the cursor.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use oci::{DiffId, Digest};

    use super::*;

    fn layer(index: usize) -> LayerId {
        LayerId {
            index,
            digest: Digest::from_bytes([0xcd; 32]),
            diff_id: DiffId(Digest::from_bytes([0xab; 32])),
        }
    }

    fn check(direction: Direction, events: &[Event], expected: &str) {
        let heading = Some("1: Pulling from team/demo".to_owned());
        let mut transfer = Transfer::new(direction, heading, None);
        let text: String = events.iter().map(|event| transfer.text(event)).collect();
        assert_eq!(text, expected);
    }

    #[test]
    fn a_pull_names_blobs_in_dockers_words() {
        check(
            Direction::Pull,
            &[
                Event::Image {
                    layers: vec![layer(0), layer(1)],
                },
                Event::LayerQueued {
                    layer: layer(0),
                    size: 10,
                },
                Event::LayerExists { layer: layer(0) },
                Event::LayerQueued {
                    layer: layer(1),
                    size: 10,
                },
                Event::LayerStarted { layer: layer(1) },
                Event::LayerProgress {
                    layer: layer(1),
                    done: 5,
                },
                Event::LayerDone {
                    layer: layer(1),
                    outcome: BlobOutcome::Stored,
                },
            ],
            "1: Pulling from team/demo\n\
             cdcdcdcdcdcd: Already exists\n\
             cdcdcdcdcdcd: Pulling fs layer\n\
             cdcdcdcdcdcd: Verifying Checksum\n\
             cdcdcdcdcdcd: Download complete\n\
             cdcdcdcdcdcd: Pull complete\n",
        );
    }

    #[test]
    fn a_push_names_layers_in_dockers_words() {
        let done = |index, outcome| Event::LayerDone {
            layer: layer(index),
            outcome,
        };
        let from = "team/demo".to_owned();
        check(
            Direction::Push,
            &[
                Event::Image {
                    layers: vec![layer(0)],
                },
                Event::LayerQueued {
                    layer: layer(0),
                    size: 10,
                },
                Event::LayerStarted { layer: layer(0) },
                done(0, BlobOutcome::Stored),
                done(0, BlobOutcome::Existed),
                done(0, BlobOutcome::Mounted { from }),
            ],
            "1: Pulling from team/demo\n\
             abababababab: Preparing\n\
             abababababab: Pushed\n\
             abababababab: Layer already exists\n\
             abababababab: Mounted from team/demo\n",
        );
    }

    #[test]
    fn the_total_tells_the_rate_of_what_moved_and_the_time_left() {
        let amount = |size, kept, done| Amount { size, kept, done };
        let elapsed = Duration::from_secs(10);
        for (amount, expected) in [
            (amount(0, 0, 0), "Total: 0B/0B"),
            (amount(1000, 0, 0), "Total: 0B/1kB"),
            (amount(1000, 0, 250), "Total: 250B/1kB 25B/s 30s"),
            (amount(1000, 200, 250), "Total: 250B/1kB 5B/s 150s"),
            (amount(1000, 0, 1000), "Total: 1kB/1kB 100B/s"),
        ] {
            assert_eq!(amount.text(elapsed), expected);
        }
        assert_eq!(amount(10, 0, 5).text(Duration::ZERO), "Total: 5B/10B");
    }

    /// Plays what a terminal does with the few sequences that are used; returns its lines.
    fn screen(text: &str) -> Vec<String> {
        let (mut lines, mut row, mut column) = (vec![String::new()], 0, 0);
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            if let Some(sequence) = rest.strip_prefix("\x1b[") {
                let end = sequence.find(char::is_alphabetic).expect("a sequence");
                let count: usize = sequence[..end].parse().expect("a number");
                match &sequence[end..=end] {
                    "A" => row -= count,
                    "B" => row += count,
                    _ => lines[row].clear(),
                }
                rest = &sequence[end + 1..];
                continue;
            }
            rest = &rest[next.len_utf8()..];
            match next {
                '\r' => column = 0,
                '\n' => {
                    (row, column) = (row + 1, 0);
                    if lines.len() == row {
                        lines.push(String::new());
                    }
                }
                letter => {
                    lines[row].truncate(column);
                    lines[row].push(letter);
                    column += 1;
                }
            }
        }
        lines
            .iter()
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    #[test]
    fn on_a_terminal_each_layer_has_a_line_and_all_have_a_total_under_them() {
        let mut transfer = Transfer::new(Direction::Push, None, Some(80));
        let mut text = String::new();
        let id = "abababababab";
        let queued = |index| Event::LayerQueued {
            layer: layer(index),
            size: 10,
        };
        for event in [
            queued(0),
            queued(1),
            Event::LayerStarted { layer: layer(1) },
            queued(2),
            Event::LayerExists { layer: layer(0) },
            Event::LayerResumed {
                layer: layer(1),
                kept: 4,
            },
        ] {
            text.push_str(&transfer.text(&event));
        }
        assert_eq!(
            screen(&text),
            [
                format!("{id}: Layer already exists"),
                format!("{id}: Resuming after 4B kept"),
                format!("{id}: Waiting"),
                "Total: 0B/30B".to_owned(),
                String::new(),
            ]
        );
        text.push_str(&transfer.text(&Event::LayerDone {
            layer: layer(1),
            outcome: BlobOutcome::Stored,
        }));
        let lines = screen(&text);
        assert_eq!(lines[1], format!("{id}: Pushed"));
        assert!(lines[3].starts_with("Total: 10B/30B"), "{lines:?}");
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn a_bar_shows_how_much_and_how_long() {
        let elapsed = Duration::from_secs(10);
        assert_eq!(bar(25, 100, 80, elapsed), "     25B/100B 30s");
        assert_eq!(
            bar(50, 100, 120, elapsed),
            format!("[{}>{}]      50B/100B 10s", "=".repeat(25), " ".repeat(25))
        );
    }
}
