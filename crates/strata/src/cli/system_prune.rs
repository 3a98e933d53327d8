//! `strata system prune`.

use store::{Prune, PruneScope, StepFilter, StepScope, Timestamp};
use strata::ops::image_filter::{ImageFilter, Purpose};
use strata::ops::prune::stopped;

use super::command::Command;
use super::confirm::confirm;
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::prune::{self, Mode};
use super::session::Session;
use super::units;

pub(crate) const COMMAND: Command = Command {
    names: &["system prune"],
    about: "Remove unused data",
    flags: &[
        Flag::switch("all", "Remove all unused images, not just dangling ones").short('a'),
        Flag::many(
            "filter",
            "filter",
            "Provide filter values (e.g. \"label=<key>=<value>\")",
        ),
        Flag::switch("volumes", "Prune anonymous volumes"),
        prune::DRY_RUN,
        prune::FORCE,
    ],
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let filter = ImageFilter::parse(
        arguments.all("filter"),
        Purpose::PruneContainers,
        units::now(),
    )?;
    if arguments.is_on("volumes") && filter.until.is_some() {
        let message = "ERROR: The \"until\" filter is not supported with \"--volumes\"";
        return Err(CommandError::bare(message));
    }
    let mode = Mode::of(arguments);
    if mode == Mode::Remove && !arguments.is_on("force") && !confirm(session, &warning(arguments))?
    {
        return Ok(Exit::SUCCESS);
    }
    let all = arguments.is_on("all");
    let store = session.store()?;
    let has_labels = !filter.labels.is_empty() || !filter.without_labels.is_empty();
    let prune = Prune {
        containers: stopped(store, &filter, None)?,
        images: Some(prune::filter(
            &filter,
            match all {
                true => PruneScope::Unused,
                false => PruneScope::Dangling,
            },
        )),
        // A build step has no labels.
        steps: (!has_labels).then(|| StepFilter {
            scope: match all {
                true => StepScope::All,
                false => StepScope::Unused,
            },
            until: filter.until.map(Timestamp::from),
        }),
        ..Prune::default()
    };
    let report = match mode {
        Mode::Remove => store.prune(&prune)?,
        Mode::Tell => store.rehearse_prune(&prune)?,
    };
    session.out.data(&prune::text(&report, mode))?;
    prune::finish(session, &report, mode);
    Ok(Exit::SUCCESS)
}

/// Returns docker's warning.
fn warning(arguments: &Arguments) -> String {
    let mut lines = vec![
        "all stopped containers",
        "all networks not used by at least one container",
    ];
    if arguments.is_on("volumes") {
        lines.push("all anonymous volumes not used by at least one container");
    }
    lines.extend(match arguments.is_on("all") {
        true => [
            "all images without at least one container associated to them",
            "all build cache",
        ],
        false => ["all dangling images", "unused build cache"],
    });
    let mut text = format!("WARNING! This will remove:\n  - {}\n", lines.join("\n  - "));
    let mut filters: Vec<&str> = arguments.all("filter").collect();
    filters.sort_unstable();
    if !filters.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n  - ");
        text.push_str(&filters.join("\n  - "));
        text.push('\n');
    }
    text
}
