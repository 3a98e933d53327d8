//! `RUN`: its words, its heredocs, its history.

use dockerfile::{Command, Program, Run, RunNetwork, RunSecurity};
use oci::RunConfig;

use super::{LowerError, metadata};
use crate::vertex::Script;

/// What a `RUN` executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunCommand {
    /// The program and its arguments.
    pub(super) args: Vec<String>,
    /// A heredoc that is the program.
    pub(super) script: Option<Script>,
    /// What docker adds to the name of the step: the first line of the heredoc.
    pub(super) summary: Option<String>,
}

/// Refuses what is not built yet.
pub(super) fn check(run: &Run) -> Result<(), LowerError> {
    let unsupported = |what: String| Err(LowerError::Unsupported(what));
    if run.security == RunSecurity::Insecure {
        return unsupported("RUN --security=insecure".to_owned());
    }
    match run.devices.first() {
        Some(device) => unsupported(format!("RUN --device={}", device.name)),
        None => Ok(()),
    }
}

/// Returns the network that the instruction asks for.
pub(super) fn network(run: &Run) -> Option<crate::Network> {
    match run.network {
        RunNetwork::Default => None,
        RunNetwork::None => Some(crate::Network::None),
        RunNetwork::Host => Some(crate::Network::Host),
    }
}

/// Returns what a `RUN` executes.
pub(super) fn command(config: &RunConfig, run: &Run) -> RunCommand {
    let (command, script) = match run.program() {
        Program::Exec(words) => (Command::Exec(words), None),
        Program::Shell(line) => (Command::Shell(line), None),
        Program::Script { name, content } => {
            let path = format!("{}/{name}", Script::DIRECTORY);
            (Command::Shell(path), Some(Script { name, content }))
        }
    };
    let is_heredoc_alone = match (&run.command, run.heredocs.as_slice()) {
        (Command::Shell(line), [_]) => !line.trim().contains(char::is_whitespace),
        _ => false,
    };
    let summary = run.heredocs.first().filter(|_| is_heredoc_alone);
    RunCommand {
        args: metadata::command_line(config, &command),
        script,
        summary: summary.map(|heredoc| summarize(&heredoc.content)),
    }
}

fn summarize(content: &str) -> String {
    let mut lines = content.trim().lines();
    let first = lines.next().unwrap_or_default().to_owned();
    match lines.next() {
        Some(_) => first + "...",
        None => first,
    }
}

/// Returns the text of a `RUN`'s history entry: arguments in scope, counted, before the command.
pub(super) fn history(args: &[String], build_args: &[(String, String)]) -> String {
    let mut scope: Vec<(&str, &str)> = Vec::new();
    for (name, value) in build_args {
        match scope.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = value,
            None => scope.push((name, value)),
        }
    }
    let mut words = vec!["RUN".to_owned()];
    if !scope.is_empty() {
        words.push(format!("|{}", scope.len()));
    }
    words.extend(scope.iter().map(|(name, value)| format!("{name}={value}")));
    words.extend_from_slice(args);
    words.join(" ") + " # buildkit"
}

#[cfg(test)]
mod tests {
    use dockerfile::Heredoc;

    use super::*;

    fn heredoc(name: &str, content: &str) -> Heredoc {
        Heredoc {
            name: name.to_owned(),
            content: content.to_owned(),
            expand: true,
            chomp: false,
            file_descriptor: 0,
        }
    }

    fn run(line: &str, heredocs: Vec<Heredoc>) -> Run {
        Run {
            command: Command::Shell(line.to_owned()),
            heredocs,
            mounts: Vec::new(),
            network: RunNetwork::Default,
            security: RunSecurity::Sandbox,
            devices: Vec::new(),
        }
    }

    #[test]
    fn history_counts_the_arguments_in_scope() {
        let args: Vec<String> = ["/bin/sh", "-c", "echo hi"].map(str::to_owned).to_vec();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(history(&args, &[]), "RUN /bin/sh -c echo hi # buildkit");
        assert_eq!(
            history(&args, &[pair("A", "1"), pair("B", ""), pair("A", "2")]),
            "RUN |2 A=2 B= /bin/sh -c echo hi # buildkit"
        );
    }

    #[test]
    fn heredocs_are_scripts_or_go_to_the_shell() {
        let config = RunConfig::default();
        let last = |run: &Run| command(&config, run).args.pop().expect("a shell line");
        let plain = run("<<EOF", vec![heredoc("EOF", "echo a\necho b\n")]);
        assert_eq!(last(&plain), "echo a\necho b\n");
        assert_eq!(
            command(&config, &plain).summary.as_deref(),
            Some("echo a...")
        );
        let program = run("<<'EOF'", vec![heredoc("EOF", "#!/bin/x\n1\n")]);
        assert_eq!(last(&program), "/dev/pipes/EOF");
        assert!(command(&config, &program).script.is_some());
        let two = run(
            "cat <<A <<B",
            vec![heredoc("A", "1\n"), heredoc("B", "2\n")],
        );
        assert_eq!(last(&two), "cat <<A <<B\n1\nA\n2\nB");
    }
}
