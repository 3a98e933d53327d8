//! The shape of a command: its names, flags and help.

use std::fmt::Write as _;

use super::background;
use super::error::{CommandError, Exit, Voice};
use super::flags::{Arguments, Flag, FlagError, Flags, Order, Value};
use super::purpose::purpose;
use super::session::Session;

/// One command. Commands are constants beside the functions that run them.
#[derive(Debug)]
pub(crate) struct Command {
    /// All names, in the order in which docker's help lists them: `image ls`, `images`.
    pub(crate) names: &'static [&'static str],
    /// What follows the name in the usage line.
    pub(crate) usage: &'static str,
    /// What it does.
    pub(crate) about: &'static str,
    /// What its help adds at the end.
    pub(crate) notes: &'static str,
    /// Its flags.
    pub(crate) flags: &'static [Flag],
    /// Flags of docker that it refuses by name.
    pub(crate) refused: &'static [&'static str],
    /// How many arguments it takes.
    pub(crate) arity: Arity,
    /// Whether flags end at the first argument.
    pub(crate) order: Order,
    /// How its errors are introduced.
    pub(crate) voice: Voice,
    /// What it does.
    pub(crate) run: fn(&Arguments, &mut Session) -> Result<Exit, CommandError>,
}

/// How many arguments a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arity {
    None,
    Exactly(usize),
    AtLeast(usize),
    AtMost(usize),
    Between(usize, usize),
}

impl Command {
    /// What most commands have in common.
    pub(crate) const DEFAULT: Self = Self {
        names: &[],
        usage: "[OPTIONS]",
        about: "",
        notes: "",
        flags: &[],
        refused: &[],
        arity: Arity::None,
        order: Order::Mixed,
        voice: Voice::Plain,
        run: |_, _| Ok(Exit::SUCCESS),
    };

    /// Reads `words` and runs the command, which was called `name`.
    pub(crate) fn execute(&self, name: &str, words: &[String], session: &mut Session) -> Exit {
        match self.attempt(name, words, session) {
            Ok(exit) => exit,
            Err(error) => {
                let misuse = error.misuse();
                let misuse = misuse.map(|misuse| self.usage_error(session.program, name, misuse));
                let error = misuse.as_ref().unwrap_or(&error);
                let (text, exit) = error.report(self.voice, session.program, name);
                if !text.is_empty() {
                    session.out.talk(&text);
                }
                // What was begun takes space, and the disk may be full for that very reason.
                if session.has_store() {
                    background::tidy(session);
                }
                exit
            }
        }
    }

