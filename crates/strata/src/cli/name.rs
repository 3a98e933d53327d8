//! Image names on the command line.

use oci::{Platform, Reference};
use store::{ImageRecord, ResolveError, Store};

use super::error::CommandError;
use super::session::Session;

/// Reads an image name as docker's client does.
pub(crate) fn parse(text: &str) -> Result<Reference, CommandError> {
    Reference::parse(text).map_err(|error| CommandError::reference(text, &error))
}

/// Finds the image that `text` means.
pub(crate) fn resolve(store: &Store, text: &str) -> Result<ImageRecord, CommandError> {
    store.resolve(text).map_err(|error| unresolved(text, error))
}

/// Returns the error that `text` leads to no image.
pub(crate) fn unresolved(text: &str, error: ResolveError) -> CommandError {
    match error {
        ResolveError::Invalid(error) => {
            CommandError::reference_in(format!("Error response from daemon: {error}"), text)
        }
        ResolveError::Gone(gone) => {
            let error = CommandError::daemon(gone.to_string());
            match (&gone.origin, gone.operation) {
                (Some(origin), _) => {
                    error.hint(format!("to get it back: pull {}", origin.familiar()))
                }
                (None, Some(operation)) => error.hint(format!(
                    "to get it back while its layers are here: undo {operation}"
                )),
                (None, None) => error,
            }
        }
        other => other.into(),
    }
}

/// Reads the name that an image gets: a tag, not a digest.
pub(crate) fn parse_tag(text: &str) -> Result<Reference, CommandError> {
    let name = Reference::parse(text).map_err(|error| {
        let message =
            format!("Error parsing reference: {text:?} is not a valid repository/tag: {error}");
        CommandError::reference_in(message, text)
    })?;
    if name.digest().is_some() {
        return Err(CommandError::daemon(
            "refusing to create a tag with a digest reference",
        ));
    }
    if name.familiar_repository() == "sha256" {
        return Err(CommandError::daemon(
            "refusing to create an ambiguous tag using digest algorithm as name",
        ));
    }
    Ok(name.or_latest())
}

/// Reads `--platform`, else the platform that the surroundings name.
pub(crate) fn platform(
    flag: Option<&str>,
    session: &Session,
) -> Result<Option<Platform>, CommandError> {
    let text = flag.or(session.environment.platform.as_deref());
    match text.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|error: oci::PlatformError| CommandError::client(error.to_string())),
    }
}
