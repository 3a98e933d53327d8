//! `strata run` and `strata create`.

use std::io;
use std::os::fd::AsFd as _;

use oci::Platform;
use runtime::Stdio;
use store::ResolveError;
use strata::container::Container;
use strata::container::supervise::Ends;
use strata::ops::create::{CreateError, CreateOptions, Created, create};
use strata::ops::pull::unpack_platform;

use super::attach::{Attachment, run_attached};
use super::background;
use super::command::{Arity, Command};
use super::container_flags::{self, PullPolicy, create_options, pull_policy};
use super::error::{CommandError, Exit, Voice, os_text};
use super::flags::{Arguments, Flag, Order};
use super::monitor;
use super::name;
use super::output::{Channel, stdin_is_terminal};
use super::pull::pull_with_progress;
use super::session::Session;

const NETWORK_NOTE: &str = "Without --network the container shares the host's network: the bridge network of docker\ndoes not exist yet.";

pub(crate) const RUN: Command = Command {
    names: &["container run", "run"],
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create and run a new container from an image",
    notes: NETWORK_NOTE,
    flags: &RUN_FLAGS,
    refused: container_flags::REFUSED,
    arity: Arity::AtLeast(1),
    order: Order::FlagsFirst,
    voice: Voice::Run,
    run,
};

pub(crate) const CREATE: Command = Command {
    names: &["container create", "create"],
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create a new container",
    notes: NETWORK_NOTE,
    flags: &container_flags::COMMON,
    refused: container_flags::REFUSED,
    arity: Arity::AtLeast(1),
    order: Order::FlagsFirst,
    run: run_create,
    ..Command::DEFAULT
};

const OWN_FLAGS: [Flag; 2] = [
    Flag::switch(
        "detach",
        "Run container in background and print container ID",
    )
    .short('d'),
    Flag::switched_on("sig-proxy", "Proxy received signals to the process"),
];

const RUN_FLAGS: [Flag; 25] = {
    let mut flags = [OWN_FLAGS[0]; 25];
    flags[1] = OWN_FLAGS[1];
    let mut index = 0;
    while index < container_flags::COMMON.len() {
        flags[index + 2] = container_flags::COMMON[index];
        index += 1;
    }
    flags
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let is_detached = arguments.is_on("detach");
    let (tty, input) = (arguments.is_on("tty"), arguments.is_on("interactive"));
    if tty && input && !is_detached && !stdin_is_terminal() {
        return Err(CommandError::bare("the input device is not a TTY"));
    }
    let container = create_container(arguments, session)?;
    if is_detached {
        monitor::start(&container, session)?;
        session.out.line(&container.record.id)?;
        return Ok(Exit::SUCCESS);
    }
    run_attached(
        &container,
        &Attachment {
            stdin: input,
            proxies_signals: !arguments.is_off("sig-proxy"),
        },
        session,
    )
}

fn run_create(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let container = create_container(arguments, session)?;
    session.out.line(&container.record.id)?;
    Ok(Exit::SUCCESS)
}

/// Creates the container that the flags describe, pulling its image as they say.
fn create_container(
    arguments: &Arguments,
    session: &mut Session,
) -> Result<Container, CommandError> {
    let policy = pull_policy(arguments)?;
    let options = create_options(arguments, session)?;
    let image = arguments.positional[0].as_str();
    let cidfile = arguments.text("cidfile").filter(|path| !path.is_empty());
    if let Some(path) = cidfile
        && std::path::Path::new(path).exists()
    {
        return Err(CommandError::client(format!(
            "container ID file found, make sure the other container isn't running or delete {path}"
        )));
    }
    let is_quiet = arguments.is_on("quiet");
    if policy == PullPolicy::Always {
        pull(image, &options, is_quiet, session)?;
    }
    let mut created = create(session.store()?, image, options.clone());
    if let Err(CreateError::OtherPlatform { .. }) = created
        && unpack(image, &options, session)?
    {
        created = create(session.store()?, image, options.clone());
    }
    let created = match created {
        Ok(created) => created,
        Err(error) if policy == PullPolicy::Missing && is_missing(&error) => {
            let shown = name::parse(image)?.or_latest().familiar();
            session
                .out
                .talk(&format!("Unable to find image '{shown}' locally"));
            pull_and_create(image, &options, is_quiet, session)?
        }
        Err(CreateError::Image(error)) => return Err(unresolved(image, error)),
        Err(error) => return Err(error.into()),
    };
    if let Some(path) = cidfile {
        std::fs::write(path, &created.container.record.id)
            .map_err(|error| CommandError::client(format!("open {path}: {}", os_text(&error))))?;
    }
    let host = Platform::host();
    if arguments.text("platform").is_none() && !created.platform.serves(&host) {
        // It may still run, through an emulator that the host registered.
        session.out.talk(&format!(
            "WARNING: The requested image's platform ({}) does not match the detected host platform ({host}) and no specific platform was requested",
            created.platform
        ));
    }
    Ok(created.container)
}

