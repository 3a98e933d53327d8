//! `strata save`.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd as _;
use std::path::Path;

use strata::ops::save::{SaveError, save};

use super::command::{Arity, Command};
use super::error::{CommandError, Exit, os_text};
use super::flags::{Arguments, Flag};
use super::output::stdout_is_terminal;
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
    match arguments.text("output").filter(|path| !path.is_empty()) {
        Some(path) => to_file(Path::new(path), |file| {
            save(store, &arguments.positional, file)
        })?,
        None if stdout_is_terminal() => {
            return Err(CommandError::client(
                "cowardly refusing to save to a terminal. Use the -o flag or redirect",
            ));
        }
        None => {
            let mut stdout = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
            save(store, &arguments.positional, &mut stdout)?;
        }
    }
    Ok(Exit::SUCCESS)
}

/// Writes beside `path` and renames: a reader never sees half an archive, and a failure leaves
/// what was there. What is no regular file, such as a pipe, is written to directly.
fn to_file(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), SaveError>,
) -> Result<(), CommandError> {
    let failed = |error: &std::io::Error| {
        CommandError::client(format!("open {}: {}", path.display(), os_text(error)))
    };
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        let mut file = OpenOptions::new()
            .write(true)
            .open(path)
            .map_err(|error| failed(&error))?;
        return Ok(write(&mut file)?);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let mut file = File::create(&partial).map_err(|error| failed(&error))?;
    let written = write(&mut file);
    if written.is_err() {
        fs::remove_file(&partial)?;
    }
    written?;
    fs::rename(&partial, path).map_err(|error| failed(&error))
}
