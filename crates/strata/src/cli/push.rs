//! `strata push`.

use std::sync::Mutex;

use layer::Compression;
use oci::{Platform, Reference};
use strata::ops::push::{PushError, Wanted, local_tags, push};

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
        Flag::one(
            "compression",
            "string",
            "Compress layers as gzip[:1-12] or zstd[:1-19]; without it, those that are compressed already go as they are, others as gzip:2",
        ),
        Flag::switched_on("disable-content-trust", "Skip image signing"),
        Flag::one(
            "platform",
            "string",
            "Push only the image for this platform; without it, an index goes whole",
        ),
        Flag::switch("quiet", "Suppress verbose output").short('q'),
    ],
    arity: Arity::Exactly(1),
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let given = name::parse(&arguments.positional[0])?;
    let is_quiet = arguments.is_on("quiet");
    let all = arguments.is_on("all-tags");
    let wanted = match arguments.text("compression") {
        Some(text) => compression(text).ok_or_else(|| {
            let formats = "must be gzip, gzip:1 to gzip:12, zstd, or zstd:1 to zstd:19";
            arguments.invalid("compression", text, formats)
        })?,
        None => Wanted::Any,
    };
    let platform = match arguments.text("platform") {
        None => None,
        text => name::platform(text, session)?,
    };
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
        false => vec![name.clone()],
    };
    for name in &names {
        push_one(name, platform.as_ref(), wanted, is_quiet, session)?;
    }
    if is_quiet {
        session.out.line(&name.to_string())?;
    }
    Ok(Exit::SUCCESS)
}

/// The level that a format has when none is given.
const ZSTD_LEVEL: i32 = 3;

/// Reads a format and, perhaps, a level.
pub(super) fn compression(text: &str) -> Option<Wanted> {
    let (format, level) = match text.split_once(':') {
        Some((format, level)) => (format, Some(level.parse::<i32>().ok()?)),
        None => (text, None),
    };
    let compression = match (format, level) {
        ("gzip", None) => Compression::DEFAULT,
        ("gzip", Some(level @ 1..=12)) => Compression::Gzip { level },
        ("zstd", None) => Compression::Zstd { level: ZSTD_LEVEL },
        ("zstd", Some(level @ 1..=19)) => Compression::Zstd { level },
        _ => return None,
    };
    Some(match level {
        Some(_) => Wanted::Exactly(compression),
        None => Wanted::Format(compression),
    })
}

fn push_one(
    name: &Reference,
    platform: Option<&Platform>,
    wanted: Wanted,
    is_quiet: bool,
    session: &mut Session,
) -> Result<(), CommandError> {
    let columns = Channel::Stdout.columns();
    let transfer = Mutex::new(Transfer::new(Direction::Push, None, columns));
    let pushed = push(session.engine()?, name, platform, wanted, &|event| {
        if !is_quiet {
            show(&transfer, &event, Channel::Stdout);
        }
    })
    .map_err(unprefixed)?;
    if !is_quiet {
        session.out.line(&format!(
            "{}: digest: {} size: {}",
            name.tag().unwrap_or_default(),
            pushed.digest,
            pushed.size
        ))?;
    }
    Ok(())
}

/// docker streams the errors of a push, so they come without the daemon's introduction.
fn unprefixed(error: PushError) -> CommandError {
    CommandError::client(strata::describe(&error)).caused_by(&error)
}
