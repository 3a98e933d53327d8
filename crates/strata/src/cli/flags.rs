//! Flags, read the way docker reads them.
//!
//! docker's grammar is that of the Go library pflag: `--rm=false`, `-H=false`, `-it`, `-eA=1`,
//! and for `run` no flag after the first argument. Scripts depend on it and on the words of its
//! errors, so it is written here instead of being bent from a general parser.

use std::fmt;

/// One flag of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    /// The name after `--`.
    pub(crate) long: &'static str,
    /// The letter after `-`.
    pub(crate) short: Option<char>,
    /// What it takes.
    pub(crate) value: Value,
    /// What the help says.
    pub(crate) help: &'static str,
}

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    /// Nothing; `=true` and `=false` are accepted.
    Switch,
    /// Nothing, and it is on unless `=false` is given.
    SwitchedOn,
    /// Nothing, as a switch, or with `=` one of the words; the last one counts.
    SwitchOr(&'static [&'static str]),
    /// One value of the named type; the last one counts.
    One(&'static str),
    /// A value of the named type each time it is given.
    Many(&'static str),
}

impl Flag {
    pub(crate) const fn switch(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Value::Switch, help)
    }

    pub(crate) const fn switched_on(long: &'static str, help: &'static str) -> Self {
        Self::new(long, Value::SwitchedOn, help)
    }

    pub(crate) const fn switch_or(
        long: &'static str,
        words: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self::new(long, Value::SwitchOr(words), help)
    }

    pub(crate) const fn one(long: &'static str, kind: &'static str, help: &'static str) -> Self {
        Self::new(long, Value::One(kind), help)
    }

    pub(crate) const fn many(long: &'static str, kind: &'static str, help: &'static str) -> Self {
        Self::new(long, Value::Many(kind), help)
    }

    const fn new(long: &'static str, value: Value, help: &'static str) -> Self {
        Self {
            long,
            short: None,
            value,
            help,
        }
    }

    pub(crate) const fn short(self, letter: char) -> Self {
        Self {
            short: Some(letter),
            ..self
        }
    }

    const fn is_switch(&self) -> bool {
        matches!(
            self.value,
            Value::Switch | Value::SwitchedOn | Value::SwitchOr(_)
        )
    }
}

/// `-a, --all`, as errors name a flag.
impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(short) = self.short {
            write!(f, "-{short}, ")?;
        }
        write!(f, "--{}", self.long)
    }
}

/// Whether flags may follow arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Flags anywhere.
    Mixed,
    /// The first argument ends the flags: what follows belongs to another program.
    FlagsFirst,
}

/// The letters of docker's flags that commands refuse by their long names.
const REFUSED_LETTERS: &[(char, &str)] = &[
    ('P', "publish-all"),
    ('a', "attach"),
    ('c', "cpu-shares"),
    ('m', "memory"),
    ('p', "publish"),
];

/// Why a command line cannot be read. `Display` is docker's own text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FlagError {
    #[error("unknown flag: --{0}")]
    Unknown(String),
    #[error("unknown shorthand flag: '{letter}' in -{group}")]
    UnknownShort { letter: char, group: String },
    #[error("flag needs an argument: --{0}")]
    NeedsArgument(&'static str),
    #[error("flag needs an argument: '{letter}' in -{group}")]
    ShortNeedsArgument { letter: char, group: String },
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    #[error("invalid argument {value:?} for \"{flag}\" flag: {reason}")]
    Invalid {
        flag: String,
        value: String,
        reason: String,
    },
    #[error("--{0} is a flag of docker that strata does not support yet")]
    Unsupported(String),
    #[error("help was asked for")]
    Help,
}

/// What was given on the command line, checked against the flags of the command.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    flags: Vec<(Flag, String)>,
    /// What is not a flag.
    pub(crate) positional: Vec<String>,
}

/// The flags that a command knows: those that work, and those of docker that it refuses by name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flags {
    pub(crate) known: &'static [Flag],
    pub(crate) refused: &'static [&'static str],
    pub(crate) order: Order,
}

