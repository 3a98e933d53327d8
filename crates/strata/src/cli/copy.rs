//! `strata copy`.

use std::sync::Mutex;

use store::Extent;
use strata::describe;
use strata::ops::copy::{Place, copy};

use super::command::{Arity, Command};
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::name;
use super::output::Channel;
use super::progress::{Direction, Transfer};
use super::pull::show;
use super::session::Session;

pub(crate) const COMMAND: Command = Command {
    names: &["copy", "image copy"],
    usage: "[OPTIONS] SOURCE TARGET",
    about: "Copy an image between registries and OCI layouts, without the store",
    flags: &[
        Flag::one(
            "platform",
            "string",
            "Copy only the image for this platform; without it, an index goes whole",
        ),
        Flag::switch("quiet", "Print only the digest").short('q'),
    ],
    arity: Arity::Exactly(2),
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let place =
        |text: &String| Place::parse(text).map_err(|error| CommandError::reference(text, &error));
    let from = place(&arguments.positional[0])?;
    let to = place(&arguments.positional[1])?;
    let extent = match arguments.text("platform") {
        None => Extent::Whole,
        platform => name::platform(platform, session)?.map_or(Extent::Whole, Extent::Platform),
    };
    let client = session.client()?;
    let is_quiet = arguments.is_on("quiet");
    let transfer = Transfer::new(Direction::Push, None, Channel::Stdout.columns());
    let transfer = Mutex::new(transfer);
    let copied = copy(&client, &from, &to, &extent, &|event| {
        if !is_quiet {
            show(&transfer, &event, Channel::Stdout);
        }
    })
    .map_err(|error| CommandError::client(describe(&error)))?;
    let text = match is_quiet {
        true => copied.digest.to_string(),
        false => format!("Digest: {} size: {}", copied.digest, copied.size),
    };
    session.out.line(&text)?;
    Ok(Exit::SUCCESS)
}
