//! Running the checks.

use std::collections::BTreeSet;

use super::settings::{Settings, SettingsError};
use super::{CheckOptions, Rule, cache, style, variables};
use crate::{Dockerfile, Span, Warning};

/// What the checks found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What should be written otherwise, by line.
    pub warnings: Vec<Warning>,
    /// What our own rules advise, by line; it fails no build.
    pub advice: Vec<Warning>,
    /// BuildKit's message when the build must fail for it.
    pub error: Option<String>,
}

/// Checks a Dockerfile.
pub fn check(dockerfile: &Dockerfile, options: &CheckOptions<'_>) -> Result<Report, SettingsError> {
    let settings = match (options.settings, &dockerfile.directives.check) {
        (Some(settings), _) => settings.clone(),
        (None, Some(text)) => Settings::parse(text)?,
        (None, None) => Settings::default(),
    };
    let mut findings = Findings {
        settings,
        warnings: Vec::new(),
    };
    for warning in &dockerfile.warnings {
        if findings.settings.allow(warning.rule) {
            findings.warnings.push(warning.clone());
        }
    }
    style::check(dockerfile, &mut findings);
    variables::check(dockerfile, options, &mut findings);
    cache::check(dockerfile, options, &mut findings);
    let mut warnings = findings.warnings;
    warnings.sort_by_key(|warning| warning.span.start);
    let (advice, warnings): (Vec<_>, Vec<_>) = warnings
        .into_iter()
        .partition(|warning| warning.rule.is_advice());
    let error = (findings.settings.are_errors() && !warnings.is_empty()).then(|| {
        let rules: BTreeSet<&str> = warnings.iter().map(|warning| warning.rule.name()).collect();
        let rules: Vec<&str> = rules.into_iter().collect();
        format!("lint violation found for rules: {}", rules.join(", "))
    });
    Ok(Report {
        warnings,
        advice,
        error,
    })
}

/// The warnings so far, and what may be warned about.
pub(super) struct Findings {
    pub(super) settings: Settings,
    warnings: Vec<Warning>,
}

impl Findings {
    pub(super) fn add(&mut self, rule: Rule, span: Span, message: String) {
        if self.settings.allow(rule) {
            self.warnings.push(Warning {
                rule,
                message,
                span,
            });
        }
    }

    /// Runs `check` with the settings that stand in comments above an instruction.
    pub(super) fn with_comments(&mut self, comments: &[String], check: impl FnOnce(&mut Self)) {
        let inner = self.settings.with_comments(comments);
        let outer = std::mem::replace(&mut self.settings, inner);
        check(self);
        self.settings = outer;
    }
}
