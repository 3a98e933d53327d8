//! `--secret` and `--ssh` of a build.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;

use build::Secret;

use super::build::failed;
use super::environment::{raw, variable};
use super::error::{CommandError, os_text};
use super::flags::Arguments;

/// The agent that steps get which name none.
const DEFAULT_AGENT: &str = "default";

/// Reads the secrets that `--secret` names. A variable that is not set gives none, as with
/// docker: a step that requires it fails.
pub(super) fn secrets(arguments: &Arguments) -> Result<BTreeMap<String, Secret>, CommandError> {
    let mut secrets = BTreeMap::new();
    for text in arguments.all("secret") {
        let source = SecretSource::parse(text)?;
        if let Some(secret) = source.read()? {
            secrets.insert(source.id, secret);
        }
    }
    Ok(secrets)
}

/// A value of `--secret`.
#[derive(Debug, Default)]
struct SecretSource {
    id: String,
    path: Option<String>,
    env: Option<String>,
}

impl SecretSource {
    fn parse(text: &str) -> Result<Self, CommandError> {
        let invalid =
            |reason: String| failed(&format!("could not parse secrets: [{text}]: {reason}"));
        let mut source = Self::default();
        let mut kind = "";
        for field in text.split(',') {
            let Some((key, value)) = field.split_once('=') else {
                let reason = format!("invalid field '{field}' must be a key=value pair");
                return Err(invalid(reason));
            };
            match key.to_ascii_lowercase().as_str() {
                "type" if ["file", "env"].contains(&value) => kind = value,
                "type" => return Err(invalid(format!("unsupported secret type {value:?}"))),
                "id" => source.id = value.to_owned(),
                "source" | "src" => source.path = Some(value.to_owned()),
                "env" => source.env = Some(value.to_owned()),
                _ => return Err(invalid(format!("unexpected key '{key}' in '{field}'"))),
            }
        }
        if source.id.is_empty() {
            return Err(invalid("secret missing ID".to_owned()));
        }
        if kind == "env" && source.env.is_none() {
            source.env = source.path.take();
        }
        if source.env.is_none() && source.path.is_none() {
            match raw(&source.id) {
                Some(_) => source.env = Some(source.id.clone()),
                None => source.path = Some(source.id.clone()),
            }
        }
        Ok(source)
    }

    fn read(&self) -> Result<Option<Secret>, CommandError> {
        let content = match (&self.env, &self.path) {
            (Some(name), _) => match raw(name) {
                Some(value) => value.as_bytes().to_vec(),
                None => return Ok(None),
            },
            (None, Some(path)) => read_file(path).map_err(|error| {
                let reason = os_text(&error);
                failed(&format!("failed to stat {path}: stat {path}: {reason}"))
            })?,
            (None, None) => return Ok(None),
        };
        match Secret::new(content) {
            Some(secret) => Ok(Some(secret)),
            None => Err(failed(&format!(
                "secret {} too big. max size 500KB",
                self.id
            ))),
        }
    }
}

/// Reads a file, which may be a pipe, as far as it can be a secret.
fn read_file(path: &str) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(Secret::MAX_SIZE).unwrap_or(u64::MAX);
    let mut content = Vec::new();
    File::open(path)?
        .take(limit + 1)
        .read_to_end(&mut content)?;
    Ok(content)
}

/// Returns the sockets that `--ssh` names.
pub(super) fn agents(arguments: &Arguments) -> Result<BTreeMap<String, PathBuf>, CommandError> {
    let mut agents = BTreeMap::new();
    for text in arguments.all("ssh") {
        let (id, given) = match text.split_once('=') {
            Some((id, path)) => (id, Some(path.to_owned())),
            None => (text, None),
        };
        let id = match id {
            "" => DEFAULT_AGENT,
            id => id,
        };
        let socket = given.or_else(|| variable("SSH_AUTH_SOCK"));
        let Some(socket) = socket.filter(|path| !path.is_empty()) else {
            let message = "invalid empty ssh agent socket, make sure SSH_AUTH_SOCK is set";
            return Err(failed(message));
        };
        let status = fs::metadata(&socket).map_err(|error| {
            let reason = os_text(&error);
            failed(&format!("failed to stat {socket}: stat {socket}: {reason}"))
        })?;
        if !status.file_type().is_socket() {
            return Err(failed(&format!(
                "{socket} is no socket of an ssh agent: key files are not supported, add them to an agent with ssh-add"
            )));
        }
        agents.insert(id.to_owned(), PathBuf::from(socket));
    }
    Ok(agents)
}
