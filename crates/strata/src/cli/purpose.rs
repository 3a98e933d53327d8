//! What a command is remembered as: `reflog` and `undo` show it.

use std::time::Duration;

use store::{Purpose, UndoWindow};
use strata::time::parse_duration;

use super::command::Command;
use super::error::CommandError;
use super::flags::{Arguments, Order, Value};
use super::history::ellipsis;

/// How long what is removed stays where there is room, so that it can be undone.
const WINDOW: Duration = Duration::from_secs(60);

/// Flags whose values tell which command it was, and are no secrets.
const TOLD: &[&str] = &["filter", "input", "tag"];

/// How much of a command is remembered.
const WIDTH: usize = 200;

/// Returns what is remembered of a command; `None` when it is not to be undone: what a push
/// records here is what the registry has.
pub(crate) fn purpose(command: &Command, arguments: &Arguments) -> Option<Purpose> {
    let kind = *command.names.iter().min_by_key(|name| name.len())?;
    (kind != "push").then(|| Purpose {
        kind: kind.to_owned(),
        command: ellipsis(&text(kind, command, arguments), WIDTH),
        window: UndoWindow::None,
    })
}

/// Reads `$STRATA_UNDO_WINDOW`: seconds, or a duration as `5m`.
pub(crate) fn window(text: Option<&str>) -> Result<UndoWindow, CommandError> {
    let Some(text) = text else {
        return Ok(UndoWindow::WhereRoom(WINDOW));
    };
    let seconds = text.parse().ok().map(Duration::from_secs);
    match seconds.or_else(|| parse_duration(text)) {
        Some(Duration::ZERO) => Ok(UndoWindow::None),
        Some(window) => Ok(UndoWindow::Always(window)),
        None => Err(CommandError::client(format!(
            "invalid STRATA_UNDO_WINDOW `{text}`: expected seconds, or a duration as 5m"
        ))),
    }
}

/// Values of other flags, and what follows the image of `run`, may be secrets.
fn text(kind: &str, command: &Command, arguments: &Arguments) -> String {
    let mut words = vec![kind.to_owned()];
    for flag in command.flags {
        let name = match flag.short {
            Some(letter) => format!("-{letter}"),
            None => format!("--{}", flag.long),
        };
        if flag.value == Value::Switch && arguments.is_on(flag.long) {
            words.push(name);
        } else if TOLD.contains(&flag.long) {
            for value in arguments.all(flag.long) {
                words.extend([name.clone(), word(value)]);
            }
        }
    }
    let count = match command.order {
        Order::Mixed => arguments.positional.len(),
        Order::FlagsFirst => 1,
    };
    words.extend(
        arguments
            .positional
            .iter()
            .take(count)
            .map(|text| word(text)),
    );
    words.join(" ")
}

/// Quotes a word that would not be one in a shell. Nothing in it reaches a terminal as a command.
fn word(text: &str) -> String {
    let shown: String = text
        .chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect();
    match shown.is_empty() || shown.contains(char::is_whitespace) {
        true => format!("'{shown}'"),
        false => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::flags::Flags;
    use crate::cli::{build, image_prune, push, rmi, run};

    fn check(command: &Command, words: &[&str], expected: Option<&str>) {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let flags = Flags {
            known: command.flags,
            refused: command.refused,
            order: command.order,
        };
        let arguments = Arguments::parse(&words, flags).expect("valid");
        let purpose = purpose(command, &arguments);
        let text = purpose.map(|purpose| purpose.command);
        assert_eq!(text.as_deref(), expected);
    }

    #[test]
    fn a_command_is_remembered_without_what_may_be_secret() {
        check(&rmi::COMMAND, &["a:1", "b", "-f"], Some("rmi -f a:1 b"));
        check(
            &image_prune::COMMAND,
            &["-af", "--filter", "label=x y"],
            Some("image prune -a --filter 'label=x y' -f"),
        );
        check(
            &build::COMMAND,
            &["--build-arg", "TOKEN=secret", "-t", "app", "-q", "a\u{1b}b"],
            Some("build -q -t app a?b"),
        );
        check(
            &run::RUN,
            &["-e", "TOKEN=secret", "--rm", "app", "login", "secret"],
            Some("run --rm app"),
        );
        check(&push::COMMAND, &["app"], None);
    }

    #[test]
    fn the_window_is_a_number_of_seconds_or_a_duration() {
        let window = |text| window(Some(text)).ok();
        let seconds = |seconds| Some(UndoWindow::Always(Duration::from_secs(seconds)));
        assert_eq!(window("0"), Some(UndoWindow::None));
        assert_eq!(window("90"), seconds(90));
        assert_eq!(window("5m"), seconds(300));
        assert_eq!(window("soon"), None);
        assert_eq!(window("-1"), None);
    }
}
