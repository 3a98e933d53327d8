//! From the process to a command.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use super::environment::Environment;
use super::error::Exit;
use super::output::Output;
use super::session::Session;
use super::tree;

/// Runs the program with the process's own arguments and surroundings.
pub(crate) fn start() -> ExitCode {
    let mut words = std::env::args_os();
    let program = program(words.next());
    let mut out = Output;
    let exit = match words
        .map(OsString::into_string)
        .collect::<Result<Vec<_>, _>>()
    {
        Ok(words) => {
            let mut session = Session::new(program, Environment::read());
            tree::execute(&words, &mut session)
        }
        Err(word) => {
            out.talk(&format!("{program}: argument {word:?} is not valid UTF-8"));
            Exit::FAILURE
        }
    };
    ExitCode::from(exit.0)
}

/// Called as `docker`, the program speaks of itself as docker.
fn program(name: Option<OsString>) -> &'static str {
    let name = name.unwrap_or_default();
    match Path::new(&name).file_name() {
        Some(name) if name == "docker" => "docker",
        _ => "strata",
    }
}
