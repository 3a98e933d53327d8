//! The tree of commands, and the way from the words of a command line to one of them.

use std::fmt::Write as _;

use super::command::{Command, flag_table};
use super::error::{CommandError, Exit, Voice};
use super::flags::{Arguments, Flag, FlagError, Flags, Order};
use super::session::Session;
use super::{
    background, build, build_history, builder_du, builder_prune, commit, container_start, copy,
    export, history, image_prune, images, import, info, inspect, load, login, logs, manifest,
    monitor, ps, pull, push, reflog, registry_serve, rm, rmi, run, save, system_df, system_fsck,
    system_prune, tag, undo, version,
};

/// All commands.
const COMMANDS: &[&Command] = &[
    &background::COMMAND,
    &build::COMMAND,
    &build_history::INSPECT,
    &build_history::LOGS,
    &build_history::LS,
    &build_history::RM,
    &builder_du::COMMAND,
    &builder_prune::COMMAND,
    &commit::COMMAND,
    &container_start::COMMAND,
    &copy::COMMAND,
    &export::COMMAND,
    &history::COMMAND,
    &image_prune::COMMAND,
    &images::COMMAND,
    &import::COMMAND,
    &info::COMMAND,
    &inspect::ANY,
    &inspect::CONTAINER,
    &inspect::IMAGE,
    &load::COMMAND,
    &login::LOGIN,
    &login::LOGOUT,
    &logs::COMMAND,
    &manifest::ANNOTATE,
    &manifest::CREATE,
    &manifest::INSPECT,
    &manifest::PUSH,
    &manifest::RM,
    &monitor::COMMAND,
    &ps::COMMAND,
    &pull::COMMAND,
    &push::COMMAND,
    &reflog::COMMAND,
    &registry_serve::COMMAND,
    &rm::PRUNE,
    &rm::RM,
    &rmi::COMMAND,
    &run::CREATE,
    &run::RUN,
    &save::COMMAND,
    &system_df::COMMAND,
    &system_fsck::COMMAND,
    &system_prune::COMMAND,
    &tag::COMMAND,
    &undo::COMMAND,
    &version::COMMAND,
];

/// Commands that only hold others.
const GROUPS: &[(&str, &str)] = &[
    ("builder", "Manage builds"),
    ("builder history", "Commands to work on build records"),
    ("buildx", "Build images"),
    ("buildx history", "Commands to work on build records"),
    ("container", "Manage containers"),
    ("image", "Manage images"),
    (
        "manifest",
        "Manage Docker image manifests and manifest lists",
    ),
    ("registry", "Serve the store as a registry"),
    ("system", "Manage strata"),
];

/// Commands that the main help lists first.
const USUAL: &[&str] = &[
    "run", "ps", "build", "pull", "push", "images", "version", "info",
];

/// Flags before the command. Those that speak of a daemon are taken, so that scripts run, and
/// mean nothing.
const GLOBAL_FLAGS: &[Flag] = &[
    Flag::one("config", "string", "Location of docker's config.json"),
    Flag::one("context", "string", "Ignored: there is no daemon").short('c'),
    Flag::switch("debug", "Ignored: errors are always complete").short('D'),
    Flag::many("host", "list", "Ignored: there is no daemon").short('H'),
    Flag::one("log-level", "string", "Ignored: there is no daemon").short('l'),
    Flag::switch("tls", "Ignored: there is no daemon"),
    Flag::one("tlscacert", "string", "Ignored: there is no daemon"),
    Flag::one("tlscert", "string", "Ignored: there is no daemon"),
    Flag::one("tlskey", "string", "Ignored: there is no daemon"),
    Flag::switch("tlsverify", "Ignored: there is no daemon"),
    Flag::switch("version", "Print version information and quit").short('v'),
];

/// Runs what `words` say; they do not include the name of the program.
pub(crate) fn execute(words: &[String], session: &mut Session) -> Exit {
    match attempt(words, session) {
        Ok(exit) => exit,
        Err(error) => {
            let (text, exit) = error.report(Voice::Plain, session.program, "");
            if !text.is_empty() {
                session.out.talk(&text);
            }
            exit
        }
    }
}

fn attempt(words: &[String], session: &mut Session) -> Result<Exit, CommandError> {
    let program = session.program;
    let flags = Flags {
        known: GLOBAL_FLAGS,
        refused: &[],
        order: Order::FlagsFirst,
    };
    let arguments = match Arguments::parse(words, flags) {
        Ok(arguments) => arguments,
        Err(FlagError::Help) => return main_help(session),
        Err(error) => {
            return Err(CommandError::bare(format!(
                "{error}\n\nUsage:  {program} [OPTIONS] COMMAND [ARG...]\n\nRun '{program} --help' for more information"
            ))
            .exit(Exit::NOT_STARTED));
        }
    };
    if arguments.is_on("version") {
        session.out.line(&version::line(program))?;
        return Ok(Exit::SUCCESS);
    }
    if let Some(config) = arguments.text("config") {
        session.environment.registries.docker_config = Some(config.into());
    }
    let words = arguments.positional.as_slice();
    match words {
        [] => main_help(session),
        [help, rest @ ..] if help == "help" => {
            let mut words = rest.to_vec();
            words.push("--help".to_owned());
            dispatch(&words, session)
        }
        words => dispatch(words, session),
    }
}

