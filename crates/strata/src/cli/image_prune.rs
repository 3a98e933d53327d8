//! `strata image prune`.

use store::{Prune, PruneScope};
use strata::ops::image_filter::{ImageFilter, Purpose};

use super::command::Command;
use super::confirm::confirm;
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::prune::{self, Limits, Mode};
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
    let parsed = ImageFilter::parse(arguments.all("filter"), Purpose::Prune, units::now())?;
    let limits = Limits::parse(arguments)?;
    let scope = match limits.any() || arguments.is_on("all") || parsed.dangling == Some(false) {
        true => PruneScope::Unused,
        false => PruneScope::Dangling,
    };
    let mode = Mode::of(arguments);
    let what = match scope {
        PruneScope::Unused => "all images without at least one container associated to them",
        PruneScope::Dangling => "all dangling images",
    };
    if mode == Mode::Remove
        && !arguments.is_on("force")
        && !confirm(
            session,
            &format!("WARNING! This will remove {what}.{}", limits.warning()),
        )?
    {
        return Ok(Exit::SUCCESS);
    }
    let prune = Prune {
        images: Some(prune::filter(&parsed, scope, &limits)),
        target: limits.target,
        explain: arguments.is_on("why"),
        ..Prune::default()
    };
    let report = prune::perform(session, &prune, mode)?;
    let mut text = prune::text(&report, mode);
    if prune.explain {
        text.push_str(&prune::kept(&report));
    }
    session.out.data(&text)?;
    prune::finish(session, &report, mode);
    Ok(Exit::SUCCESS)
}