/// How often an image is pulled that other commands remove before a container keeps it.
const PULLS: usize = 5;

fn pull_and_create(
    image: &str,
    options: &CreateOptions,
    is_quiet: bool,
    session: &Session,
) -> Result<Created, CommandError> {
    for _ in 1..PULLS {
        pull(image, options, is_quiet, session)?;
        match create(session.store()?, image, options.clone()) {
            Err(CreateError::Image(ResolveError::NotFound { .. })) => {}
            created => return Ok(created?),
        }
    }
    pull(image, options, is_quiet, session)?;
    Ok(create(session.store()?, image, options.clone())?)
}

/// docker's client looks at the name before the daemon does.
fn unresolved(image: &str, error: ResolveError) -> CommandError {
    match error {
        ResolveError::Invalid(error) => CommandError::reference(image, &error),
        error => name::unresolved(image, error),
    }
}

fn is_missing(error: &CreateError) -> bool {
    matches!(
        error,
        CreateError::Image(ResolveError::NotFound { .. }) | CreateError::OtherPlatform { .. }
    )
}

/// Unpacks the image for the wanted platform, if the store has an index with it.
fn unpack(image: &str, options: &CreateOptions, session: &Session) -> Result<bool, CommandError> {
    match (&options.platform, name::parse(image)) {
        (Some(platform), Ok(name)) => {
            Ok(unpack_platform(session.store()?, &name.or_latest(), platform)?.is_some())
        }
        _ => Ok(false),
    }
}

fn pull(
    image: &str,
    options: &CreateOptions,
    is_quiet: bool,
    session: &Session,
) -> Result<(), CommandError> {
    let name = name::parse(image)?.or_latest();
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let pulled = pull_with_progress(&name, &platform, is_quiet, Channel::Stderr, session)?;
    if !is_quiet {
        let digest = &pulled.copied.named.digest;
        Channel::Stderr.write(&format!(
            "Digest: {digest}\nStatus: Downloaded newer image for {}\n",
            name.familiar()
        ));
    }
    background::tidy(session);
    Ok(())
}

/// Chooses how the container's streams reach ours. It gets them itself only where it could do no
/// harm with them and nothing has to be kept: a terminal could be read, and typed into.
pub(crate) fn streams(container: &Container, stdin: bool) -> io::Result<(Stdio, Ends)> {
    use std::io::IsTerminal as _;
    use strata::container::supervise::Input;

    if container.options.tty {
        let size = strata::container::supervise::size(io::stdout().as_fd());
        let (rows, columns) = size.unwrap_or((0, 0));
        return Ok((Stdio::Terminal { rows, columns }, Ends::Terminal));
    }
    let has_terminal = io::stdout().is_terminal()
        || io::stderr().is_terminal()
        || (stdin && io::stdin().is_terminal());
    if container.record.auto_remove && !has_terminal {
        let stdin = match stdin {
            true => Some(io::stdin().as_fd().try_clone_to_owned()?),
            false => None,
        };
        let theirs = Stdio::Streams {
            stdin,
            stdout: io::stdout().as_fd().try_clone_to_owned()?,
            stderr: io::stderr().as_fd().try_clone_to_owned()?,
        };
        return Ok((theirs, Ends::Direct));
    }
    Ends::pipes(match stdin {
        true => Input::Open,
        false => Input::Closed,
    })
}
