//! The variables of a stage while its instructions are checked.

use std::collections::{BTreeMap, BTreeSet};

use super::Base;
use crate::expand::{self, ExpandError, Expansion};
use crate::suggest;

/// Arguments that are known but never variables.
const NOT_VARIABLES: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// What an instruction of a stage sees.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    pub(super) variables: BTreeMap<String, String>,
    /// The names of `ARG`, with or without a value.
    pub(super) declared: BTreeSet<String>,
    pub(super) has_shell: bool,
    pub(super) has_workdir: bool,
}

impl Scope {
    pub(super) fn of(base: Base) -> Self {
        Self {
            variables: base.environment.into_iter().collect(),
            declared: BTreeSet::new(),
            has_shell: !base.shell.is_empty(),
            has_workdir: false,
        }
    }

    pub(super) fn expand(&self, text: &str, escape: char) -> Result<Expansion, ExpandError> {
        expand::expand(text, &|name| self.variables.get(name).cloned(), escape)
    }

    /// Returns a message for each variable that was not set and should be.
    pub(super) fn complaints(&self, unset: &[String]) -> Vec<String> {
        let known = |name: &&String| {
            !self.declared.contains(*name) && !NOT_VARIABLES.contains(&name.as_str())
        };
        let message = |name: &String| {
            let hint = self.suggestion(name);
            let hint = hint.map(|hint| format!(" (did you mean ${hint}?)"));
            format!(
                "Usage of undefined variable '${name}'{}",
                hint.unwrap_or_default()
            )
        };
        unset.iter().filter(known).map(message).collect()
    }

    pub(super) fn suggestion(&self, name: &str) -> Option<&str> {
        let names: Vec<&str> = self.variables.keys().map(String::as_str).collect();
        suggest::nearest(name, &names)
    }

    pub(super) fn set(&mut self, name: &str, value: String) {
        if !NOT_VARIABLES.contains(&name) {
            self.variables.insert(name.to_owned(), value);
        }
    }
}
