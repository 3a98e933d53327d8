//! `strata rm` and `strata container prune`.

use store::ContainerError;
use strata::container::status::Status;
use strata::container::{Container, FindError};
use strata::ops::remove::{Force, remove, remove_forcibly};

use super::background;
use super::command::{Arity, Command};
use super::confirm::confirm;
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::session::Session;

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
    flags: &[Flag::switch("force", "Do not prompt for confirmation").short('f')],
    refused: &["filter"],
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
    if !arguments.is_on("force")
        && !confirm(session, "WARNING! This will remove all stopped containers.")?
    {
        return Ok(Exit::SUCCESS);
    }
    let store = session.store()?;
    let mut removed = String::new();
    for record in store.containers()? {
        if matches!(Status::of(store, &record), Status::Running { .. }) {
            continue;
        }
        let container = Container::from_record(record)?;
        remove(store, &container)?;
        removed.push_str(&container.record.id);
        removed.push('\n');
    }
    if !removed.is_empty() {
        removed = format!("Deleted Containers:\n{removed}\n");
    }
    session
        .out
        .data(&format!("{removed}Total reclaimed space: 0B\n"))?;
    background::tidy(session);
    Ok(Exit::SUCCESS)
}
