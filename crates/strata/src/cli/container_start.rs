//! `strata start`.

use strata::container::Container;
use strata::container::status::Status;

use super::attach::{Attachment, run_attached};
use super::command::{Arity, Command};
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::monitor;
use super::session::Session;

pub(crate) const COMMAND: Command = Command {
    names: &["container start", "start"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Start one or more stopped containers",
    flags: &[
        Flag::switch("attach", "Attach STDOUT/STDERR and forward signals").short('a'),
        Flag::switch("interactive", "Attach container's STDIN").short('i'),
    ],
    refused: &["checkpoint", "checkpoint-dir", "detach-keys"],
    arity: Arity::AtLeast(1),
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let (attaches, stdin) = (arguments.is_on("attach"), arguments.is_on("interactive"));
    if attaches || stdin {
        let [word] = arguments.positional.as_slice() else {
            return Err(CommandError::client(
                "you cannot start and attach multiple containers at once",
            ));
        };
        let container = Container::find(session.store()?, word)?;
        if runs(&container, session)? {
            return Err(CommandError::client(
                "attaching to a container that runs is not supported yet",
            ));
        }
        let attachment = Attachment {
            stdin,
            proxies_signals: true,
        };
        return run_attached(&container, &attachment, session);
    }
    let exit = session.each(&arguments.positional, |word, session| {
        let container = Container::find(session.store()?, word)?;
        if !runs(&container, session)? {
            monitor::start(&container, session).map_err(|error| error.exit(Exit::FAILURE))?;
        }
        session.out.line(word)?;
        Ok(())
    });
    if exit != Exit::SUCCESS {
        session.out.talk("Error: failed to start containers");
    }
    Ok(exit)
}

fn runs(container: &Container, session: &Session) -> Result<bool, CommandError> {
    let status = Status::of(session.store()?, &container.record);
    Ok(matches!(status, Status::Running { .. }))
}