    fn attempt(
        &self,
        name: &str,
        words: &[String],
        session: &mut Session,
    ) -> Result<Exit, CommandError> {
        let program = session.program;
        let flags = Flags {
            known: self.flags,
            refused: self.refused,
            order: self.order,
        };
        let arguments = match Arguments::parse(words, flags) {
            Ok(arguments) => arguments,
            Err(FlagError::Help) => {
                session.out.data(&self.help(program, name))?;
                return Ok(Exit::SUCCESS);
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(complaint) = self.arity.complaint(arguments.positional.len()) {
            let verb = match self.arity {
                Arity::AtLeast(_) => "See",
                _ => "Run",
            };
            let lead = match self.voice {
                Voice::Build => "ERROR: ",
                Voice::Plain | Voice::Run => "",
            };
            return Err(CommandError::bare(format!(
                "{lead}{program}: '{program} {name}' {complaint}\n\n{}\n\n{verb} '{program} {name} --help' for more information",
                self.usage_line(program, name)
            )));
        }
        session.purpose = purpose(self, &arguments);
        (self.run)(&arguments, session)
    }

    fn usage_error(&self, program: &str, name: &str, error: &str) -> CommandError {
        CommandError::bare(format!(
            "{error}\n\n{}\n\nRun '{program} {name} --help' for more information",
            self.usage_line(program, name)
        ))
        .exit(Exit::NOT_STARTED)
    }

    fn usage_line(&self, program: &str, name: &str) -> String {
        format!("Usage:  {program} {name} {}", self.usage)
            .trim_end()
            .to_owned()
    }

    fn help(&self, program: &str, name: &str) -> String {
        let mut text = format!("{}\n\n{}\n", self.usage_line(program, name), self.about);
        if self.names.len() > 1 {
            let names: Vec<String> = self
                .names
                .iter()
                .map(|name| format!("{program} {name}"))
                .collect();
            write!(text, "\nAliases:\n  {}\n", names.join(", "))
                .expect("writing to a String cannot fail");
        }
        if !self.flags.is_empty() {
            text.push_str("\nOptions:\n");
            text.push_str(&flag_table(self.flags));
        }
        if !self.notes.is_empty() {
            write!(text, "\n{}\n", self.notes).expect("writing to a String cannot fail");
        }
        text
    }
}

impl Arity {
    fn complaint(self, count: usize) -> Option<String> {
        let arguments = |n: usize| match n {
            1 => "1 argument".to_owned(),
            n => format!("{n} arguments"),
        };
        match self {
            Self::None if count > 0 => Some("accepts no arguments".to_owned()),
            Self::Exactly(n) if count != n => Some(format!("requires {}", arguments(n))),
            Self::AtLeast(n) if count < n => Some(format!("requires at least {}", arguments(n))),
            Self::AtMost(n) if count > n => Some(format!("requires at most {}", arguments(n))),
            Self::Between(low, high) if count < low || count > high => Some(format!(
                "requires at least {low} and at most {}",
                arguments(high)
            )),
            Self::None
            | Self::Exactly(_)
            | Self::AtLeast(_)
            | Self::AtMost(_)
            | Self::Between(..) => None,
        }
    }
}

/// How wide help is, as docker's is where there is no terminal.
const HELP_WIDTH: usize = 80;

/// Returns the flags as pflag lists them: sorted, aligned and wrapped.
pub(crate) fn flag_table(flags: &[Flag]) -> String {
    let mut flags: Vec<&Flag> = flags.iter().collect();
    flags.sort_by_key(|flag| flag.long);
    let heads: Vec<String> = flags.iter().map(|flag| head(flag)).collect();
    let width = heads.iter().map(String::len).max().unwrap_or(0) + 3;
    let mut text = String::new();
    for (flag, head) in flags.iter().zip(&heads) {
        let mut help = flag.help.to_owned();
        if flag.value == Value::SwitchedOn {
            help.push_str(" (default true)");
        }
        let mut line = format!("{head:width$}");
        let mut is_empty = true;
        for word in help.split(' ') {
            if !is_empty && line.chars().count() + 1 + word.chars().count() > HELP_WIDTH - 4 {
                text.push_str(line.trim_end());
                text.push('\n');
                line = " ".repeat(width);
                is_empty = true;
            }
            if !is_empty {
                line.push(' ');
            }
            line.push_str(word);
            is_empty = false;
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn head(flag: &Flag) -> String {
    let short = match flag.short {
        Some(letter) => format!("  -{letter}, "),
        None => "      ".to_owned(),
    };
    match flag.value {
        Value::Switch | Value::SwitchedOn | Value::SwitchOr(_) => format!("{short}--{}", flag.long),
        Value::One(kind) | Value::Many(kind) => format!("{short}--{} {kind}", flag.long),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_arguments_is_refused_in_dockers_words() {
        for (arity, count, expected) in [
            (Arity::None, 1, Some("accepts no arguments")),
            (Arity::Exactly(1), 2, Some("requires 1 argument")),
            (Arity::Exactly(2), 1, Some("requires 2 arguments")),
            (Arity::AtLeast(1), 0, Some("requires at least 1 argument")),
            (Arity::AtMost(1), 2, Some("requires at most 1 argument")),
            (
                Arity::Between(1, 2),
                3,
                Some("requires at least 1 and at most 2 arguments"),
            ),
            (Arity::Between(1, 2), 2, None),
        ] {
            assert_eq!(arity.complaint(count).as_deref(), expected);
        }
    }

    #[test]
    fn flags_are_listed_as_pflag_lists_them() {
        let table = flag_table(&[
            Flag::switch("quiet", "Suppress verbose output").short('q'),
            Flag::one(
                "platform",
                "string",
                "Set platform if server is multi-platform capable",
            ),
            Flag::switched_on("human", "Print sizes and dates in human readable format").short('H'),
        ]);
        assert_eq!(
            table,
            "  -H, --human             Print sizes and dates in human readable format\n\
             \x20                         (default true)\n\
             \x20     --platform string   Set platform if server is multi-platform capable\n\
             \x20 -q, --quiet             Suppress verbose output\n"
        );
    }
}
