//! `strata rm` and `strata container prune`.

use store::ContainerError;
use strata::container::{Container, FindError};
use strata::ops::image_filter::{ImageFilter, Purpose};
use strata::ops::prune::stopped;
use strata::ops::remove::{Force, remove_forcibly};

use super::background;
use super::command::{Arity, Command};
use super::confirm::confirm;
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::prune::{self, Mode};
use super::session::Session;
use super::units;

pub(crate) const RM: Command = Command {
    names: &["container rm", "container remove", "rm"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Remove one or more containers",
    flags: &[
        Flag::switch(
            "force",
            "Force the removal of a running container (uses SIGKILL)",
        )
        .short('f'),
        Flag::switch(
            "volumes",
            "Remove anonymous volumes associated with the container",
        )
        .short('v'),
    ],
    refused: &["link"],
    arity: Arity::AtLeast(1),
    run,
    ..Command::DEFAULT
};

pub(crate) const PRUNE: Command = Command {
    names: &["container prune"],
    about: "Remove all stopped containers",
    flags: &[
        Flag::many(
            "filter",
            "filter",
            "Provide filter values (e.g. \"until=<timestamp>\")",
        ),
        prune::DRY_RUN,
        prune::FORCE,
    ],
    run: run_prune,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let force = match arguments.is_on("force") {
        true => Force::Yes,
        false => Force::No,
    };
    let exit = session.each(&arguments.positional, |word, session| {
        let store = session.store()?;
        let container = match Container::find(store, word) {
            // What is not there needs no force to be gone.
            Err(error @ FindError::Container(ContainerError::NotFound(_)))
                if force == Force::Yes =>
            {
                return Err(CommandError::from(error).exit(Exit::SUCCESS));
            }
            found => found?,
        };
        remove_forcibly(store, &container, force)?;
        session.out.line(word)?;
        Ok(())
    });
    background::tidy(session);
    Ok(exit)
}

fn run_prune(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let filters = arguments.all("filter");
    let filter = ImageFilter::parse(filters, Purpose::PruneContainers, units::now())?;
    let mode = Mode::of(arguments);
    if mode == Mode::Remove
        && !arguments.is_on("force")
        && !confirm(session, "WARNING! This will remove all stopped containers.")?
    {
        return Ok(Exit::SUCCESS);
    }
    let store = session.store()?;
    let containers = stopped(store, &filter, None)?;
    let report = match mode {
        Mode::Remove => store.prune_containers(&containers)?,
        Mode::Tell => store.rehearse_prune_containers(&containers)?,
    };
    session.out.data(&prune::text(&report, mode))?;
    prune::finish(session, &report, mode);
    Ok(Exit::SUCCESS)
}
