//! Work that nobody waits for: syncing what was written, deleting what was removed.

use std::os::unix::process::CommandExt as _;
use std::process::{Command as Process, Stdio};

use strata::ops::tidy;

use super::command::Command;
use super::error::{CommandError, Exit};
use super::flags::Arguments;
use super::session::Session;

/// The command that the program gives itself; not for people.
pub(crate) const COMMAND: Command = Command {
    names: &[NAME],
    usage: "",
    about: "",
    run,
    ..Command::DEFAULT
};

/// A name that starts with a dot is listed nowhere.
const NAME: &str = ".tidy";

/// Starts a detached process that tidies up, if there is anything to do.
pub(crate) fn tidy(session: &Session) {
    if session
        .engine()
        .is_ok_and(|engine| tidy::is_needed(engine.store()))
    {
        sweep(session);
    }
}

/// Starts a detached process that removes what no record needs any more, and tidies up. A failure
/// leaves the work to the next command, so it is not reported.
pub(crate) fn sweep(session: &Session) {
    let environment = &session.environment;
    let started = Process::new("/proc/self/exe")
        .arg(NAME)
        .env_clear()
        .env("STRATA_ROOT", &environment.root)
        .env("STRATA_RUN", &environment.run)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // The terminal's signals do not reach it.
        .process_group(0)
        .spawn();
    drop(started);
}

fn run(_arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    rustix::process::setpriority_process(None, LOWEST_PRIORITY)?;
    let store = session.engine()?.store();
    tidy::run(store)?;
    tidy::wait_for_holds(store)?;
    Ok(Exit::SUCCESS)
}

const LOWEST_PRIORITY: i32 = 19;
