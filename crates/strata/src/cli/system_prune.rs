//! `strata system prune`.

use store::{Compressed, Prune, PruneScope, StepFilter, StepScope, Timestamp};
use strata::ops::image_filter::{ImageFilter, Purpose};
use strata::ops::prune::stopped;

use super::command::Command;
use super::confirm::confirm;
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::prune::{self, Limits, Mode};
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
        Flag::switch(
            "compressed",
            "Remove the compressed forms of layers too; a push makes or fetches them again",
        ),
        prune::DRY_RUN,
        prune::FORCE,
        prune::KEEP,
        prune::TARGET,
        prune::UNUSED_FOR,
        prune::WHY,
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
    let limits = Limits::parse(arguments)?;
    let mode = Mode::of(arguments);
    if mode == Mode::Remove
        && !arguments.is_on("force")
        && !confirm(session, &warning(arguments, &limits))?
    {
        return Ok(Exit::SUCCESS);
    }
    let prune = settle(arguments, session, &filter, &limits)?;
    let report = prune::perform(session, &prune, mode)?;
    let mut text = prune::text(&report, mode);
    if prune.explain {
        text.push_str(&prune::kept(&report));
    }
    session.out.data(&text)?;
    prune::finish(session, &report, mode);
    Ok(Exit::SUCCESS)
}

/// Returns what is removed.
fn settle(
    arguments: &Arguments,
    session: &Session,
    filter: &ImageFilter,
    limits: &Limits,
) -> Result<Prune, CommandError> {
    let store = session.store()?;
    let all = arguments.is_on("all");
    let wide = all || limits.any();
    let steps = StepFilter {
        scope: match all || limits.unused_since.is_some() || limits.target.is_some() {
            true => StepScope::All,
            false => StepScope::Unused,
        },
        until: [filter.until.map(Timestamp::from), limits.unused_since]
            .into_iter()
            .flatten()
            .min(),
    };
    let has_labels = !filter.labels.is_empty() || !filter.without_labels.is_empty();
    Ok(Prune {
        // A target never costs what a container has written, and no image that one uses.
        containers: match limits.target {
            Some(_) => Vec::new(),
            None => stopped(store, filter, limits.unused_since)?,
        },
        images: Some(prune::filter(
            filter,
            match wide {
                true => PruneScope::Unused,
                false => PruneScope::Dangling,
            },
            limits,
        )),
        // A build step has no labels.
        steps: (!has_labels).then_some(steps),
        compressed: match arguments.is_on("compressed") {
            true => Compressed::Drop,
            false => Compressed::Keep,
        },
        target: limits.target,
        explain: arguments.is_on("why"),
    })
}

/// Returns docker's warning, and what limits beyond docker's add.
fn warning(arguments: &Arguments, limits: &Limits) -> String {
    let mut lines = match limits.target {
        Some(_) => Vec::new(),
        None => vec!["all stopped containers"],
    };
    lines.push("all networks not used by at least one container");
    if arguments.is_on("volumes") {
        lines.push("all anonymous volumes not used by at least one container");
    }
    let all = arguments.is_on("all");
    lines.push(match all || limits.any() {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    });
    lines.push(
        match all || limits.unused_since.is_some() || limits.target.is_some() {
            true => "all build cache",
            false => "unused build cache",
        },
    );
    if arguments.is_on("compressed") {
        lines.push("compressed forms of layers");
    }
    let mut text = format!("WARNING! This will remove:\n  - {}\n", lines.join("\n  - "));
    let mut filters: Vec<&str> = arguments.all("filter").collect();
    filters.sort_unstable();
    if !filters.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n  - ");
        text.push_str(&filters.join("\n  - "));
        text.push('\n');
    }
    text + &limits.warning()
}
