//! `strata builder prune`.

use store::{Prune, StepFilter, StepScope};
use strata::ops::image_filter::FilterError;
use strata::time;

use super::command::Command;
use super::confirm::confirm;
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::prune::{self, Mode, cache_id, step_id};
use super::session::Session;
use super::units;

pub(crate) const COMMAND: Command = Command {
    names: &["builder prune"],
    about: "Remove build cache",
    flags: &[
        Flag::switch("all", "Remove all build cache, not just what no image has").short('a'),
        Flag::many(
            "filter",
            "filter",
            "Provide filter values (e.g. \"until=24h\")",
        ),
        prune::DRY_RUN,
        prune::FORCE,
        prune::WHY,
    ],
    refused: &["keep-storage"],
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let mut filter = StepFilter {
        scope: match arguments.is_on("all") {
            true => StepScope::All,
            false => StepScope::Unused,
        },
        until: None,
    };
    for text in arguments.all("filter") {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if name != "until" {
            return Err(FilterError::Unknown(name.to_owned()).into());
        }
        let until = time::parse(value, units::now());
        let until = until.ok_or_else(|| FilterError::InvalidValue {
            name: name.to_owned(),
            value: value.to_owned(),
        })?;
        filter.until = Some(until.into());
    }
    let what = match filter.scope {
        StepScope::All => "all build cache",
        StepScope::Unused => "all dangling build cache",
    };
    let mode = Mode::of(arguments);
    if mode == Mode::Remove
        && !arguments.is_on("force")
        && !confirm(session, &format!("WARNING! This will remove {what}."))?
    {
        return Ok(Exit::SUCCESS);
    }
    let prune = Prune {
        steps: Some(filter),
        explain: arguments.is_on("why"),
        ..Prune::default()
    };
    let report = prune::perform(session, &prune, mode)?;
    let mut text = String::new();
    if !report.steps.is_empty() || !report.caches.is_empty() {
        text.push_str("ID\t\t\t\t\t\tRECLAIMABLE\tSIZE\t\tLAST ACCESSED\n");
    }
    let now = units::now();
    let mut add = |id: String, size, last_used| {
        let used = units::age(units::moment(last_used), now);
        let size = units::precise_size(size);
        text.push_str(&format!("{id:<40}\ttrue \t\t{size:<10}\t{used} ago\n"));
    };
    for step in &report.steps {
        add(step_id(step), step.content_size, step.last_used);
    }
    for (cache, bytes) in &report.caches {
        add(cache_id(cache), *bytes, cache.last_used);
    }
    let total = units::precise_size(report.swept.bytes);
    text.push_str(&match mode {
        Mode::Remove => format!("Total:\t{total}\n"),
        Mode::Tell => format!("Total reclaimable space:\t{total}\n"),
    });
    if prune.explain {
        text.push_str(&prune::kept(&report));
    }
    session.out.data(&text)?;
    prune::finish(session, &report, mode);
    Ok(Exit::SUCCESS)
}
