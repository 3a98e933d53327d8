//! Programs that keep credentials: `docker-credential-<name>`.
//! [docker-credential-helpers](https://github.com/docker/docker-credential-helpers)

use std::io::{self, Read as _, Write as _};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::credentials::{Credentials, CredentialsError, TOKEN_USER};

/// The longest answer that is read.
const MAX_ANSWER: u64 = 4 << 20;

/// A program that keeps credentials. Secrets go through its pipes, never into its arguments,
/// which every process can read.
#[derive(Debug)]
pub(crate) struct CredentialProgram {
    program: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

#[derive(Serialize)]
struct Kept<'a> {
    #[serde(rename = "ServerURL")]
    server: &'a str,
    #[serde(rename = "Username")]
    user: &'a str,
    #[serde(rename = "Secret")]
    secret: &'a str,
}

impl CredentialProgram {
    /// Returns the helper `name`, as `config.json` has it.
    pub(crate) fn new(name: &str) -> Result<Self, CredentialsError> {
        if name.contains('/') {
            return Err(CredentialsError::InvalidHelper(name.to_owned()));
        }
        Ok(Self {
            program: format!("docker-credential-{name}"),
        })
    }

    /// Asks for the credentials of `server`.
    pub(crate) fn get(&self, server: &str) -> Result<Option<Credentials>, CredentialsError> {
        let Some(output) = self.run("get", server.as_bytes())? else {
            return Ok(None);
        };
        let answer: Answer =
            serde_json::from_slice(&output).map_err(|source| CredentialsError::HelperAnswer {
                program: self.program.clone(),
                source,
            })?;
        if answer.secret.is_empty() {
            return Ok(None);
        }
        Ok(Some(if answer.username == TOKEN_USER {
            Credentials::Identity(answer.secret)
        } else {
            Credentials::Basic {
                user: answer.username,
                password: answer.secret,
            }
        }))
    }

    /// Gives it the credentials of `server` to keep.
    pub(crate) fn store(
        &self,
        server: &str,
        user: &str,
        secret: &str,
    ) -> Result<(), CredentialsError> {
        let kept = Kept {
            server,
            user,
            secret,
        };
        let input = serde_json::to_vec(&kept).expect("invariant: three strings");
        self.run("store", &input).map(drop)
    }

    /// Has it forget the credentials of `server`, if it has any.
    pub(crate) fn erase(&self, server: &str) -> Result<(), CredentialsError> {
        self.run("erase", server.as_bytes()).map(drop)
    }

    /// Runs the program; `None` when it knows nothing of the server.
    fn run(&self, verb: &str, input: &[u8]) -> Result<Option<Vec<u8>>, CredentialsError> {
        let program = &self.program;
        let run = || -> io::Result<(bool, Vec<u8>)> {
            let mut child = Command::new(program)
                .arg(verb)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::inherit())
                .spawn()?;
            let written = child.stdin.take().map_or(Ok(()), |mut stdin| {
                stdin.write_all(input)?;
                stdin.write_all(b"\n")
            });
            let mut output = Vec::new();
            let read = child.stdout.take().map_or(Ok(0), |stdout| {
                stdout.take(MAX_ANSWER).read_to_end(&mut output)
            });
            let status = child.wait()?;
            read?;
            // A helper need not read its input.
            match written {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
                _ => Ok((status.success(), output)),
            }
        };
        let (succeeded, output) = run().map_err(|source| CredentialsError::RunHelper {
            program: program.clone(),
            source,
        })?;
        if succeeded {
            return Ok(Some(output));
        }
        let message = String::from_utf8_lossy(&output).trim().to_owned();
        if message.contains("credentials not found") {
            return Ok(None);
        }
        Err(CredentialsError::Helper {
            program: program.clone(),
            message,
        })
    }
}
