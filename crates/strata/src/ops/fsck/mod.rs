//! Checking the store, and putting right what can be.
//!
//! Nothing is locked away from other commands: a check holds the store's lock shared, so that no
//! sweep removes what is looked at, and a repair replaces one file after the other by renames. Only the
//! repair of the database, which comes first, waits until it is alone.

mod advice;
mod check;
mod database;
mod fetch;
mod outcome;
mod probes;
mod repair;

pub use check::{FsckError, Mode, Records, fsck};
pub use database::{DatabaseOutcome, examine_database};
pub use outcome::{Checked, Outcome, State};
