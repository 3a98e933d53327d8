//! What the commands that prune have in common: flags, and how they tell what they removed.

use store::{
    Keeper, KeptThing, LabelFilter, OutOfReach, Presence, Prune, PruneError, PruneFilter,
    PruneReport, PruneScope, Removal, Timestamp,
};
use strata::ops::image_filter::ImageFilter;
use strata::time;

use super::background;
use super::error::CommandError;
use super::flags::{Arguments, Flag};
use super::history::ellipsis;
use super::session::Session;
use super::table;
use super::units;

pub(crate) const FORCE: Flag = Flag::switch("force", "Do not prompt for confirmation").short('f');

pub(crate) const DRY_RUN: Flag = Flag::switch(
    "dry-run",
    "Only tell what would be removed and how much that frees",
);

pub(crate) const WHY: Flag = Flag::switch(
    "why",
    "Tell of what stays what keeps it; without --force nothing is removed",
);

pub(crate) const UNUSED_FOR: Flag = Flag::one(
    "unused-for",
    "duration",
    "Only what was not used for so long (e.g. 7d, 24h), tagged images too",
);

pub(crate) const KEEP: Flag = Flag::one(
    "keep",
    "int",
    "Of each repository keep so many tags, the last used ones, and remove the others",
);

pub(crate) const TARGET: Flag = Flag::one(
    "target",
    "bytes",
    "Remove the longest unused, tagged images too, until the store takes at most so much (e.g. 10G)",
);

/// Whether something is removed, or only told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Remove,
    Tell,
}

impl Mode {
    pub(crate) fn of(arguments: &Arguments) -> Self {
        let asks = arguments.is_on("why") && !arguments.is_on("force");
        match arguments.is_on("dry-run") || asks {
            true => Self::Tell,
            false => Self::Remove,
        }
    }
}

/// What is spared beyond docker's filters. Tagged images are removed too then.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    pub(crate) unused_since: Option<Timestamp>,
    keep: Option<usize>,
    pub(crate) target: Option<u64>,
    /// What of each is asked about.
    warnings: Vec<String>,
}

impl Limits {
    pub(crate) fn parse(arguments: &Arguments) -> Result<Self, CommandError> {
        let mut limits = Self::default();
        if let Some(text) = arguments.text("unused-for") {
            let age = time::parse_age(text).and_then(|age| units::now().checked_sub(age).ok());
            let since = age.ok_or_else(|| {
                arguments.invalid("unused-for", text, "expected a duration as 7d, 24h or 90m")
            })?;
            limits.unused_since = Some(since.into());
            let warning = format!("only what was not used for {text}");
            limits.warnings.push(warning);
        }
        if let Some(text) = arguments.text("keep") {
            let count = text.parse();
            let count: usize = count
                .map_err(|_| arguments.invalid("keep", text, "expected how many tags stay"))?;
            limits.keep = Some(count);
            let warning = format!("not the {count} last used tags of each repository");
            limits.warnings.push(warning);
        }
        if let Some(text) = arguments.text("target") {
            let bytes = units::parse_size(text).ok_or_else(|| {
                arguments.invalid("target", text, "expected a size as 10G or 500MB")
            })?;
            limits.target = Some(bytes);
            let size = units::precise_size(bytes);
            limits.warnings.push(format!(
                "the longest unused first, only until the store takes at most {size}"
            ));
        }
        Ok(limits)
    }

    /// Tells whether there is any: then tagged images may go.
    pub(crate) fn any(&self) -> bool {
        !self.warnings.is_empty()
    }

    /// Returns what a question adds.
    pub(crate) fn warning(&self) -> String {
        match self.any() {
            true => format!(
                "\nTagged images too, but:\n  - {}\n",
                self.warnings.join("\n  - ")
            ),
            false => String::new(),
        }
    }
}

/// Removes, or tells.
pub(crate) fn perform(
    session: &Session,
    prune: &Prune,
    mode: Mode,
) -> Result<PruneReport, CommandError> {
    let store = session.store()?;
    let report = match mode {
        Mode::Remove => store.prune(prune),
        Mode::Tell => store.rehearse_prune(prune),
    };
    report.map_err(|error| match error {
        PruneError::OutOfReach(error) => out_of_reach(&error),
        PruneError::Store(error) => error.into(),
    })
}

