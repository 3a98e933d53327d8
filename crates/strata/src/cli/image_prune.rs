//! `strata image prune`.

use store::{Prune, PruneScope};
use strata::ops::image_filter::{ImageFilter, Purpose};

use super::command::Command;
use super::confirm::confirm;
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::prune::{self, Mode};
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
    ],
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let parsed = ImageFilter::parse(arguments.all("filter"), Purpose::Prune, units::now())?;
    let scope = match arguments.is_on("all") || parsed.dangling == Some(false) {
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
        && !confirm(session, &format!("WARNING! This will remove {what}."))?
    {
        return Ok(Exit::SUCCESS);
    }
    let prune = Prune {
        images: Some(prune::filter(&parsed, scope)),
        ..Prune::default()
    };
    let store = session.store()?;
    let report = match mode {
        Mode::Remove => store.prune(&prune)?,
        Mode::Tell => store.rehearse_prune(&prune)?,
    };
    session.out.data(&prune::text(&report, mode))?;
    prune::finish(session, &report, mode);
    Ok(Exit::SUCCESS)
}
