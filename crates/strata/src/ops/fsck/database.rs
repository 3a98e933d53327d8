//! The database, before the store is opened.

use std::path::Path;

use store::{Damage, StoreError, repair_database};

use super::{Mode, Outcome, Records, State};

/// What a check of the database found, and what became of it.
#[derive(Debug)]
pub struct DatabaseOutcome {
    /// The damage.
    pub outcomes: Vec<Outcome>,
    /// What is worth a word without being damage.
    pub notes: Vec<String>,
    /// Whether it makes sense to open the store.
    pub can_be_opened: bool,
    /// Whether images are to be looked for.
    pub records: Records,
}

/// Checks the database of the store under `root`, which need not be one that can be opened.
/// A repair waits until no other command works.
pub fn examine_database(root: &Path, mode: Mode) -> Result<DatabaseOutcome, StoreError> {
    let check = store::examine_database(root)?;
    let mut outcome = DatabaseOutcome {
        outcomes: Vec::new(),
        notes: check.notes,
        can_be_opened: true,
        records: Records::Whole,
    };
    let mut states = vec![State::Found; check.findings.len()];
    let mut lost = Vec::new();
    if mode == Mode::Repair && !check.findings.is_empty() {
        let repair = repair_database(root, &check.findings)?;
        if repair.lost_records {
            outcome.records = Records::MayBeLost;
        }
        for finding in repair.lost_containers {
            let why = "what was written in it is kept there".to_owned();
            let state = State::Left { why };
            lost.push(Outcome { finding, state });
        }
        let results = repair.results.into_iter();
        states = results
            .map(|result| match result {
                Ok(how) => State::Repaired { how },
                Err(why) => State::Left { why },
            })
            .collect();
    }
    for (finding, state) in check.findings.into_iter().zip(states) {
        // What these say is lost does not keep the rest from being read.
        let is_harmless = matches!(finding.damage, Damage::Log { .. } | Damage::Copy);
        let is_repaired = matches!(state, State::Repaired { .. });
        outcome.can_be_opened &= is_harmless || is_repaired;
        outcome.outcomes.push(Outcome { finding, state });
    }
    outcome.outcomes.extend(lost);
    if !outcome.can_be_opened {
        let note = "nothing else was checked: the database comes first";
        outcome.notes.push(note.to_owned());
    }
    Ok(outcome)
}