fn dispatch(words: &[String], session: &mut Session) -> Result<Exit, CommandError> {
    let program = session.program;
    let first = words[0].as_str();
    if first == "--help" {
        return main_help(session);
    }
    if let Some((group, about)) = GROUPS.iter().find(|(group, _)| *group == first) {
        return in_group(group, about, &words[1..], session);
    }
    // `history ls` lists builds; an image named `ls` has other names.
    if let Some(second) = words.get(1)
        && let name = format!("{first} {second}")
        && let Some(command) = find(&name)
    {
        return Ok(command.execute(&name, &words[2..], session));
    }
    match find(first) {
        Some(command) => Ok(command.execute(first, &words[1..], session)),
        None => Err(unknown(
            program,
            first,
            &format!("Run '{program} --help' for more information"),
        )),
    }
}

fn in_group(
    group: &str,
    about: &str,
    words: &[String],
    session: &mut Session,
) -> Result<Exit, CommandError> {
    let program = session.program;
    let usage =
        format!("Usage:  {program} {group}\n\nRun '{program} {group} --help' for more information");
    let Some(word) = words.first() else {
        return group_help(group, about, session);
    };
    let name = format!("{group} {word}");
    if let Some((inner, about)) = GROUPS.iter().find(|(inner, _)| *inner == name) {
        return in_group(inner, about, &words[1..], session);
    }
    if let Some(command) = find(&name) {
        return Ok(command.execute(&name, &words[1..], session));
    }
    let flags = Flags {
        known: &[],
        refused: &[],
        order: Order::Mixed,
    };
    match Arguments::parse(words, flags) {
        Err(FlagError::Help) => group_help(group, about, session),
        Err(error) => {
            Err(CommandError::bare(format!("{error}\n\n{usage}")).exit(Exit::NOT_STARTED))
        }
        Ok(_) => Err(unknown(program, &name, &usage)),
    }
}

/// Commands of docker that do not exist yet, alone or in their group.
const MISSING: &[&str] = &[
    "attach",
    "checkpoint",
    "compose",
    "config",
    "context",
    "cp",
    "diff",
    "events",
    "exec",
    "kill",
    "manifest",
    "network",
    "node",
    "pause",
    "plugin",
    "port",
    "rename",
    "restart",
    "search",
    "secret",
    "service",
    "stack",
    "stats",
    "stop",
    "swarm",
    "top",
    "trust",
    "unpause",
    "update",
    "volume",
    "wait",
    "builder build",
    "buildx bake",
    "buildx history export",
    "buildx history import",
    "buildx history open",
    "buildx history trace",
    "buildx imagetools",
    "buildx ls",
    "buildx prune",
    "system events",
];

/// Returns the error that there is no command `name`, in docker's words where docker has none
/// either.
fn unknown(program: &str, name: &str, usage: &str) -> CommandError {
    let last = name.strip_prefix("container ").unwrap_or(name);
    CommandError::bare(match MISSING.contains(&last) {
        true => format!(
            "{program}: '{name}' is a command of docker that strata does not have yet\n\n{usage}"
        ),
        false => format!("{program}: unknown command: {program} {name}\n\n{usage}"),
    })
}

fn find(name: &str) -> Option<&'static Command> {
    COMMANDS
        .iter()
        .copied()
        .find(|command| command.names.contains(&name))
}

fn group_help(group: &str, about: &str, session: &mut Session) -> Result<Exit, CommandError> {
    let program = session.program;
    let mut rows: Vec<(&str, &str)> = Vec::new();
    for command in COMMANDS {
        let own = command
            .names
            .iter()
            .find_map(|name| name.strip_prefix(group)?.strip_prefix(' '))
            .filter(|name| !name.contains(' '));
        rows.extend(own.map(|name| (name, command.about)));
    }
    rows.extend(GROUPS.iter().filter_map(|(inner, about)| {
        let name = inner.strip_prefix(group)?.strip_prefix(' ')?;
        Some((name, *about))
    }));
    rows.sort_unstable();
    let mut text = format!("Usage:  {program} {group} COMMAND\n\n{about}\n\nCommands:\n");
    push_rows(&mut text, &rows);
    write!(
        text,
        "\nRun '{program} {group} COMMAND --help' for more information on a command.\n"
    )
    .expect("writing to a String cannot fail");
    session.out.data(&text)?;
    Ok(Exit::SUCCESS)
}

