//! Finding `.dockerignore`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use dockerfile::ignore::Patterns;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::ContextError;
use crate::DockerfilePlace;

/// The name in a context.
const NAME: &str = ".dockerignore";
/// A longer file is an error: every pattern costs time for every file of the context.
const MAX_SIZE: u64 = 1 << 20;

/// Reads `<Dockerfile>.dockerignore`, or else `.dockerignore` of the context. The context may
/// come from anywhere: links in it do not lead out of it.
pub(crate) fn read_patterns(
    dockerfile: &DockerfilePlace,
    context: Option<&Path>,
) -> Result<Patterns, ContextError> {
    let beside = |path: &Path| {
        let mut name = OsString::from(path);
        name.push(NAME);
        PathBuf::from(name)
    };
    let found = match (dockerfile, context) {
        (DockerfilePlace::File(path), _) => {
            let path = beside(path);
            parse(&path, File::open(&path))?
        }
        (DockerfilePlace::Context(path), Some(context)) => {
            let path = beside(path);
            parse(&path, open_inside(context, &path))?
        }
        (DockerfilePlace::Nowhere | DockerfilePlace::Context(_), _) => None,
    };
    if let Some(patterns) = found {
        return Ok(patterns);
    }
    let name = Path::new(NAME);
    let inside = context.map(|context| parse(name, open_inside(context, name)));
    Ok(inside.transpose()?.flatten().unwrap_or_default())
}

fn open_inside(context: &Path, path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, context, flags | OFlags::DIRECTORY, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::NONBLOCK;
    let file = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?;
    Ok(File::from(file))
}

/// Parses a file; `None` when there is none.
fn parse(path: &Path, file: io::Result<File>) -> Result<Option<Patterns>, ContextError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fault = |error: io::Error| ContextError::read(name.as_bytes(), error);
    let file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    let metadata = file.metadata().map_err(fault)?;
    if !metadata.is_file() || metadata.len() > MAX_SIZE {
        let message = format!("expected a regular file of at most {MAX_SIZE} bytes");
        return Err(fault(io::Error::new(io::ErrorKind::InvalidData, message)));
    }
    let mut text = Vec::new();
    file.take(MAX_SIZE).read_to_end(&mut text).map_err(fault)?;
    let patterns = Patterns::parse(&text).map_err(|source| ContextError::Ignore {
        name: name.clone().into_owned(),
        line: line_of(&text),
        source,
    })?;
    Ok(Some(patterns))
}

/// Returns the first line that is no pattern.
fn line_of(text: &[u8]) -> usize {
    let lines = text.split(|b| *b == b'\n');
    let wrong = lines.map(Patterns::parse).position(|line| line.is_err());
    wrong.unwrap_or_default() + 1
}
