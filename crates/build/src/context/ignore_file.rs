//! Finding `.dockerignore`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dockerfile::ignore::Patterns;

use super::ContextError;

/// The name in a context.
const NAME: &str = ".dockerignore";

/// Reads `<Dockerfile>.dockerignore`, or else `.dockerignore` of the context.
pub(crate) fn read_patterns(
    dockerfile: Option<&Path>,
    context: Option<&Path>,
) -> Result<Patterns, ContextError> {
    let beside = dockerfile.map(|path| {
        let mut name = OsString::from(path);
        name.push(NAME);
        PathBuf::from(name)
    });
    let candidates = [beside, context.map(|path| path.join(NAME))];
    for path in candidates.into_iter().flatten() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match fs::read(&path) {
            Ok(text) => {
                return Patterns::parse(&text).map_err(|source| ContextError::Ignore {
                    name: name.into_owned(),
                    source,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ContextError::read(name.as_bytes(), error)),
        }
    }
    Ok(Patterns::default())
}
