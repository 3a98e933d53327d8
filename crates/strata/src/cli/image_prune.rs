//! `strata image prune`.

use store::{LabelFilter, Presence, PruneFilter, PruneScope, Removal, Timestamp};
use strata::ops::image_filter::{ImageFilter, Purpose};

use super::background;
use super::command::Command;
use super::confirm::confirm;
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::session::Session;
use super::units;

pub(crate) const COMMAND: Command = Command {
    names: &["image prune"],
    about: "Remove unused images",
    flags: &[
        Flag::switch("all", "Remove all unused images, not just dangling ones").short('a'),
        Flag::many(
            "filter",
            "filter",
            "Provide filter values (e.g. \"until=<timestamp>\")",
        ),
        Flag::switch("force", "Do not prompt for confirmation").short('f'),
    ],
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let parsed = ImageFilter::parse(arguments.all("filter"), Purpose::Prune, units::now())?;
    let all = arguments.is_on("all") || parsed.dangling == Some(false);
    let what = match all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    if !arguments.is_on("force")
        && !confirm(session, &format!("WARNING! This will remove {what}."))?
    {
        return Ok(Exit::SUCCESS);
    }
    let report = session.store()?.prune_images(&filter(&parsed, all))?;
    let mut text = String::new();
    if !report.removals.is_empty() {
        text.push_str("Deleted Images:\n");
        for removal in &report.removals {
            text.push_str(&match removal {
                Removal::Untagged(name) => format!("untagged: {name}\n"),
                Removal::Deleted(digest) => format!("deleted: {digest}\n"),
            });
        }
        text.push('\n');
    }
    let reclaimed = units::precise_size(report.swept.bytes);
    text.push_str(&format!("Total reclaimed space: {reclaimed}\n"));
    session.out.data(&text)?;
    background::unmount(session, &report.swept.layers);
    background::tidy(session);
    Ok(Exit::SUCCESS)
}

fn filter(parsed: &ImageFilter, all: bool) -> PruneFilter {
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
        scope: match all {
            true => PruneScope::Unused,
            false => PruneScope::Dangling,
        },
        until: parsed.until.map(Timestamp::from),
        labels: conditions,
    }
}
