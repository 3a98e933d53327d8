//! A container in the background: a process of its own starts it, keeps its log and records its
//! end.
//!
//! The monitor is this program under a name that people do not use. Its standard output is a pipe
//! to the command that started it, which waits there for the news that the container runs: a
//! line, the exit code and the error, or nothing but the end of the pipe when the monitor died.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command as Process, Stdio as ProcessStdio};

use runtime::Stdio;
use strata::container::Container;
use strata::container::log::Log;
use strata::container::status::Supervisor;
use strata::container::supervise::{Ends, Input, Supervision, supervise};
use strata::ops::launch::{launch, record_end};
use strata::ops::remove::remove;

use super::background;
use super::command::{Arity, Command};
use super::error::{CommandError, Exit};
use super::flags::Arguments;
use super::session::Session;
use strata::describe;

pub(crate) const COMMAND: Command = Command {
    names: &[NAME],
    usage: "CONTAINER",
    about: "",
    arity: Arity::Exactly(1),
    run,
    ..Command::DEFAULT
};

/// A name that starts with a dot is listed nowhere.
const NAME: &str = ".monitor";

/// What the monitor says when the container runs.
const STARTED: &str = "started\n";

/// Starts a container in the background and returns once it runs.
pub(crate) fn start(container: &Container, session: &mut Session) -> Result<(), CommandError> {
    let environment = &session.environment;
    let mut process = Process::new("/proc/self/exe");
    process
        .arg(NAME)
        .arg(&container.record.id)
        .env_clear()
        .env("STRATA_ROOT", &environment.root)
        .env("STRATA_RUN", &environment.run)
        .current_dir("/")
        .stdin(ProcessStdio::null())
        .stdout(ProcessStdio::piped())
        .stderr(ProcessStdio::null())
        .process_group(0);
    if let Some(form) = &environment.layer_form {
        process.env("STRATA_LAYER_FORM", form);
    }
    let mut monitor = process.spawn()?;
    let mut news = String::new();
    if let Some(mut pipe) = monitor.stdout.take() {
        pipe.read_to_string(&mut news)?;
    }
    if news == STARTED {
        return Ok(());
    }
    let (code, message) = news.split_once(' ').unwrap_or_default();
    if container.record.auto_remove {
        remove(session.store()?, container)?;
    }
    match code.parse() {
        Ok(code) => Err(CommandError::daemon(message).exit(Exit(code))),
        Err(_) => Err(CommandError::client(
            "the monitor of the container ended before the container ran",
        )),
    }
}

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    // The monitor leads a process group already, which is out of reach of the terminal.
    let engine = session.engine()?;
    let store = engine.store();
    let container = Container::find(store, &arguments.positional[0])?;
    let (theirs, ours) = match container.options.tty {
        true => (
            Stdio::Terminal {
                rows: 0,
                columns: 0,
            },
            Ends::Terminal,
        ),
        false => Ends::pipes(Input::Closed)?,
    };
    let supervisor = Supervisor::announce(store, &container.record.id)?;
    let mut launched = match launch(engine, &container, theirs) {
        Ok(launched) => launched,
        Err(error) => {
            tell(&format!("{} {}", error.exit_code(), describe(&error)))?;
            return Ok(Exit::FAILURE);
        }
    };
    // Before anyone knows of the container: who asks for its log then finds one.
    let mut log = Log::open(&container.log_path(store))?;
    tell(STARTED)?;
    let supervised = supervise(
        &mut launched.running,
        ours,
        Supervision {
            log: Some(&mut log),
            ..Supervision::default()
        },
    )?;
    if container.record.auto_remove {
        remove(store, &container)?;
    } else {
        let id = &container.record.id;
        record_end(store, id, launched.started, supervised.exit)?;
    }
    drop(supervisor);
    background::tidy(session);
    Ok(Exit::SUCCESS)
}

/// Says `news` to whoever started the monitor, and closes the pipe: they wait for its end.
fn tell(news: &str) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(news.as_bytes())?;
    stdout.flush()?;
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(null.as_fd())?;
    Ok(())
}
