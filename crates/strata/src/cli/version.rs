//! `strata version`, and the line of `strata --version`.

use serde_json::json;

use super::command::Command;
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::session::Session;
use super::template::{Format, Purpose, Subject};

pub(crate) const COMMAND: Command = Command {
    names: &["version"],
    about: "Show the version information",
    flags: &[Flag::one("format", "string", FORMAT_HELP).short('f')],
    run,
    ..Command::DEFAULT
};

/// The help of `--format` for commands that show one object.
pub(crate) const FORMAT_HELP: &str =
    "Format output using a custom template: 'json' or a Go template";

/// The version of docker's engine API whose behaviour is followed.
const API_VERSION: &str = "1.51";
/// The version of docker whose command line is followed. Scripts parse it.
const DOCKER_VERSION: &str = "28.5.2";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Returns the line of `--version`, in the form that scripts know from docker.
pub(crate) fn line(program: &str) -> String {
    match program {
        "docker" => format!("Docker version {DOCKER_VERSION}, build strata-{VERSION}"),
        _ => format!("strata version {VERSION}, compatible with docker {DOCKER_VERSION}"),
    }
}

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let platform = oci::Platform::host();
    let kernel = rustix::system::uname();
    let kernel = kernel.release().to_string_lossy();
    let side = json!({
        "Version": DOCKER_VERSION,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": "1.24",
        "GitCommit": format!("strata-{VERSION}"),
        "GoVersion": "",
        "Os": platform.os,
        "Arch": platform.architecture,
        "KernelVersion": kernel,
        "BuildTime": "",
    });
    let object = json!({
        "Client": {
            "Version": DOCKER_VERSION,
            "ApiVersion": API_VERSION,
            "DefaultAPIVersion": API_VERSION,
            "GitCommit": format!("strata-{VERSION}"),
            "GoVersion": "",
            "Os": platform.os,
            "Arch": platform.architecture,
            "BuildTime": "",
            "Context": "default",
        },
        "Server": side,
    });
    let text = match arguments.text("format") {
        None | Some("") => format!(
            "Client:\n Version:           {VERSION}\n Docker compatible: {DOCKER_VERSION}\n API version:       {API_VERSION}\n OS/Arch:           {}/{}\n\nServer: none needed, strata has no daemon\n Kernel version:    {kernel}\n",
            platform.os, platform.architecture
        ),
        Some("json" | "{{json .}}") => format!("{object}\n"),
        Some(template) => {
            let format = Format::parse(template, Purpose::Data, Subject::Object)?;
            let text = format.execute(&gotmpl::to_value(&object)?)?;
            format!("{text}\n")
        }
    };
    session.out.data(&text)?;
    Ok(Exit::SUCCESS)
}
