//! `strata registry serve`.

use std::net::SocketAddr;
use std::sync::Arc;

use registry::{Access, Server, ServerOptions};
use store::Purpose;
use strata::ops::layers::unpack;
use sys::SignalQueue;

use super::command::Command;
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::output::Output;
use super::session::Session;
use strata::describe;

pub(crate) const COMMAND: Command = Command {
    names: &["registry serve"],
    about: "Serve the images of the store to any client",
    flags: &[
        Flag::one(
            "addr",
            "address",
            "Address to listen on (default 127.0.0.1:5000)",
        ),
        Flag::switch("allow-push", "Let clients push images into the store"),
    ],
    run,
    ..Command::DEFAULT
};

const DEFAULT_ADDRESS: &str = "127.0.0.1:5000";

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let text = arguments.text("addr").unwrap_or(DEFAULT_ADDRESS);
    let addr: SocketAddr = text.parse().map_err(|_| {
        CommandError::client(format!(
            "invalid address `{text}`: expected an IP address and a port, as {DEFAULT_ADDRESS}"
        ))
    })?;
    let store = session.store()?.operation(Purpose {
        window: session.undo_window()?,
        ..Purpose::default()
    });
    // Held back before the server makes threads, so that none of them is interrupted.
    let signals = SignalQueue::new(SignalQueue::FORWARDED)?;
    let server = Server::start(ServerOptions {
        addr,
        store,
        unpack: Arc::new(unpack),
        access: match arguments.is_on("allow-push") {
            true => Access::PullAndPush,
            false => Access::PullOnly,
        },
        report: Arc::new(|error| Output.talk(&describe(error))),
    })
    .map_err(|error| CommandError::client(describe(&error)))?;
    session
        .out
        .talk(&format!("serving the store at http://{}", server.addr()));
    let mut polled = [rustix::event::PollFd::new(
        &signals,
        rustix::event::PollFlags::IN,
    )];
    rustix::event::poll(&mut polled, None)?;
    server.stop()?;
    Ok(Exit::SUCCESS)
}
