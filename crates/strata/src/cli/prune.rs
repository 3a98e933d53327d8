//! What the commands that prune have in common: flags, and how they tell what they removed.

use store::{LabelFilter, Presence, PruneFilter, PruneReport, PruneScope, Removal, Timestamp};
use strata::ops::image_filter::ImageFilter;

use super::background;
use super::flags::{Arguments, Flag};
use super::session::Session;
use super::units;

pub(crate) const FORCE: Flag = Flag::switch("force", "Do not prompt for confirmation").short('f');

pub(crate) const DRY_RUN: Flag = Flag::switch(
    "dry-run",
    "Only tell what would be removed and how much that frees",
);

/// Whether something is removed, or only told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Remove,
    Tell,
}

impl Mode {
    pub(crate) fn of(arguments: &Arguments) -> Self {
        match arguments.is_on("dry-run") {
            true => Self::Tell,
            false => Self::Remove,
        }
    }
}

/// Returns which images a prune removes.
pub(crate) fn filter(parsed: &ImageFilter, scope: PruneScope) -> PruneFilter {
    let labels = |labels: &[(String, Option<String>)], presence| {
        let labels = labels.iter().cloned();
        labels
            .map(|(key, value)| LabelFilter {
                key,
                value,
                presence,
            })
            .collect::<Vec<_>>()
    };
    let mut conditions = labels(&parsed.labels, Presence::Required);
    conditions.extend(labels(&parsed.without_labels, Presence::Forbidden));
    PruneFilter {
        scope,
        until: parsed.until.map(Timestamp::from),
        labels: conditions,
        ..PruneFilter::default()
    }
}

/// Returns the sections that tell what was removed, in docker's order and words.
pub(crate) fn text(report: &PruneReport, mode: Mode) -> String {
    let verb = match mode {
        Mode::Remove => "Deleted",
        Mode::Tell => "Would delete",
    };
    let removal = |removal: &Removal| match removal {
        Removal::Untagged(name) => format!("untagged: {name}"),
        Removal::Deleted(digest) => format!("deleted: {digest}"),
    };
    let sections = [
        ("Containers", report.containers.clone()),
        ("Images", report.removals.iter().map(removal).collect()),
        (
            "build cache objects",
            report.steps.iter().map(step_id).collect(),
        ),
    ];
    let mut text = String::new();
    for (what, lines) in sections {
        if !lines.is_empty() {
            text.push_str(&format!("{verb} {what}:\n{}\n\n", lines.join("\n")));
        }
    }
    let total = match mode {
        Mode::Remove => "Total reclaimed space",
        Mode::Tell => "Total reclaimable space",
    };
    let bytes = units::precise_size(report.swept.bytes);
    text + &format!("{total}: {bytes}\n")
}

/// Returns the id of a build step as docker's are: 25 signs.
pub(crate) fn step_id(step: &store::StepRecord) -> String {
    step.key.hex()[..25].to_owned()
}

/// Leaves to the background what a prune has not done itself.
pub(crate) fn finish(session: &Session, report: &PruneReport, mode: Mode) {
    if mode == Mode::Tell {
        return;
    }
    background::unmount(session, &report.swept.layers);
    // The directories of a few containers wait in the trash otherwise; what was told is freed.
    match report.swept.bytes > 0 {
        true => background::sweep(session),
        false => background::tidy(session),
    }
}
