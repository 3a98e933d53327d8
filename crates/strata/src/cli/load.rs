//! `strata load`.

use std::io;
use std::path::Path;

use strata::describe;
use strata::ops::load::{ArchiveInput, load};

use super::background;
use super::command::Command;
use super::error::{CommandError, Exit, os_text};
use super::flags::{Arguments, Flag};
use super::name;
use super::output::stdin_is_terminal;
use super::session::Session;

pub(crate) const COMMAND: Command = Command {
    names: &["image load", "load"],
    about: "Load an image from a tar archive or STDIN",
    flags: &[
        Flag::one(
            "input",
            "string",
            "Read from tar archive file, instead of STDIN",
        )
        .short('i'),
        Flag::one("platform", "string", "Load only the given platform variant"),
        Flag::switch("quiet", "Suppress the load output").short('q'),
    ],
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let platform = name::platform(arguments.text("platform"), session)?;
    let input = match arguments.text("input").filter(|path| *path != "-") {
        Some(path) => {
            // docker's words for a path that is not there.
            std::fs::metadata(path).map_err(|error| {
                CommandError::client(format!("open {path}: {}", os_text(&error)))
            })?;
            ArchiveInput::Path(Path::new(path))
        }
        None if stdin_is_terminal() => {
            return Err(CommandError::client(
                "requested load from stdin, but stdin is empty",
            ));
        }
        None => ArchiveInput::Stream(Box::new(io::stdin())),
    };
    // docker streams the errors of a load, so they come without the daemon's introduction.
    let loaded = load(session.engine()?, input, platform.as_ref(), &|_| {})
        .map_err(|error| CommandError::client(describe(&error)).caused_by(&error))?;
    let mut text = String::new();
    for image in loaded {
        for name in &image.names {
            text.push_str(&format!("Loaded image: {}\n", name.familiar()));
        }
        if image.names.is_empty() {
            text.push_str(&format!("Loaded image ID: {}\n", image.id));
        }
    }
    session.out.data(&text)?;
    background::tidy(session);
    Ok(Exit::SUCCESS)
}
