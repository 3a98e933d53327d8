//! What a check found, and what became of it.

use store::{Finding, Totals};

use super::DatabaseOutcome;

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
}

/// A check that ended.
#[derive(Debug, Default)]
pub struct Checked {
    /// What was found, in the order in which it was.
    pub outcomes: Vec<Outcome>,
    /// What was looked at.
    pub totals: Totals,
    /// What is worth a word without being damage.
    pub notes: Vec<String>,
}

impl Checked {
    /// Returns how much damage is left.
    pub fn left(&self) -> usize {
        let is_left = |outcome: &&Outcome| !matches!(outcome.state, State::Repaired { .. });
        self.outcomes.iter().filter(is_left).count()
    }

    /// Puts what was found of the database first.
    #[must_use]
    pub fn after(mut self, database: DatabaseOutcome) -> Self {
        self.outcomes.splice(0..0, database.outcomes);
        self.notes.splice(0..0, database.notes);
        self
    }

    /// Tells whether the store is as it was written, or is again.
    pub fn is_sound(&self) -> bool {
        self.left() == 0
    }
}
