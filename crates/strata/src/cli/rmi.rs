//! `strata rmi`.

use store::{Force, Removal, RemoveError, ResolveError};

use super::background;
use super::command::{Arity, Command};
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::name;
use super::session::Session;

pub(crate) const COMMAND: Command = Command {
    names: &["image rm", "image remove", "rmi"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Remove one or more images",
    flags: &[
        Flag::switch("force", "Force removal of the image").short('f'),
        Flag::switch("no-prune", "Do not delete untagged parents"),
    ],
    refused: &["platform"],
    arity: Arity::AtLeast(1),
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let force = match arguments.is_on("force") {
        true => Force::Yes,
        false => Force::No,
    };
    let exit = session.each(&arguments.positional, |target, session| {
        let removals = match session.store()?.remove_image(target, force) {
            Ok(removals) => removals,
            // What is not there needs no force to be gone.
            Err(RemoveError::Resolve(error @ ResolveError::NotFound { .. }))
                if force == Force::Yes =>
            {
                return Err(CommandError::from(error).exit(Exit::SUCCESS));
            }
            Err(RemoveError::Resolve(error)) => return Err(name::unresolved(target, error)),
            Err(error) => return Err(error.into()),
        };
        let mut text = String::new();
        for removal in removals {
            text.push_str(&match removal {
                Removal::Untagged(name) => format!("Untagged: {name}\n"),
                Removal::Deleted(digest) => format!("Deleted: {digest}\n"),
            });
        }
        session.out.data(&text)?;
        Ok(())
    });
    background::sweep(session);
    Ok(exit)
}
