//! `strata commit`.

use strata::container::Container;
use strata::ops::commit::{CommitOptions, commit};

use super::background;
use super::command::{Arity, Command};
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::name;
use super::session::Session;

pub(crate) const COMMAND: Command = Command {
    names: &["container commit", "commit"],
    usage: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    about: "Create a new image from a container's changes",
    flags: &[
        Flag::one(
            "author",
            "string",
            "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")",
        )
        .short('a'),
        Flag::many(
            "change",
            "list",
            "Apply Dockerfile instruction to the created image",
        )
        .short('c'),
        Flag::one("message", "string", "Commit message").short('m'),
        Flag::switched_on(
            "pause",
            "Ignored: the container is not paused during commit",
        )
        .short('p'),
    ],
    arity: Arity::Between(1, 2),
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let name = match arguments.positional.get(1) {
        Some(text) => Some(name::parse(text)?.or_latest()),
        None => None,
    };
    let changes: Vec<String> = arguments.all("change").map(str::to_owned).collect();
    let engine = session.engine()?;
    let container = Container::find(engine.store(), &arguments.positional[0])?;
    let id = commit(
        engine,
        &container,
        &CommitOptions {
            name: name.as_ref(),
            changes: &changes,
            message: arguments.text("message").unwrap_or_default(),
            author: arguments.text("author").unwrap_or_default(),
        },
    )?;
    session.out.line(&id.to_string())?;
    background::tidy(session);
    Ok(Exit::SUCCESS)
}
