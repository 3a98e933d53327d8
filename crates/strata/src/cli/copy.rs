//! `strata copy`.

use std::sync::Mutex;

use strata::describe;
use strata::ops::copy::{Brought, PlaceCopy, copy};
use strata::ops::place::{Place, PlaceError};

use super::command::{Arity, Command};
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::name;
use super::output::Channel;
use super::progress::{Direction, Transfer};
use super::pull::{other_platform, show};
use super::session::Session;

pub(crate) const COMMAND: Command = Command {
    names: &["copy", "image copy"],
    usage: "[OPTIONS] SOURCE TARGET",
    about: "Copy an image between registries, OCI layouts and archives, without the store",
    flags: &[
        Flag::one(
            "platform",
            "string",
            "Copy only the image for this platform; without it, an index goes whole where it can",
        ),
        Flag::switch(
            "quiet",
            "Print only the digest, or the image's id for a docker-archive",
        )
        .short('q'),
    ],
    arity: Arity::Exactly(2),
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let from = place(&arguments.positional[0])?;
    let to = place(&arguments.positional[1])?;
    let platform = name::platform(arguments.text("platform"), session)?;
    let client = session.client()?;
    let is_quiet = arguments.is_on("quiet");
    let transfer = Transfer::new(Direction::Push, None, Channel::Stdout.columns());
    let transfer = Mutex::new(transfer);
    let copied = copy(
        &client,
        &PlaceCopy {
            from: &from,
            to: &to,
            platform: platform.clone(),
            spool: session.environment.spool.clone(),
            events: &|event| {
                if !is_quiet {
                    show(&transfer, &event, Channel::Stdout);
                }
            },
        },
    );
    let copied = copied.map_err(|error| CommandError::client(undoubled(&describe(&error))))?;
    if let (Some(found), Some(wanted)) = (&copied.other_platform, &platform) {
        session.out.talk(&other_platform(&from, found, wanted));
    }
    session.out.line(&match (copied.brought, is_quiet) {
        (Brought::Document { digest, .. }, true) => digest.to_string(),
        (Brought::Document { digest, size }, false) => format!("Digest: {digest} size: {size}"),
        (Brought::Image(id), true) => id.to_string(),
        (Brought::Image(id), false) => format!("Image ID: {id}"),
    })?;
    Ok(Exit::SUCCESS)
}

fn place(text: &str) -> Result<Place, CommandError> {
    Place::parse(text).map_err(|error| match error {
        PlaceError::Reference(error) => CommandError::reference(text, &error),
        error => CommandError::client(describe(&error)),
    })
}

/// Registries most often say the same twice, in a code and in words. Docker prints both.
fn undoubled(message: &str) -> String {
    let mut parts: Vec<&str> = message.split(": ").collect();
    parts.dedup();
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_twice_in_a_row() {
        assert_eq!(
            undoubled("a: manifest unknown: manifest unknown: a"),
            "a: manifest unknown: a"
        );
    }
}