fn main_help(session: &mut Session) -> Result<Exit, CommandError> {
    let program = session.program;
    let mut all: Vec<(&str, &str)> = Vec::new();
    for command in COMMANDS {
        let own = command.names.iter().find(|name| !name.contains([' ', '.']));
        all.extend(own.map(|name| (*name, command.about)));
    }
    all.sort_unstable();
    let usual: Vec<(&str, &str)> = USUAL
        .iter()
        .filter_map(|usual| all.iter().find(|(name, _)| name == usual).copied())
        .collect();
    let rest: Vec<(&str, &str)> = all
        .into_iter()
        .filter(|(name, _)| !USUAL.contains(name))
        .collect();
    let mut text = format!(
        "Usage:  {program} [OPTIONS] COMMAND\n\nBuilds, stores, shares and runs container images without a daemon\n\nCommon Commands:\n"
    );
    push_rows(&mut text, &usual);
    text.push_str("\nManagement Commands:\n");
    let groups = GROUPS.iter().copied();
    let groups: Vec<_> = groups.filter(|(name, _)| !name.contains(' ')).collect();
    push_rows(&mut text, &groups);
    text.push_str("\nCommands:\n");
    push_rows(&mut text, &rest);
    text.push_str("\nGlobal Options:\n");
    text.push_str(&flag_table(GLOBAL_FLAGS));
    write!(
        text,
        "\nRun '{program} COMMAND --help' for more information on a command.\n"
    )
    .expect("writing to a String cannot fail");
    session.out.data(&text)?;
    Ok(Exit::SUCCESS)
}

fn push_rows(text: &mut String, rows: &[(&str, &str)]) {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    for (name, about) in rows {
        writeln!(text, "  {name:width$}{about}").expect("writing to a String cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_belongs_to_one_command_and_every_group_exists() {
        let mut names: Vec<&str> = COMMANDS.iter().flat_map(|c| c.names).copied().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for name in names {
            if let Some((group, _)) = name.rsplit_once(' ') {
                let is_group = GROUPS.iter().any(|(known, _)| *known == group);
                assert!(is_group || find(group).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn no_flag_is_both_known_and_refused_or_given_twice() {
        for command in COMMANDS {
            let mut longs: Vec<&str> = command.flags.iter().map(|flag| flag.long).collect();
            longs.extend(command.refused);
            let mut shorts: Vec<char> = command.flags.iter().filter_map(|f| f.short).collect();
            let count = (longs.len(), shorts.len());
            longs.sort_unstable();
            longs.dedup();
            shorts.sort_unstable();
            shorts.dedup();
            assert_eq!((longs.len(), shorts.len()), count, "{:?}", command.names);
        }
    }

    /// docs/commands.md as the commands themselves tell it.
    fn document() -> String {
        let mut text = String::from(INTRODUCTION);
        let mut commands: Vec<&Command> = COMMANDS.to_vec();
        commands.retain(|command| !command.names[0].starts_with('.'));
        let shortest = |command: &Command| {
            let names = command.names.iter().copied();
            names
                .min_by_key(|name| name.len())
                .expect("a command has a name")
        };
        commands.sort_by_key(|command| shortest(command));
        for command in commands {
            let name = shortest(command);
            let others: Vec<String> = command
                .names
                .iter()
                .filter(|other| **other != name)
                .map(|other| format!("`{other}`"))
                .collect();
            text.push_str(&format!("\n## `{name} {}`\n\n", command.usage));
            text.push_str(&format!("{}.", command.about));
            if !others.is_empty() {
                text.push_str(&format!(" Also {}.", others.join(", ")));
            }
            text.push('\n');
            let mut flags: Vec<&Flag> = command.flags.iter().collect();
            flags.sort_by_key(|flag| flag.long);
            if !flags.is_empty() {
                text.push_str("\n| Flag | What it does |\n|--|--|\n");
            }
            for flag in flags {
                let help = flag.help.replace('|', "\\|").replace('<', "&lt;");
                text.push_str(&format!("| `{flag}` | {help} |\n"));
            }
            if !command.refused.is_empty() {
                let refused: Vec<String> = command
                    .refused
                    .iter()
                    .map(|flag| format!("`--{flag}`"))
                    .collect();
                text.push_str(&format!("\nRefused: {}.\n", refused.join(", ")));
            }
        }
        text
    }

    const INTRODUCTION: &str = "\
# Commands

Every command and every flag that works, and the flags of docker that are refused by name. A flag
that docker has and that is in neither list is refused as unknown, with docker's words and exit
code 125. Called as `docker` (a link), the program behaves the same and speaks of itself as docker.

Global flags: `--config`, `-v`/`--version`, `--help`. `-D`, `-H`, `-c`, `-l` and the TLS flags
are taken and mean nothing: there is no daemon.

Environment: `STRATA_ROOT` (the store), `STRATA_RUN` (mounts, locks), `STRATA_LAYER_FORM`
(`tree` or `erofs`), `STRATA_UNDO_WINDOW` (seconds that removed images can be brought back;
0 frees their space at once), `DOCKER_CONFIG`, `DOCKER_DEFAULT_PLATFORM`, `BUILDKIT_PROGRESS`,
`SOURCE_DATE_EPOCH`, `NO_COLOR`.

This file is checked against the program by a test.
";

    #[test]
    fn the_document_lists_every_command_and_flag() {
        let written = include_str!("../../../../docs/commands.md");
        let expected = document();
        if written != expected {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/commands.md");
            std::fs::write(path, &expected).expect("the target directory is writable");
            panic!("docs/commands.md is not what the commands tell: see target/commands.md");
        }
    }
}
