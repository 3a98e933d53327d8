//! Where a build reads its Dockerfile and its context.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use build::{DockerfilePlace, GitSource, NamedContext, context_name};
use oci::Reference;
use store::Pick;
use strata::describe;
use strata::ops::build_context::{RemoteContext, RemoteContextError};
use strata::ops::git::Wish;

use super::build::{failed, open_error};
use super::error::CommandError;
use super::flags::Arguments;
use super::session::Session;

/// A Dockerfile may be this long.
const MAX_DOCKERFILE: u64 = 16 << 20;
/// As much of an archive as tells that it is one.
const HEAD: u64 = 512;

/// What the arguments say to build.
pub(super) struct Source {
    pub(super) dockerfile: Vec<u8>,
    pub(super) name: String,
    pub(super) place: DockerfilePlace,
    pub(super) context: Option<PathBuf>,
    /// What was fetched; the context is in it.
    pub(super) remote: Option<RemoteContext>,
}

/// Finds the Dockerfile and the context that `context` and `--file` name.
pub(super) fn source(
    context: &str,
    arguments: &Arguments,
    session: &Session,
) -> Result<Source, CommandError> {
    let file = arguments.text("file").filter(|file| !file.is_empty());
    if context == "-" {
        if file == Some("-") {
            return Err(failed(
                "invalid argument: can't use stdin for both build context and dockerfile",
            ));
        }
        return of_stream(Box::new(io::stdin()), file, session);
    }
    if let Some(repository) = GitSource::parse_context(context) {
        let repository = repository.map_err(|error| unprepared(&error))?;
        let wish = wish(&repository, arguments);
        let cloned = RemoteContext::clone_git(session.store()?, &repository, &wish);
        return of_remote(cloned.map_err(|error| unprepared(&error))?, file);
    }
    if context.starts_with("http://") || context.starts_with("https://") {
        let client = session.engine()?.client()?;
        return of_stream(Box::new(client.download(context)?), file, session);
    }
    let directory = Path::new(context);
    if !directory.is_dir() {
        return Err(failed(&format!(
            "unable to prepare context: path {context:?} not found"
        )));
    }
    if file == Some("-") {
        return Ok(Source {
            context: Some(directory.to_owned()),
            ..of_text(read_text(Box::new(io::stdin()))?)
        });
    }
    let path = match file {
        Some(file) => PathBuf::from(file),
        None => default_dockerfile(directory),
    };
    let name = file_name(&path);
    let dockerfile = fs::read(&path).map_err(|error| unreadable(file.unwrap_or(&name), &error))?;
    Ok(Source {
        dockerfile,
        name,
        place: DockerfilePlace::File(path),
        context: Some(directory.to_owned()),
        remote: None,
    })
}

/// Reads `--build-context`; what had to be fetched stays as long as what comes with the contexts.
pub(super) fn named_contexts(
    arguments: &Arguments,
    session: &Session,
) -> Result<(BTreeMap<String, NamedContext>, Vec<RemoteContext>), CommandError> {
    let mut contexts = BTreeMap::new();
    let mut fetched = Vec::new();
    for text in arguments.all("build-context") {
        let Some((name, value)) = text.split_once('=') else {
            return Err(failed(&format!(
                "invalid context value: {text}, expected key=value"
            )));
        };
        let Some(name) = context_name(name) else {
            return Err(failed(&format!("invalid context name {name}")));
        };
        let mut keep = |remote: Result<RemoteContext, RemoteContextError>| {
            let remote = remote.map_err(|error| context_failed(&name, &describe(&error)))?;
            let directory = remote.directory().to_owned();
            fetched.push(remote);
            Ok::<_, CommandError>(NamedContext::Directory(directory))
        };
        let context = if let Some(image) = value.strip_prefix("docker-image:") {
            image_context(&name, image.trim_start_matches("//"))?
        } else if let Some(path) = value.strip_prefix("oci-layout:") {
            layout_context(&name, path.trim_start_matches("//"))?
        } else if let Some(repository) = GitSource::parse(value) {
            let repository =
                repository.map_err(|error| context_failed(&name, &error.to_string()))?;
            let wish = wish(&repository, arguments);
            keep(RemoteContext::clone_git(
                session.store()?,
                &repository,
                &wish,
            ))?
        } else if value.starts_with("http://") || value.starts_with("https://") {
            let download = session.engine()?.client()?.download(value)?;
            keep(RemoteContext::download(session.store()?, download))?
        } else if ["target:", "input:"]
            .iter()
            .any(|kind| value.starts_with(kind))
        {
            return Err(context_failed(&name, "only docker's bake knows targets"));
        } else {
            let path = PathBuf::from(value);
            if !path.is_dir() {
                return Err(context_failed(&name, &format!("no directory {value:?}")));
            }
            NamedContext::Directory(path)
        };
        contexts.insert(name, context);
    }
    Ok((contexts, fetched))
}

fn context_failed(name: &str, reason: &str) -> CommandError {
    failed(&format!("failed to get build context {name}: {reason}"))
}

