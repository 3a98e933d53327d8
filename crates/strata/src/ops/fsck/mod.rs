//! Checking the store, and putting right what can be.
//!
//! Nothing is locked away from other commands: a check holds the store's lock shared, so that no
//! sweep removes what is looked at, and a repair replaces one file after the other by renames.

mod fetch;
mod probes;
mod repair;

use std::io;

use registry::ClientError;
use store::{Depth, Finding, Hashed, StoreError, Totals};

use crate::Engine;
use repair::Repair;

/// Whether damage is put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is only told.
    Check,
    /// It is put right where that is possible.
    Repair,
}

/// Why the store could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The settings for registries cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file could not be read or written.
    #[error("cannot look at the store")]
    Io(#[from] io::Error),
}

/// What became of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nothing was tried.
    Found,
    /// It is as it was.
    Repaired {
        /// How.
        how: String,
    },
    /// It could not be put right.
    Left {
        /// Why.
        why: String,
    },
}

/// A finding, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was found.
    pub finding: Finding,
    /// What became of it.
    pub state: State,
    /// What people can do about it.
    pub advice: Option<String>,
}

/// A check that ended.
#[derive(Debug, Default)]
pub struct Checked {
    /// What was found, in the order in which it was.
    pub outcomes: Vec<Outcome>,
    /// What was looked at.
    pub totals: Totals,
}

impl Checked {
    /// Tells whether the store is as it was written, or is again.
    pub fn is_sound(&self) -> bool {
        let is_repaired = |outcome: &Outcome| matches!(outcome.state, State::Repaired { .. });
        self.outcomes.iter().all(is_repaired)
    }
}

/// How often what a repair brings to light is repaired in turn: a manifest that came again may
/// contradict a record.
const ROUNDS: usize = 3;

/// Checks an open store. `progress` is told how far hashing is, from several threads.
pub fn fsck(
    engine: &Engine,
    depth: Depth,
    mode: Mode,
    progress: &(dyn Fn(Hashed) + Sync),
) -> Result<Checked, FsckError> {
    let store = engine.store();
    let held = match mode {
        Mode::Repair => Some(store.hold_repairs()?),
        Mode::Check => None,
    };
    let lock = store.lock_shared()?;
    let report = probes::examine(store, depth, progress)?;
    let mut checked = Checked {
        outcomes: Vec::new(),
        totals: report.totals,
    };
    let mut findings = report.findings;
    for round in 1..=ROUNDS {
        findings.retain(|finding| !is_known(&checked, finding));
        if findings.is_empty() {
            break;
        }
        if mode == Mode::Check {
            checked.outcomes.extend(findings.into_iter().map(found));
            break;
        }
        let outcomes = Repair::new(engine, &findings).run(findings)?;
        checked.outcomes.extend(outcomes);
        findings = match round {
            ROUNDS => Vec::new(),
            _ => probes::examine(store, Depth::Quick, progress)?.findings,
        };
    }
    drop(lock);
    if held.is_some() {
        store.discard_retired()?;
    }
    Ok(checked)
}

fn is_known(checked: &Checked, finding: &Finding) -> bool {
    checked.outcomes.iter().any(|outcome| {
        let is_same = outcome.finding.path == finding.path
            && outcome.finding.digest().is_some()
            && outcome.finding.digest() == finding.digest();
        is_same || outcome.finding == *finding
    })
}

fn found(finding: Finding) -> Outcome {
    Outcome {
        advice: Some("strata system fsck --repair".to_owned()),
        finding,
        state: State::Found,
    }
}