impl Arguments {
    /// Reads `words`, which do not include the name of the command.
    pub(crate) fn parse(words: &[String], flags: Flags) -> Result<Self, FlagError> {
        let mut arguments = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                arguments.positional.extend(words.cloned());
                break;
            }
            if let Some(name) = word.strip_prefix("--") {
                arguments.long(name, &mut words, flags)?;
            } else if let Some(group) = word.strip_prefix('-').filter(|group| !group.is_empty()) {
                arguments.short(group, &mut words, flags)?;
            } else {
                arguments.positional.push(word.clone());
                if flags.order == Order::FlagsFirst {
                    arguments.positional.extend(words.cloned());
                    break;
                }
            }
        }
        Ok(arguments)
    }

    fn long(
        &mut self,
        text: &str,
        words: &mut std::slice::Iter<'_, String>,
        flags: Flags,
    ) -> Result<(), FlagError> {
        if text.starts_with(['-', '=']) {
            return Err(FlagError::Syntax(format!("--{text}")));
        }
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        if name == "help" {
            return Err(FlagError::Help);
        }
        let Some(flag) = flags.known.iter().find(|flag| flag.long == name) else {
            return Err(match name {
                _ if flags.refused.contains(&name) => FlagError::Unsupported(name.to_owned()),
                _ => FlagError::Unknown(name.to_owned()),
            });
        };
        let value = match value {
            Some(value) => value.to_owned(),
            None if flag.is_switch() => "true".to_owned(),
            None => words
                .next()
                .ok_or(FlagError::NeedsArgument(flag.long))?
                .clone(),
        };
        self.push(*flag, value)
    }

    fn short(
        &mut self,
        group: &str,
        words: &mut std::slice::Iter<'_, String>,
        flags: Flags,
    ) -> Result<(), FlagError> {
        let mut rest = group.chars();
        while let Some(letter) = rest.next() {
            let Some(flag) = flags.known.iter().find(|flag| flag.short == Some(letter)) else {
                if letter == 'h' {
                    return Err(FlagError::Help);
                }
                let refused = REFUSED_LETTERS
                    .iter()
                    .find(|(short, long)| *short == letter && flags.refused.contains(long));
                if let Some((_, long)) = refused {
                    return Err(FlagError::Unsupported((*long).to_owned()));
                }
                return Err(FlagError::UnknownShort {
                    letter,
                    group: format!("{letter}{}", rest.as_str()),
                });
            };
            let tail = rest.as_str();
            // pflag takes a lone `=` for the value.
            if let Some(value) = tail.strip_prefix('=').filter(|value| !value.is_empty()) {
                return self.push(*flag, value.to_owned());
            }
            if flag.is_switch() {
                self.push(*flag, "true".to_owned())?;
                continue;
            }
            let value = match tail {
                "" => words
                    .next()
                    .ok_or_else(|| FlagError::ShortNeedsArgument {
                        letter,
                        group: letter.to_string(),
                    })?
                    .clone(),
                tail => tail.to_owned(),
            };
            return self.push(*flag, value);
        }
        Ok(())
    }

    fn push(&mut self, flag: Flag, value: String) -> Result<(), FlagError> {
        let is_word =
            matches!(flag.value, Value::SwitchOr(words) if words.contains(&value.as_str()));
        if flag.is_switch() && !is_word && parse_bool(&value).is_none() {
            let reason = format!("strconv.ParseBool: parsing {value:?}: invalid syntax");
            return Err(invalid(&flag, value, reason));
        }
        self.flags.push((flag, value));
        Ok(())
    }

    /// Tells whether the switch `name` is on.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.text(name)
            .is_some_and(|text| parse_bool(text) == Some(true))
    }

    /// Tells whether the switch `name`, which is on by default, was switched off.
    pub(crate) fn is_off(&self, name: &str) -> bool {
        self.text(name)
            .is_some_and(|text| parse_bool(text) == Some(false))
    }

    /// Returns the last value of the flag `name`.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.flags
            .iter()
            .rfind(|(flag, _)| flag.long == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the values of the flag `name` in the order given.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.flags
            .iter()
            .filter(move |(flag, _)| flag.long == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the last value of the flag `name` as a number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, FlagError> {
        let Some((flag, value)) = self.flags.iter().rfind(|(flag, _)| flag.long == name) else {
            return Ok(None);
        };
        value.parse().map(Some).map_err(|_| {
            let reason = format!("strconv.ParseInt: parsing {value:?}: invalid syntax");
            invalid(flag, value.clone(), reason)
        })
    }

    /// Returns the error that `value` of the flag `name` is not what it must be.
    pub(crate) fn invalid(&self, name: &str, value: &str, reason: &str) -> FlagError {
        let (flag, _) = self
            .flags
            .iter()
            .find(|(flag, _)| flag.long == name)
            .expect("invariant: only a flag that was given can be invalid");
        invalid(flag, value.to_owned(), reason.to_owned())
    }
}

fn invalid(flag: &Flag, value: String, reason: String) -> FlagError {
    FlagError::Invalid {
        flag: flag.to_string(),
        value,
        reason,
    }
}

/// The words that Go's `strconv.ParseBool` takes.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: Flags = Flags {
        known: &[
            Flag::switch("rm", "").short('r'),
            Flag::switch("tty", "").short('t'),
            Flag::switched_on("human", "").short('H'),
            Flag::one("name", "string", ""),
            Flag::many("env", "list", "").short('e'),
            Flag::switch_or("pull", &["never"], ""),
        ],
        refused: &["memory"],
        order: Order::FlagsFirst,
    };

    fn parse(words: &[&str]) -> Result<Arguments, FlagError> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        Arguments::parse(&words, FLAGS)
    }

    fn check_error(words: &[&str], expected: &str) {
        let error = parse(words).expect_err("an error");
        assert_eq!(error.to_string(), expected, "{words:?}");
    }

    #[test]
    fn flags_are_read_as_pflag_reads_them() {
        let arguments = parse(&[
            "-rt",
            "-eA=1",
            "-e=B=2",
            "--env",
            "C",
            "--env=D=x=y",
            "--name",
            "-x",
            "image",
            "--rm=false",
            "--",
        ])
        .expect("valid");
        assert!(arguments.is_on("rm") && arguments.is_on("tty"));
        assert!(!arguments.is_off("human"));
        let env: Vec<&str> = arguments.all("env").collect();
        assert_eq!(env, ["A=1", "B=2", "C", "D=x=y"]);
        assert_eq!(arguments.text("name"), Some("-x"));
        assert_eq!(arguments.positional, ["image", "--rm=false", "--"]);
    }

    #[test]
    fn a_switch_takes_a_value_only_after_an_equals_sign() {
        let arguments = parse(&["--rm=false", "-H=0", "-t", "false"]).expect("valid");
        assert!(!arguments.is_on("rm"));
        assert!(arguments.is_off("human"));
        assert!(arguments.is_on("tty"));
        assert_eq!(arguments.positional, ["false"]);
    }

    #[test]
    fn a_switch_may_take_one_of_some_words_too() {
        for (word, expected) in [
            ("--pull", "true"),
            ("--pull=0", "0"),
            ("--pull=never", "never"),
        ] {
            let arguments = parse(&[word, "never"]).expect("valid");
            assert_eq!(arguments.text("pull"), Some(expected));
            assert_eq!(arguments.positional, ["never"]);
        }
        check_error(
            &["--pull=no"],
            "invalid argument \"no\" for \"--pull\" flag: strconv.ParseBool: parsing \"no\": invalid syntax",
        );
    }

    #[test]
    fn errors_are_in_dockers_words() {
        check_error(&["--bogus"], "unknown flag: --bogus");
        check_error(&["--bogus=1"], "unknown flag: --bogus");
        check_error(&["-rZx"], "unknown shorthand flag: 'Z' in -Zx");
        check_error(
            &["-m", "64m"],
            "--memory is a flag of docker that strata does not support yet",
        );
        check_error(&["--name"], "flag needs an argument: --name");
        check_error(&["-e"], "flag needs an argument: 'e' in -e");
        check_error(&["--=x"], "bad flag syntax: --=x");
        check_error(
            &["--rm=x"],
            "invalid argument \"x\" for \"-r, --rm\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
        );
        check_error(
            &["--memory", "1g"],
            "--memory is a flag of docker that strata does not support yet",
        );
        assert_eq!(parse(&["-h"]).expect_err("help"), FlagError::Help);
    }
}