fn image_context(name: &str, image: &str) -> Result<NamedContext, CommandError> {
    if image == "scratch" {
        return Ok(NamedContext::Scratch);
    }
    let reference = Reference::parse(image)
        .map_err(|error| context_failed(name, &format!("invalid image name {image:?}: {error}")))?;
    Ok(NamedContext::Image(reference.or_latest()))
}

/// Reads `PATH[:TAG][@DIGEST]`.
fn layout_context(name: &str, layout: &str) -> Result<NamedContext, CommandError> {
    let (path, digest) = match layout.split_once('@') {
        Some((path, digest)) => (path, Some(digest)),
        None => (layout, None),
    };
    let last = path.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match path[last..].split_once(':') {
        Some((file, tag)) => (&path[..last + file.len()], tag),
        None => (path, "latest"),
    };
    let pick = match digest {
        None => Pick::Name(tag.to_owned()),
        Some(digest) => Pick::Digest(digest.parse().map_err(|error| {
            context_failed(name, &format!("invalid digest {digest:?}: {error}"))
        })?),
    };
    Ok(NamedContext::Layout(PathBuf::from(path), pick))
}

/// Reads an archive, which is the context, or else a Dockerfile without one.
fn of_stream(
    mut stream: Box<dyn Read + Send>,
    file: Option<&str>,
    session: &Session,
) -> Result<Source, CommandError> {
    let mut head = Vec::new();
    stream.by_ref().take(HEAD).read_to_end(&mut head)?;
    let is_context = is_archive(&head);
    let whole: Box<dyn Read + Send> = Box::new(io::Cursor::new(head).chain(stream));
    if !is_context {
        return Ok(of_text(read_text(whole)?));
    }
    let unpacked = RemoteContext::unpack(session.store()?, whole);
    of_remote(unpacked.map_err(|error| unprepared(&error))?, file)
}

fn unprepared(error: &(dyn Error + 'static)) -> CommandError {
    failed(&format!("unable to prepare context: {}", describe(error)))
}

/// docker keeps `.git` of a context when an argument of the build says so.
fn wish(repository: &GitSource, arguments: &Arguments) -> Wish<'static> {
    let mut given = arguments.all("build-arg");
    let is_kept = given.any(|it| it == "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1");
    Wish {
        commit: None,
        keep_git_dir: repository.keep_git_dir.unwrap_or(is_kept),
    }
}

/// Finds the Dockerfile in a context that was fetched.
fn of_remote(remote: RemoteContext, file: Option<&str>) -> Result<Source, CommandError> {
    let (dockerfile, path) = match file {
        Some("-") => {
            return Ok(Source {
                context: Some(remote.directory().to_owned()),
                remote: Some(remote),
                ..of_text(read_text(Box::new(io::stdin()))?)
            });
        }
        Some(file) => (read_remote(&remote, file)?, file),
        None => match read_remote(&remote, "Dockerfile")? {
            Some(text) => (Some(text), "Dockerfile"),
            None => (read_remote(&remote, "dockerfile")?, "dockerfile"),
        },
    };
    let Some(dockerfile) = dockerfile else {
        let missing = io::Error::from(rustix::io::Errno::NOENT);
        return Err(unreadable(file.unwrap_or("Dockerfile"), &missing));
    };
    let path = PathBuf::from(path.trim_start_matches('/'));
    Ok(Source {
        dockerfile,
        name: file_name(&path),
        place: DockerfilePlace::Context(path),
        context: Some(remote.directory().to_owned()),
        remote: Some(remote),
    })
}

fn read_remote(remote: &RemoteContext, path: &str) -> Result<Option<Vec<u8>>, CommandError> {
    let text = remote.read(path, MAX_DOCKERFILE);
    text.map_err(|error| unreadable(path, &error))
}

fn of_text(dockerfile: Vec<u8>) -> Source {
    Source {
        dockerfile,
        name: "Dockerfile".to_owned(),
        place: DockerfilePlace::Nowhere,
        context: None,
        remote: None,
    }
}

fn read_text(stream: Box<dyn Read + Send>) -> Result<Vec<u8>, CommandError> {
    let mut text = Vec::new();
    stream.take(MAX_DOCKERFILE + 1).read_to_end(&mut text)?;
    match u64::try_from(text.len()) {
        Ok(length) if length <= MAX_DOCKERFILE => Ok(text),
        _ => Err(failed(&format!(
            "failed to read dockerfile: it is longer than {MAX_DOCKERFILE} bytes"
        ))),
    }
}

fn unreadable(path: &str, error: &io::Error) -> CommandError {
    failed(&format!(
        "failed to solve: failed to read dockerfile: {}",
        open_error(path, error)
    ))
}

fn file_name(path: &Path) -> String {
    let name = path.file_name();
    name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
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

/// gzip, bzip2, xz, zstd, or the magic of a tar's first header.
fn is_archive(text: &[u8]) -> bool {
    const TAR_MAGIC: usize = 257;
    text.starts_with(&[0x1f, 0x8b])
        || text.starts_with(b"BZh")
        || text.starts_with(&[0xfd, b'7', b'z', b'X', b'Z'])
        || text.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        || text
            .get(TAR_MAGIC..)
            .is_some_and(|rest| rest.starts_with(b"ustar"))
}
