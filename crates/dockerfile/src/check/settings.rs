//! `# check=`: which rules are skipped, and whether the others are errors.

use std::collections::BTreeSet;

use super::Rule;

/// The settings of the checks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    skip: Selection,
    experimental: Selection,
    errors: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Selection {
    all: bool,
    names: BTreeSet<String>,
}

/// Why a `check` option is wrong. `Display` is BuildKit's own text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The option does not exist or has no value.
    #[error("invalid check option {0:?}")]
    Option(String),
    /// `error=` is neither true nor false.
    #[error("failed to parse check option {0:?}")]
    Error(String),
}

impl Settings {
    /// Parses `skip=A,B;experimental=all;error=true`.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        if text.trim().is_empty() {
            return Ok(settings);
        }
        for part in text.trim().splitn(3, ';') {
            let Some((key, value)) = part.split_once('=') else {
                return Err(SettingsError::Option(part.to_owned()));
            };
            match (key.trim(), value.trim()) {
                ("skip", value) => settings.skip = Selection::parse(value),
                ("experimental", value) => settings.experimental = Selection::parse(value),
                ("error", "1" | "t" | "T" | "true" | "TRUE" | "True") => settings.errors = true,
                ("error", "0" | "f" | "F" | "false" | "FALSE" | "False") => settings.errors = false,
                ("error", _) => return Err(SettingsError::Error(part.to_owned())),
                (key, _) => return Err(SettingsError::Option(key.to_owned())),
            }
        }
        Ok(settings)
    }

    /// Returns whether a broken rule fails the build.
    pub fn are_errors(&self) -> bool {
        self.errors
    }

    pub(super) fn allow(&self, rule: Rule) -> bool {
        if rule.is_experimental() {
            self.experimental.has(rule)
        } else {
            !self.skip.has(rule)
        }
    }

    /// Adds what a comment `# check=…` above an instruction says.
    pub(super) fn with_comments(&self, comments: &[String]) -> Self {
        let option = |comment: &String| {
            let (name, value) = comment.split_once('=')?;
            let value = value.trim().split(' ').next()?;
            (name.trim().eq_ignore_ascii_case("check")).then(|| value.to_owned())
        };
        let mut settings = self.clone();
        if let Some(Ok(more)) = comments
            .iter()
            .find_map(option)
            .map(|text| Self::parse(&text))
        {
            settings.skip.add(more.skip);
            settings.experimental.add(more.experimental);
        }
        settings
    }
}

impl Selection {
    fn parse(text: &str) -> Self {
        if text == "all" {
            return Self {
                all: true,
                names: BTreeSet::new(),
            };
        }
        Self {
            all: false,
            names: text.split(',').map(|name| name.trim().to_owned()).collect(),
        }
    }

    fn has(&self, rule: Rule) -> bool {
        self.all || self.names.contains(rule.name())
    }

    fn add(&mut self, other: Self) {
        self.all |= other.all;
        self.names.extend(other.names);
    }
}
