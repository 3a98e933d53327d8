//! The `--flags` of an instruction.

use std::collections::BTreeMap;

use crate::error::ParseErrorKind;
use crate::suggest;

/// What a flag takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing, `=true` or `=false`.
    Switch,
    /// One value.
    Value,
    /// One value, and the flag may be repeated.
    Values,
}

/// The flags that were given.
#[derive(Debug)]
pub(crate) struct Flags(BTreeMap<&'static str, Vec<String>>);

impl Flags {
    /// Checks `given` against what the instruction allows.
    pub(crate) fn parse(
        given: &[String],
        allowed: &[(&'static str, Takes)],
    ) -> Result<Self, ParseErrorKind> {
        let mut flags = BTreeMap::<&'static str, Vec<String>>::new();
        for text in given {
            let (flag, value) = match text.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (text.as_str(), None),
            };
            let name = flag.strip_prefix("--").unwrap_or(flag);
            let Some((name, takes)) = allowed.iter().find(|(allowed, _)| *allowed == name) else {
                let names: Vec<&str> = allowed.iter().map(|(name, _)| *name).collect();
                return Err(ParseErrorKind::UnknownFlag {
                    flag: flag.to_owned(),
                    suggestion: suggest::nearest(name, &names).map(str::to_owned),
                });
            };
            let values = flags.entry(name).or_default();
            if !values.is_empty() && *takes != Takes::Values {
                return Err(ParseErrorKind::DuplicateFlag(flag.to_owned()));
            }
            let value = match (takes, value) {
                (Takes::Switch, None) => "true".to_owned(),
                (Takes::Switch, Some(value)) if !value.is_empty() => switch(flag, value)?,
                (Takes::Value | Takes::Values, Some(value)) => value.to_owned(),
                _ => return Err(ParseErrorKind::FlagWithoutValue(flag.to_owned())),
            };
            values.push(value);
        }
        Ok(Self(flags))
    }

    /// Returns the value of a flag, `None` when it was not given.
    pub(crate) fn raw(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.first().map(String::as_str)
    }

    /// Returns the value of a flag that says nothing when it is empty.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        let value = self.raw(name).filter(|value| !value.is_empty());
        value.map(str::to_owned)
    }

    /// Returns the values of a flag that may be repeated.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        self.0.get(name).cloned().unwrap_or_default()
    }

    /// Returns what a switch was set to.
    pub(crate) fn switch(&self, name: &str) -> Option<bool> {
        self.raw(name).map(|value| value == "true")
    }
}

fn switch(flag: &str, value: &str) -> Result<String, ParseErrorKind> {
    let lower = value.to_lowercase();
    if lower == "true" || lower == "false" {
        return Ok(lower);
    }
    Err(ParseErrorKind::FlagNotBoolean {
        flag: flag.to_owned(),
        value: value.to_owned(),
    })
}
