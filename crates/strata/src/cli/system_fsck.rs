//! `strata system fsck`.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use store::{Depth, Hashed};
use strata::ops::fsck::{Checked, Mode, Outcome, State, examine_database, fsck};

use super::background;
use super::command::Command;
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::output::Channel;
use super::session::Session;
use super::template::{Format, Purpose, Subject};
use super::units;
use super::version::FORMAT_HELP;

pub(crate) const COMMAND: Command = Command {
    names: &["system fsck"],
    about: "Check the store, and repair it",
    notes: "Exits with 0 when the store is as it was written, or is again, and with 1 when damage is left.\n\
            Without --full the content of layers is not read.",
    flags: &[
        Flag::one("format", "string", FORMAT_HELP),
        Flag::switch("full", "Read every byte of every blob and layer"),
        Flag::switch(
            "repair",
            "Put right what can be: from registries, or from another form of the same content",
        ),
    ],
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let depth = match arguments.is_on("full") {
        true => Depth::Full,
        false => Depth::Quick,
    };
    let mode = match arguments.is_on("repair") {
        true => Mode::Repair,
        false => Mode::Check,
    };
    let database = examine_database(&session.environment.root, mode)?;
    let checked = match database.can_be_opened {
        true => {
            let progress = Progress::new();
            let engine = session.engine()?;
            let records = database.records;
            let checked = fsck(engine, depth, mode, records, &|hashed| {
                progress.show(hashed);
            });
            progress.clear();
            checked?.after(database)
        }
        false => Checked::default().after(database),
    };
    let object = object(&checked, depth, session.program);
    let text = match arguments.text("format") {
        None | Some("") => text(&checked, session.program),
        Some("json" | "{{json .}}") => format!("{object}\n"),
        Some(template) => {
            let format = Format::parse(template, Purpose::Data, Subject::Object)?;
            format.execute(&gotmpl::to_value(&object)?)? + "\n"
        }
    };
    session.out.data(&text)?;
    // A check of indexes leaves the scratch behind that they were written again in.
    if session.has_store() {
        background::tidy(session);
    }
    Ok(match checked.is_sound() {
        true => Exit::SUCCESS,
        false => Exit::FAILURE,
    })
}

/// How long at least between two drawings of the progress.
const REDRAW: Duration = Duration::from_millis(100);

/// One line on a terminal, rewritten; nothing elsewhere.
struct Progress {
    columns: Option<usize>,
    begun: Instant,
    drawn: Mutex<Option<Instant>>,
}

impl Progress {
    fn new() -> Self {
        Self {
            columns: Channel::Stderr.columns(),
            begun: Instant::now(),
            drawn: Mutex::new(None),
        }
    }

    fn show(&self, hashed: Hashed) {
        let Some(columns) = self.columns else {
            return;
        };
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        if drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) {
            return;
        }
        *drawn = Some(Instant::now());
        let text = line(hashed, self.begun.elapsed());
        let text: String = text.chars().take(columns.saturating_sub(1)).collect();
        Channel::Stderr.write(&format!("\r\x1b[2K{text}"));
    }

    fn clear(&self) {
        let drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        if drawn.is_some() {
            Channel::Stderr.write("\r\x1b[2K");
        }
    }
}

fn line(hashed: Hashed, elapsed: Duration) -> String {
    let Hashed { done, total } = hashed;
    let percent = done.saturating_mul(100) / total.max(1);
    let mut text = format!(
        "Reading {} of {} ({percent}%)",
        units::precise_size(done),
        units::precise_size(total)
    );
    let left = total.saturating_sub(done);
    let elapsed = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let rate = done.saturating_mul(1000) / elapsed.max(1);
    if elapsed > 1000 && rate > 0 {
        write!(text, ", {}s left", left / rate).expect("writing to a String cannot fail");
    }
    text
}