fn out_of_reach(error: &OutOfReach) -> CommandError {
    let failed = CommandError::client(format!(
        "the store cannot be brought down to {}: {} stay; nothing was removed",
        units::precise_size(error.target),
        units::precise_size(error.least)
    ));
    let names = some(&error.containers.0);
    let parts = [
        (
            error.used_images,
            format!("images that containers use: {names}"),
        ),
        (error.containers.1, format!("containers: {names}")),
        (
            error.other_images,
            "images that the other conditions spare".to_owned(),
        ),
        (
            error.build_cache,
            "build cache: see 'system prune' and 'builder prune'".to_owned(),
        ),
        (
            error.compressed,
            "compressed layers: see 'system prune --compressed'".to_owned(),
        ),
        (error.partial, "partial downloads".to_owned()),
        (error.records, "records".to_owned()),
    ];
    let parts = parts.into_iter().filter(|(bytes, _)| *bytes > 0);
    parts.fold(failed, |failed, (bytes, what)| {
        failed.hint(format!("  {} {what}", units::precise_size(bytes)))
    })
}

/// How many things are named where there may be any number.
const NAMED: usize = 3;

/// Names the first of several.
fn some(names: &[String]) -> String {
    let mut text = names[..names.len().min(NAMED)].join(", ");
    if names.len() > NAMED {
        text.push_str(&format!(" and {} more", names.len() - NAMED));
    }
    text
}

/// Returns the table of what stays.
pub(crate) fn kept(report: &PruneReport) -> String {
    let mut text = String::from("\nWhat stays:\nKIND\tNAME\tSIZE\tKEPT BY\n");
    for kept in &report.kept {
        let (kind, name) = match &kept.what {
            KeptThing::Container(name) => ("container", name.clone()),
            KeptThing::Image(name, id) => {
                ("image", name.clone().unwrap_or_else(|| id.digest().short()))
            }
            KeptThing::Step(key, instruction) => (
                "build cache",
                format!(
                    "{} {}",
                    &key.hex()[..STEP_ID],
                    ellipsis(instruction, INSTRUCTION_WIDTH)
                ),
            ),
            KeptThing::Layer(layer) => ("layer", layer.digest().short()),
            KeptThing::Compressed(count) => ("compressed", format!("{count} layers")),
            KeptThing::Held(command) => ("undo", ellipsis(command, INSTRUCTION_WIDTH)),
            KeptThing::Partial(name) => ("partial", ellipsis(name, INSTRUCTION_WIDTH)),
        };
        let by: Vec<String> = kept.by.iter().map(keeper).collect();
        let size = units::precise_size(kept.bytes);
        text.push_str(&format!("{kind}\t{name}\t{size}\t{}\n", some(&by)));
    }
    match report.kept.is_empty() {
        true => "\nNothing stays.\n".to_owned(),
        false => table::align(&text),
    }
}

/// The width of a build step's instruction, and of other texts, among what stays.
const INSTRUCTION_WIDTH: usize = 30;

fn keeper(keeper: &Keeper) -> String {
    match keeper {
        Keeper::Tag(name) => format!("tag {name}: -a removes it"),
        Keeper::Recent(name) => format!("tag {name} is among the last used"),
        Keeper::Container(name) => format!("container {name}"),
        Keeper::Child(name) => format!("child image {name}"),
        Keeper::Image(name) => format!("image {name}"),
        Keeper::Step(key) => format!("build cache {}", &key.hex()[..STEP_ID]),
        Keeper::Undo(_, until) => format!(
            "undo, for {}",
            units::age(units::now(), units::moment(*until))
        ),
        Keeper::Running => "it runs".to_owned(),
        Keeper::Condition => "the conditions spare it".to_owned(),
        Keeper::Target => "the target is reached".to_owned(),
        Keeper::Layers => "their layers; 'system prune --compressed' removes them".to_owned(),
        Keeper::Arriving => "an image that has not come whole".to_owned(),
        Keeper::Working => "a command that works on it".to_owned(),
        Keeper::Recently => "a week in which it can be gone on with".to_owned(),
    }
}

/// Returns which images a prune removes.
pub(crate) fn filter(parsed: &ImageFilter, scope: PruneScope, limits: &Limits) -> PruneFilter {
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
        unused_since: limits.unused_since,
        keep: limits.keep,
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
        ("build cache objects", cache_ids(report)),
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

/// How long docker's ids of build steps are.
const STEP_ID: usize = 25;

/// Returns the id of a build step.
pub(crate) fn step_id(step: &store::StepRecord) -> String {
    step.key.hex()[..STEP_ID].to_owned()
}

/// Returns the ids of what a prune removed of the build cache.
fn cache_ids(report: &PruneReport) -> Vec<String> {
    let steps = report.steps.iter().map(step_id);
    let caches = report.caches.iter().map(|(cache, _)| cache_id(cache));
    steps.chain(caches).collect()
}

/// Returns the id of a directory of `RUN --mount=type=cache`.
pub(crate) fn cache_id(cache: &store::CacheRecord) -> String {
    let (digest, number) = cache.name.split_once('-').unwrap_or((&cache.name, ""));
    let id = digest.get(..STEP_ID).unwrap_or(digest);
    match number {
        "" => id.to_owned(),
        number => format!("{id}-{number}"),
    }
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
