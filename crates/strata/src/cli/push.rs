//! `strata push`.

use std::sync::Mutex;

use oci::Reference;
use strata::ops::push::{PushError, local_tags, push};

use super::command::{Arity, Command};
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::name;
use super::output::Channel;
use super::progress::{Direction, Transfer};
use super::pull::show;
use super::session::Session;

pub(crate) const COMMAND: Command = Command {
    names: &["image push", "push"],
    usage: "[OPTIONS] NAME[:TAG]",
    about: "Upload an image to a registry",
    flags: &[
        Flag::switch("all-tags", "Push all tags of an image to the repository").short('a'),
        Flag::switched_on("disable-content-trust", "Skip image signing"),
        Flag::switch("quiet", "Suppress verbose output").short('q'),
    ],
    refused: &["platform"],
    arity: Arity::Exactly(1),
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let given = name::parse(&arguments.positional[0])?;
    let is_quiet = arguments.is_on("quiet");
    let all = arguments.is_on("all-tags");
    if given.digest().is_some() {
        return Err(CommandError::client("cannot push a digest reference"));
    }
    if all && given.tag().is_some() {
        return Err(CommandError::client("tag can't be used with --all-tags/-a"));
    }
    let name = match all {
        true => given.clone(),
        false => given.clone().or_latest(),
    };
    if !is_quiet {
        if name != given {
            session.out.line("Using default tag: latest")?;
        }
        session.out.line(&format!(
            "The push refers to repository [{}]",
            given.repository()
        ))?;
    }
    let names = match all {
        true => local_tags(session.store()?, &given).map_err(unprefixed)?,
        false => vec![name],
    };
    for name in &names {
        push_one(name, is_quiet, session)?;
    }
    if is_quiet {
        session.out.line(&given.to_string())?;
    }
    Ok(Exit::SUCCESS)
}

fn push_one(name: &Reference, is_quiet: bool, session: &mut Session) -> Result<(), CommandError> {
    let columns = Channel::Stdout.columns();
    let transfer = Mutex::new(Transfer::new(Direction::Push, None, columns));
    let copied = push(session.engine()?, name, &|event| {
        if !is_quiet {
            show(&transfer, &event, Channel::Stdout);
        }
    })
    .map_err(unprefixed)?;
    if !is_quiet {
        session.out.line(&format!(
            "{}: digest: {} size: {}",
            name.tag().unwrap_or_default(),
            copied.manifest.digest,
            copied.manifest.size
        ))?;
    }
    Ok(())
}

/// docker streams the errors of a push, so they come without the daemon's introduction.
fn unprefixed(error: PushError) -> CommandError {
    CommandError::client(strata::describe(&error))
}
