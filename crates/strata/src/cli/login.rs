//! `strata login` and `strata logout`.

use std::io::{self, BufRead as _, Read as _};
use std::os::fd::AsFd as _;

use registry::login::{Keeper, Login};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use strata::describe;
use strata::ops::login::{log_in, log_out, registry_of};

use super::command::{Arity, Command};
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::output::stdin_is_terminal;
use super::session::Session;

pub(crate) const LOGIN: Command = Command {
    names: &["login"],
    usage: "[OPTIONS] [SERVER]",
    about: "Authenticate to a registry; without SERVER, to Docker Hub",
    flags: &[
        Flag::one(
            "password",
            "string",
            "Password or Personal Access Token (PAT)",
        )
        .short('p'),
        Flag::switch(
            "password-stdin",
            "Take the Password or Personal Access Token (PAT) from stdin",
        ),
        Flag::one("username", "string", "Username").short('u'),
    ],
    arity: Arity::AtMost(1),
    run: run_login,
    ..Command::DEFAULT
};

pub(crate) const LOGOUT: Command = Command {
    names: &["logout"],
    usage: "[SERVER]",
    about: "Log out from a registry; without SERVER, from Docker Hub",
    arity: Arity::AtMost(1),
    run: run_logout,
    ..Command::DEFAULT
};

/// The longest password that is read.
const MAX_PASSWORD: u64 = 64 << 10;

fn run_login(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let registry = registry_of(arguments.positional.first().map(String::as_str));
    let directory = session.docker_config()?;
    let client = session.client()?;
    let given = given(arguments, session)?;
    if given.user.is_none() && given.password.is_none() {
        match client.log_in_again(&registry) {
            Ok(true) => {
                session.out.line("Login Succeeded")?;
                return Ok(Exit::SUCCESS);
            }
            Ok(false) => {}
            Err(error) => session.out.talk(&format!(
                "Login with the credentials that are kept did not succeed: {}",
                describe(&error)
            )),
        }
    }
    let login = complete(given, session)?;
    let keeper = log_in(&client, &directory, &registry, &login)?;
    if let Keeper::File(path) = keeper {
        session.out.talk(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n",
            path.display()
        ));
    }
    session.out.line("Login Succeeded")?;
    Ok(Exit::SUCCESS)
}

fn run_logout(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let registry = registry_of(arguments.positional.first().map(String::as_str));
    let shown = match registry == oci::DEFAULT_REGISTRY {
        true => "https://index.docker.io/v1/",
        false => &registry,
    };
    session
        .out
        .line(&format!("Removing login credentials for {shown}"))?;
    log_out(&session.docker_config()?, &registry).map_err(|error| {
        CommandError::client(format!(
            "WARNING: could not erase credentials:\n{registry}: {}",
            describe(&error)
        ))
    })?;
    Ok(Exit::SUCCESS)
}

/// What the flags say of who logs in.
struct Given {
    user: Option<String>,
    password: Option<String>,
}

fn given(arguments: &Arguments, session: &mut Session) -> Result<Given, CommandError> {
    let text = |name| {
        let given = arguments.text(name).filter(|text| !text.is_empty());
        given.map(str::to_owned)
    };
    let (user, mut password) = (text("username"), text("password"));
    if password.is_some() {
        session
            .out
            .talk("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        if arguments.is_on("password-stdin") {
            return Err(CommandError::client(
                "conflicting options: cannot specify both --password and --password-stdin",
            ));
        }
    }
    if arguments.is_on("password-stdin") {
        if user.is_none() {
            return Err(CommandError::client(
                "the --password-stdin option requires --username to be set",
            ));
        }
        let mut read = String::new();
        io::stdin().take(MAX_PASSWORD).read_to_string(&mut read)?;
        let read = read.strip_suffix('\n').unwrap_or(&read);
        password = Some(read.strip_suffix('\r').unwrap_or(read).to_owned());
    }
    Ok(Given { user, password })
}

/// Asks at the terminal for what the flags leave open.
fn complete(given: Given, session: &mut Session) -> Result<Login, CommandError> {
    if (given.user.is_none() || given.password.is_none()) && !stdin_is_terminal() {
        return Err(CommandError::client(
            "Error: Cannot perform an interactive login from a non TTY device",
        ));
    }
    let user = match given.user {
        Some(user) => user,
        None => {
            session.out.data("Username: ")?;
            let user = read_line()?;
            if user.is_empty() {
                return Err(CommandError::client("Error: Non-null Username Required"));
            }
            user
        }
    };
    let password = match given.password {
        Some(password) => password,
        None => {
            session.out.data("Password: ")?;
            let password = without_echo(read_line)?;
            session.out.data("\n")?;
            password
        }
    };
    if password.is_empty() {
        return Err(CommandError::client("Error: Password Required"));
    }
    Ok(Login { user, password })
}

fn read_line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().lock().take(MAX_PASSWORD).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// Keeps the terminal from showing what is typed meanwhile.
fn without_echo<T>(read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let stdin = io::stdin();
    let before = tcgetattr(stdin.as_fd())?;
    let mut silent = before.clone();
    silent.local_modes -= LocalModes::ECHO;
    tcsetattr(stdin.as_fd(), OptionalActions::Flush, &silent)?;
    let result = read();
    tcsetattr(stdin.as_fd(), OptionalActions::Now, &before)?;
    result
}
