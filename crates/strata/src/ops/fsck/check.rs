//! The check of an open store, and its repair.

use std::io;

use registry::ClientError;
use store::{Depth, Finding, Hashed, StoreError, Totals};

use super::probes;
use super::repair::Repair;
use super::{Checked, Outcome, State};
use crate::Engine;

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

/// How often what a repair brings to light is repaired in turn: a manifest that came again may
/// contradict a record.
const ROUNDS: usize = 3;

/// Whether all images that the store had are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Records {
    /// They are.
    Whole,
    /// The repair of the database may have lost some.
    MayBeLost,
}

/// Checks an open store. `records` is what the repair of the database says; `progress` is told how far hashing is, from several threads.
pub fn fsck(
    engine: &Engine,
    depth: Depth,
    mode: Mode,
    records: Records,
    progress: &(dyn Fn(Hashed) + Sync),
) -> Result<Checked, FsckError> {
    let store = engine.store();
    let held = match mode {
        Mode::Repair => Some(store.hold_repairs()?),
        Mode::Check => None,
    };
    let lock = store.lock_shared()?;
    let found_again = match (mode, records) {
        (Mode::Repair, Records::MayBeLost) => store.find_images()?,
        (Mode::Repair, Records::Whole) | (Mode::Check, _) => Vec::new(),
    };
    let report = probes::examine(store, depth, progress)?;
    let mut checked = Checked {
        totals: report.totals,
        ..Checked::default()
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
        let report = probes::examine(store, Depth::Quick, progress)?;
        checked.totals = Totals {
            bytes: checked.totals.bytes,
            ..report.totals
        };
        findings = match round {
            ROUNDS => Vec::new(),
            _ => report.findings,
        };
    }
    drop(lock);
    if held.is_some() {
        store.discard_retired()?;
        store.renew_database_copy()?;
    }
    for id in found_again {
        let names = store.image(&id)?.map_or_else(Vec::new, |image| image.tags);
        let names: Vec<String> = names.iter().map(oci::Reference::familiar).collect();
        checked.notes.push(match names.is_empty() {
            true => format!("image {id} had lost its record and was found again, without a name"),
            false => format!(
                "image {id} had lost its record and was found again: {}",
                names.join(", ")
            ),
        });
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
        finding,
        state: State::Found,
    }
}
