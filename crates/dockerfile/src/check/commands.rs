//! What a `RUN` runs, as far as its text tells.

use crate::{MountFlag, Program, Run};

/// Words that stand before a command and are not it.
const PREFIXES: [&str; 13] = [
    "sudo", "env", "exec", "time", "nice", "command", "if", "then", "else", "do", "!", "(", "{",
];

/// A program and its arguments, without quotes.
pub(super) type Words = Vec<String>;

/// Returns the commands of a `RUN`, in order, whatever joins them.
pub(super) fn of(run: &Run) -> Vec<Words> {
    match run.program() {
        Program::Shell(script) => split(&script),
        Program::Exec(words) => match words.as_slice() {
            [_, flag, script] if flag.starts_with('-') && flag.ends_with('c') => split(script),
            _ => vec![words],
        },
        // Another language, perhaps.
        Program::Script { .. } => Vec::new(),
    }
}

/// Tells whether a `RUN` keeps a cache of its own between builds.
pub(super) fn has_cache(run: &Run) -> bool {
    let is_cache = |mount: &MountFlag| mount.text().split(',').any(|field| field == "type=cache");
    run.mounts.iter().any(is_cache)
}

fn split(script: &str) -> Vec<Words> {
    let mut reader = Reader::default();
    let mut chars = script.chars().peekable();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None | Some('"'), '\\') => match chars.next() {
                Some('\n') | None => {}
                Some(escaped) => reader.word.push(escaped),
            },
            (Some(_), c) => reader.word.push(c),
            (None, '#') if reader.word.is_empty() => {
                while chars.next_if(|c| *c != '\n').is_some() {}
            }
            (None, ';' | '\n' | '&' | '|') => reader.end_command(),
            (None, '(' | ')') => reader.end_word(),
            (None, c) if c.is_whitespace() => reader.end_word(),
            (None, c) => reader.word.push(c),
        }
    }
    reader.end_command();
    reader.commands
}

#[derive(Default)]
struct Reader {
    commands: Vec<Words>,
    words: Words,
    word: String,
}

impl Reader {
    fn end_word(&mut self) {
        let word = std::mem::take(&mut self.word);
        let is_assignment = || {
            let name = word.split_once('=').map_or("", |(name, _)| name);
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let is_prefix =
            self.words.is_empty() && (PREFIXES.contains(&word.as_str()) || is_assignment());
        if !word.is_empty() && !is_prefix {
            self.words.push(word);
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        let words = std::mem::take(&mut self.words);
        if !words.is_empty() {
            self.commands.push(words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Instruction, parse};

    fn commands(line: &str) -> Vec<String> {
        let text = format!("FROM a\nRUN {line}");
        let dockerfile = parse(text.as_bytes()).expect("valid");
        let Instruction::Run(run) = &dockerfile.stages[0].instructions[0].value else {
            panic!("{line}");
        };
        of(run).iter().map(|words| words.join(" ")).collect()
    }

    #[test]
    fn commands_are_found_whatever_joins_them() {
        for (line, expected) in [
            (
                "a b && c | d; e & f || g",
                vec!["a b", "c", "d", "e", "f", "g"],
            ),
            (
                "set -ex; X=1 sudo Y=2 a \"b && c\" 'd;e'",
                vec!["set -ex", "a b && c d;e"],
            ),
            ("if ! (a); then b; fi", vec!["a", "b", "fi"]),
            ("[\"sh\", \"-ec\", \"a && b\"]", vec!["a", "b"]),
            ("[\"a\", \"b && c\"]", vec!["a b && c"]),
            ("<<E\n# c\na b \\\n  c\nd # e\nE", vec!["a b c", "d"]),
            ("<<E\n#!/usr/bin/python\na\nE", vec![]),
            ("a\\ b c#d \\", vec!["a b c#d"]),
            ("", vec![]),
        ] {
            assert_eq!(commands(line), expected, "{line}");
        }
    }
}
