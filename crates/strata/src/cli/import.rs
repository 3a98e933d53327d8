//! `strata import`.

use std::fs::File;
use std::io::{self, Read};

use oci::Platform;
use strata::ops::import::{ImportOptions, import};

use super::background;
use super::command::{Arity, Command};
use super::error::{CommandError, Exit, os_text};
use super::flags::{Arguments, Flag};
use super::name;
use super::session::Session;

pub(crate) const COMMAND: Command = Command {
    names: &["image import", "import"],
    usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    about: "Import the contents from a tarball to create a filesystem image",
    flags: &[
        Flag::many(
            "change",
            "list",
            "Apply Dockerfile instruction to the created image",
        )
        .short('c'),
        Flag::one("message", "string", "Set commit message for imported image").short('m'),
        Flag::one(
            "platform",
            "string",
            "Set platform if server is multi-platform capable",
        ),
    ],
    arity: Arity::AtLeast(1),
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let source = arguments.positional[0].as_str();
    let name = match arguments.positional.get(1) {
        Some(text) => Some(name::parse(text)?.or_latest()),
        None => None,
    };
    let platform = name::platform(arguments.text("platform"), session)?;
    let platform = platform.unwrap_or_else(Platform::host);
    let changes: Vec<String> = arguments.all("change").map(str::to_owned).collect();
    let is_url = source.starts_with("http://") || source.starts_with("https://");
    let engine = session.engine()?;
    let tar: Box<dyn Read + Send> =
        match source {
            "-" => Box::new(io::stdin()),
            url if is_url => Box::new(engine.client()?.download(url)?),
            path => Box::new(File::open(path).map_err(|error| {
                CommandError::client(format!("open {path}: {}", os_text(&error)))
            })?),
        };
    // docker's client sends a file as a stream, so that is what its history says.
    let origin = if is_url { source } else { "-" };
    let default_message = format!("Imported from {origin}");
    let message = arguments.text("message").unwrap_or(&default_message);
    let options = ImportOptions {
        name: name.as_ref(),
        changes: &changes,
        message,
        platform: &platform,
    };
    let id = import(engine.store(), tar, &options)?;
    session.out.line(&id.to_string())?;
    background::tidy(session);
    Ok(Exit::SUCCESS)
}
