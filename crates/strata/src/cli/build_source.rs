//! Where a build reads its Dockerfile and its context.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::build::{failed, open_error};
use super::error::CommandError;

/// A Dockerfile from standard input may be this long.
const MAX_INPUT: u64 = 16 << 20;

/// What the arguments say to build.
pub(super) struct Source {
    pub(super) dockerfile: Vec<u8>,
    pub(super) name: String,
    pub(super) path: Option<PathBuf>,
    pub(super) context: Option<PathBuf>,
}

/// Finds the Dockerfile and the context that `context` and `--file` name.
pub(super) fn source(context: &str, file: Option<&str>) -> Result<Source, CommandError> {
    let from_input = || -> Result<Vec<u8>, CommandError> {
        let mut text = Vec::new();
        io::stdin().lock().take(MAX_INPUT).read_to_end(&mut text)?;
        if is_archive(&text) {
            return Err(failed(
                "unable to prepare context: a tar from standard input is not supported yet",
            ));
        }
        Ok(text)
    };
    if context == "-" {
        return Ok(Source {
            dockerfile: from_input()?,
            name: "Dockerfile".to_owned(),
            path: None,
            context: None,
        });
    }
    if context.contains("://") || context.starts_with("git@") || context.starts_with("github.com/")
    {
        return Err(failed(&format!(
            "unable to prepare context: remote context {context} is not supported yet"
        )));
    }
    let directory = Path::new(context);
    if !directory.is_dir() {
        return Err(failed(&format!(
            "unable to prepare context: path {context:?} not found"
        )));
    }
    if file == Some("-") {
        return Ok(Source {
            dockerfile: from_input()?,
            name: "Dockerfile".to_owned(),
            path: None,
            context: Some(directory.to_owned()),
        });
    }
    let path = match file.filter(|file| !file.is_empty()) {
        Some(file) => PathBuf::from(file),
        None => default_dockerfile(directory),
    };
    let name = path
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let dockerfile = fs::read(&path).map_err(|error| {
        let shown = file.unwrap_or(&name);
        failed(&format!(
            "failed to solve: failed to read dockerfile: {}",
            open_error(shown, &error)
        ))
    })?;
    Ok(Source {
        dockerfile,
        name,
        path: Some(path),
        context: Some(directory.to_owned()),
    })
}

/// docker takes `dockerfile` where there is no `Dockerfile`.
fn default_dockerfile(directory: &Path) -> PathBuf {
    let usual = directory.join("Dockerfile");
    let lower = directory.join("dockerfile");
    match !usual.exists() && lower.exists() {
        true => lower,
        false => usual,
    }
}

/// gzip, bzip2, xz, or the magic of a tar's first header.
fn is_archive(text: &[u8]) -> bool {
    const TAR_MAGIC: usize = 257;
    text.starts_with(&[0x1f, 0x8b])
        || text.starts_with(b"BZh")
        || text.starts_with(&[0xfd, b'7', b'z', b'X', b'Z'])
        || text
            .get(TAR_MAGIC..)
            .is_some_and(|rest| rest.starts_with(b"ustar"))
}
