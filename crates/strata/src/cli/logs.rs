//! `strata logs`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, ErrorKind};

use jiff::Timestamp;
use strata::container::Container;
use strata::container::log::{Line, Stream, read_line};
use strata::container::status::Status;
use strata::time;

use super::command::{Arity, Command};
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::session::Session;
use super::units;

pub(crate) const COMMAND: Command = Command {
    names: &["container logs", "logs"],
    usage: "[OPTIONS] CONTAINER",
    about: "Fetch the logs of a container",
    flags: &[
        Flag::switch("follow", "Follow log output").short('f'),
        Flag::one(
            "since",
            "string",
            "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
        ),
        Flag::one(
            "tail",
            "string",
            "Number of lines to show from the end of the logs (default \"all\")",
        )
        .short('n'),
        Flag::switch("timestamps", "Show timestamps").short('t'),
        Flag::one(
            "until",
            "string",
            "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
        ),
    ],
    refused: &["details"],
    arity: Arity::Exactly(1),
    run,
    ..Command::DEFAULT
};

/// How often the log of a running container is looked at, in milliseconds.
const INTERVAL: i64 = 100;

struct Selection {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    timestamps: bool,
}

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let selection = Selection {
        since: moment(arguments, "since")?,
        until: moment(arguments, "until")?,
        timestamps: arguments.is_on("timestamps"),
    };
    let tail = tail(arguments.text("tail"))?;
    let store = session.store()?;
    let mut container = Container::find(store, &arguments.positional[0])?;
    let file = match File::open(container.log_path(store)) {
        Ok(file) => file,
        // It was never started.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Exit::SUCCESS),
        Err(error) => return Err(error.into()),
    };
    let mut reader = BufReader::new(file);
    let mut lines = VecDeque::new();
    while let Some(line) = read_line(&mut reader)? {
        if !selection.passes(&line) {
            continue;
        }
        match tail {
            None => selection.print(&line, session)?,
            Some(0) => {}
            Some(count) => {
                if lines.len() == count {
                    lines.pop_front();
                }
                lines.push_back(line);
            }
        }
    }
    for line in &lines {
        selection.print(line, session)?;
    }
    while arguments.is_on("follow") {
        // Looked at before the log: what it printed last is there when it has ended.
        let store = session.store()?;
        let runs = matches!(Status::of(store, &container.record), Status::Running { .. });
        while let Some(line) = read_line(&mut reader)? {
            if selection.passes(&line) {
                selection.print(&line, session)?;
            }
        }
        if !runs {
            break;
        }
        wait()?;
        let Ok(found) = Container::find(session.store()?, &container.record.id) else {
            break;
        };
        container = found;
    }
    Ok(Exit::SUCCESS)
}

impl Selection {
    fn passes(&self, line: &Line) -> bool {
        let time = line.time.parse().ok();
        self.since.is_none_or(|since| time >= Some(since))
            && self.until.is_none_or(|until| time <= Some(until))
    }

    fn print(&self, line: &Line, session: &mut Session) -> Result<(), CommandError> {
        let text = match self.timestamps {
            true => format!("{} {}", line.time, line.log),
            false => line.log.clone(),
        };
        match line.stream {
            Stream::Stdout => session.out.data(&text)?,
            Stream::Stderr => session.out.remark(&text),
        }
        Ok(())
    }
}

fn wait() -> Result<(), CommandError> {
    let interval = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: INTERVAL * 1_000_000,
    };
    rustix::event::poll(&mut [], Some(&interval))?;
    Ok(())
}

fn moment(arguments: &Arguments, name: &str) -> Result<Option<Timestamp>, CommandError> {
    match arguments.text(name) {
        None | Some("") => Ok(None),
        Some(text) => time::parse(text, units::now()).map(Some).ok_or_else(|| {
            CommandError::client(format!(
                "invalid value for {name:?}: failed to parse value as time or duration: {text:?}"
            ))
        }),
    }
}

fn tail(text: Option<&str>) -> Result<Option<usize>, CommandError> {
    match text {
        None | Some("" | "all") => Ok(None),
        Some(text) => match text.parse::<i64>() {
            Ok(count) => Ok(usize::try_from(count).ok()),
            Err(_) => Err(CommandError::daemon(format!("invalid tail value {text:?}"))),
        },
    }
}