fn text(checked: &Checked, program: &str) -> String {
    let mut text = String::new();
    for outcome in &checked.outcomes {
        text.push_str(&paragraph(outcome, program));
    }
    let totals = &checked.totals;
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    line(format!(
        "Checked {}, {}, {}, {}",
        count(totals.images, "image"),
        count(totals.containers, "container"),
        count(totals.layers, "layer"),
        count(totals.blobs, "blob"),
    ));
    if totals.bytes > 0 {
        line(format!("Read {}", units::precise_size(totals.bytes)));
    }
    if totals.unused > 0 {
        line(format!(
            "Note: {} ({}) that no record names; '{program} image prune' frees the space",
            count(totals.unused, "file or layer"),
            units::precise_size(totals.unused_bytes)
        ));
    }
    for note in &checked.notes {
        line(format!("Note: {note}"));
    }
    let left = checked.left();
    let found = checked.outcomes.len();
    line(match (found, left) {
        (0, _) => "No damage".to_owned(),
        (found, 0) => format!("Damage found: {found}, all repaired"),
        (found, left) => format!("Damage found: {found}, left: {left}"),
    });
    text
}

/// Returns `1 image`, `2 images`; of several words the first is counted.
fn count(number: usize, of: &str) -> String {
    match (number, of.split_once(' ')) {
        (1, _) => format!("1 {of}"),
        (_, None) => format!("{number} {of}s"),
        (_, Some((first, rest))) => format!("{number} {first}s {rest}s"),
    }
}

fn paragraph(outcome: &Outcome, program: &str) -> String {
    let finding = &outcome.finding;
    let state = match &outcome.state {
        State::Repaired { .. } => "Repaired",
        State::Found | State::Left { .. } => "Damaged",
    };
    let mut text = format!("{state}: {}\n", finding.damage);
    let mut detail = |what: &str, value: &str| {
        text.push_str(&format!("    {what}: {value}\n"));
    };
    detail("file", &finding.path.display().to_string());
    let needed_by = &finding.needed_by;
    if !needed_by.images.is_empty() {
        detail("images", &needed_by.images.join(", "));
    }
    if !needed_by.containers.is_empty() {
        detail("containers", &needed_by.containers.join(", "));
    }
    match &outcome.state {
        State::Found => {}
        State::Repaired { how } => detail("repair", how),
        State::Left { why } => detail("no repair", why),
    }
    if let Some(advice) = outcome.advice_for(program) {
        detail("what to do", &advice);
    }
    text
}

fn object(checked: &Checked, depth: Depth, program: &str) -> Value {
    let findings = checked.outcomes.iter().map(|outcome| {
        let finding = &outcome.finding;
        let (state, reason) = match &outcome.state {
            State::Found => ("found", None),
            State::Repaired { how } => ("repaired", Some(how)),
            State::Left { why } => ("left", Some(why)),
        };
        json!({
            "Kind": finding.damage.kind(),
            "What": finding.damage.to_string(),
            "Path": finding.path.to_string_lossy(),
            "Digest": finding.digest().map(|digest| digest.to_string()),
            "Images": finding.needed_by.images,
            "Containers": finding.needed_by.containers,
            "Running": finding.needed_by.running,
            "State": state,
            "Reason": reason,
            "Advice": outcome.advice_for(program),
        })
    });
    let totals = &checked.totals;
    json!({
        "Sound": checked.is_sound(),
        "Depth": match depth {
            Depth::Quick => "quick",
            Depth::Full => "full",
        },
        "Findings": findings.collect::<Vec<_>>(),
        "Notes": checked.notes,
        "Images": totals.images,
        "Containers": totals.containers,
        "Layers": totals.layers,
        "Blobs": totals.blobs,
        "BytesRead": totals.bytes,
        "Unused": totals.unused,
        "UnusedBytes": totals.unused_bytes,
        "Ingest": totals.ingest,
        "Trash": totals.trash,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_tells_how_far_it_is_and_how_long_it_takes() {
        let hashed = Hashed {
            done: 250_000_000,
            total: 1_000_000_000,
        };
        assert_eq!(
            line(hashed, Duration::from_millis(300)),
            "Reading 250MB of 1GB (25%)"
        );
        assert_eq!(
            line(hashed, Duration::from_secs(5)),
            "Reading 250MB of 1GB (25%), 15s left"
        );
    }

    #[test]
    fn counts_are_in_the_plural_but_for_one() {
        assert_eq!(count(1, "layer"), "1 layer");
        assert_eq!(count(0, "layer"), "0 layers");
        assert_eq!(count(2, "file or layer"), "2 files or layers");
    }
}
