//! Every error of the command line: what is said, what may help, and the exit code.
//!
//! | Code | When |
//! |--|--|
//! | 0 | success |
//! | 1 | ordinary failure |
//! | 64 | `inspect` was given a template that does not parse |
//! | 125 | bad flag; `run` could not start the container |
//! | 126 | the program is there but cannot be executed |
//! | 127 | the program is not there |
//! | 128+n | signal n killed the program |
//! | 130 | `build` was ended by a signal |

use std::error::Error;
use std::fmt::Write as _;

use oci::ReferenceError;
use registry::SettingsError;
use strata::describe;

use super::flags::FlagError;
use super::reference_hint;
use super::template::FormatError;

/// The exit code of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u8);

impl Exit {
    pub(crate) const SUCCESS: Self = Self(0);
    pub(crate) const FAILURE: Self = Self(1);
    pub(crate) const BAD_TEMPLATE: Self = Self(64);
    pub(crate) const NOT_STARTED: Self = Self(125);
    /// docker's, for any signal that asks a build to end.
    pub(crate) const CANCELED: Self = Self(130);
}

/// How the errors of a command are introduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voice {
    /// As they are.
    Plain,
    /// `docker: …`, followed by where to read more; the exit code is 125.
    Run,
    /// `ERROR: …`
    Build,
}

/// What a command ends with instead of an exit code.
#[derive(Debug)]
pub(crate) struct CommandError {
    lead: Lead,
    message: String,
    hints: Vec<String>,
    exit: Option<Exit>,
    lacks_space: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    /// The text is complete: no introduction by the command's voice either.
    Bare,
    Plain,
    /// About the flags: the command adds how it is used.
    Usage,
    /// What docker's daemon would have answered; scripts look for its words.
    Daemon,
}

impl CommandError {
    /// An error that docker's client would have found.
    pub(crate) fn client(message: impl Into<String>) -> Self {
        Self::new(Lead::Plain, message.into())
    }

    /// An error that docker's daemon would have answered.
    pub(crate) fn daemon(message: impl Into<String>) -> Self {
        Self::new(Lead::Daemon, message.into())
    }

    /// An error whose text stands alone, whatever the command's voice.
    pub(crate) fn bare(message: impl Into<String>) -> Self {
        Self::new(Lead::Bare, message.into()).exit(Exit::FAILURE)
    }

    /// Ends the command with `exit` and says nothing: everything was said.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self::bare(String::new()).exit(exit)
    }

    fn new(lead: Lead, message: String) -> Self {
        Self {
            lead,
            message,
            hints: Vec::new(),
            exit: None,
            lacks_space: false,
        }
    }

    /// Remembers what the error comes from, where its message does not tell all.
    pub(crate) fn caused_by(self, cause: &(dyn Error + 'static)) -> Self {
        Self {
            lacks_space: store::is_disk_full(cause),
            ..self
        }
    }

    /// Tells whether a disk was full.
    pub(crate) fn lacks_space(&self) -> bool {
        self.lacks_space
    }

    pub(crate) fn exit(self, exit: Exit) -> Self {
        Self {
            exit: Some(exit),
            ..self
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Returns the error that `text` is no image name, with what was probably meant.
    pub(crate) fn reference(text: &str, error: &ReferenceError) -> Self {
        Self::reference_in(error.to_string(), text)
    }

    /// Returns the error `message` about the malformed image name `text`.
    pub(crate) fn reference_in(message: String, text: &str) -> Self {
        let error = Self::client(message);
        match reference_hint::suggest(text) {
            Some(name) => error.hint(format!("did you mean {name}?")),
            None => error,
        }
    }

    /// Returns what is wrong with the flags, if that is the error.
    pub(crate) fn misuse(&self) -> Option<&str> {
        (self.lead == Lead::Usage).then_some(self.message.as_str())
    }

    /// Returns what is printed and the exit code.
    pub(crate) fn report(&self, voice: Voice, program: &str, command: &str) -> (String, Exit) {
        let mut text = match self.lead {
            Lead::Bare | Lead::Plain | Lead::Usage => self.message.clone(),
            Lead::Daemon => format!("Error response from daemon: {}", self.message),
        };
        for hint in &self.hints {
            write!(text, "\n{hint}").expect("writing to a String cannot fail");
        }
        match (voice, self.lead) {
            (_, Lead::Bare) | (Voice::Plain, _) => (text, self.exit.unwrap_or(Exit::FAILURE)),
            (Voice::Build, _) => (format!("ERROR: {text}"), self.exit.unwrap_or(Exit::FAILURE)),
            (Voice::Run, _) => (
                format!(
                    "{program}: {text}\n\nRun '{program} {command} --help' for more information"
                ),
                self.exit.unwrap_or(Exit::NOT_STARTED),
            ),
        }
    }
}

/// Errors of the command line itself are the client's, all others the engine's.
impl<E: Error + 'static> From<E> for CommandError {
    fn from(error: E) -> Self {
        let any: &(dyn Error + 'static) = &error;
        let lacks_space = store::is_disk_full(any);
        Self {
            lacks_space,
            ..Self::told(any)
        }
    }
}

impl CommandError {
    fn told(any: &(dyn Error + 'static)) -> Self {
        if let Some(io) = any.downcast_ref::<std::io::Error>() {
            if io.kind() == std::io::ErrorKind::BrokenPipe {
                return Self::silent(Exit::FAILURE);
            }
            return Self::client(describe(any));
        }
        if any.is::<FlagError>() {
            return Self::new(Lead::Usage, describe(any));
        }
        if any.is::<FormatError>() || any.is::<SettingsError>() {
            return Self::client(describe(any));
        }
        Self::daemon(describe(any))
    }
}

/// Returns an error of the operating system in Go's words: `no such file or directory`.
pub(crate) fn os_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_introduces_its_errors_and_ends_with_125() {
        let error = CommandError::daemon("No such image: x:latest");
        assert_eq!(
            error.report(Voice::Run, "docker", "run"),
            (
                "docker: Error response from daemon: No such image: x:latest\n\nRun 'docker run --help' for more information".into(),
                Exit(125)
            )
        );
        let bare = CommandError::bare("the input device is not a TTY");
        assert_eq!(
            bare.report(Voice::Run, "docker", "run"),
            ("the input device is not a TTY".into(), Exit(1))
        );
    }

    #[test]
    fn a_malformed_name_keeps_dockers_line_and_adds_what_was_meant() {
        let error = CommandError::reference("ubuntu:18:04", &ReferenceError::InvalidFormat);
        assert_eq!(
            error.report(Voice::Plain, "strata", "pull"),
            (
                "invalid reference format\ndid you mean ubuntu:18.04?".into(),
                Exit(1)
            )
        );
    }

    #[test]
    fn errors_of_the_system_are_in_gos_words() {
        let error = std::io::Error::from_raw_os_error(2);
        assert_eq!(os_text(&error), "no such file or directory");
    }
}
