//! `strata save`.

use strata::ops::save::save;

use super::archive_output;
use super::command::{Arity, Command};
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::session::Session;

pub(crate) const COMMAND: Command = Command {
    names: &["image save", "save"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Save one or more images to a tar archive (streamed to STDOUT by default)",
    flags: &[Flag::one("output", "string", "Write to a file, instead of STDOUT").short('o')],
    refused: &["platform"],
    arity: Arity::AtLeast(1),
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let store = session.store()?;
    archive_output::write(arguments.text("output"), "save", |file| {
        Ok(save(store, &arguments.positional, file)?)
    })?;
    Ok(Exit::SUCCESS)
}
