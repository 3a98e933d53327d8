//! `strata export`.

use strata::container::Container;
use strata::ops::export::export;

use super::archive_output;
use super::command::{Arity, Command};
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::session::Session;

pub(crate) const COMMAND: Command = Command {
    names: &["container export", "export"],
    usage: "[OPTIONS] CONTAINER",
    about: "Export a container's filesystem as a tar archive",
    flags: &[Flag::one("output", "string", "Write to a file, instead of STDOUT").short('o')],
    arity: Arity::Exactly(1),
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let store = session.store()?;
    let container = Container::find(store, &arguments.positional[0])?;
    archive_output::write(arguments.text("output"), "export", |file| {
        Ok(export(store, &container, file)?)
    })?;
    Ok(Exit::SUCCESS)
}
