//! Where archives go: to a file, or to standard output unless that is a terminal.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::error::{CommandError, os_text};
use super::output::stdout_is_terminal;

/// Has an archive written to the file `path`, or to standard output. `verb` is what the command
/// does.
pub(crate) fn write(
    path: Option<&str>,
    verb: &str,
    write: impl FnOnce(&mut File) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    match path.filter(|path| !path.is_empty()) {
        Some(path) => to_file(Path::new(path), write),
        None if stdout_is_terminal() => Err(CommandError::client(format!(
            "cowardly refusing to {verb} to a terminal. Use the -o flag or redirect"
        ))),
        None => {
            let stdout = io::stdout().as_fd().try_clone_to_owned()?;
            write(&mut File::from(stdout))
        }
    }
}

/// Makes a file that only its owner can read, as docker does: an image can hold secrets. Of a file
/// or link that is there, nothing is kept.
fn create(path: &Path) -> io::Result<File> {
    let create = || {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(path)
    };
    match create() {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            create()
        }
        result => result,
    }
}

/// Writes beside `path` and renames: a reader never sees half an archive, and a failure leaves
/// what was there. What is no regular file, such as a pipe, is written to directly.
fn to_file(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let failed = |error: &io::Error| {
        CommandError::client(format!("open {}: {}", path.display(), os_text(error)))
    };
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        let mut file = OpenOptions::new()
            .write(true)
            .open(path)
            .map_err(|error| failed(&error))?;
        return write(&mut file);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let mut file = create(&partial).map_err(|error| failed(&error))?;
    let written = write(&mut file);
    if written.is_err() {
        fs::remove_file(&partial)?;
    }
    written?;
    fs::rename(&partial, path).map_err(|error| failed(&error))
}
