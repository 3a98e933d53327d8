//! How long the tests of this program are.

use std::io::Write as _;

/// How many kills of each command, and how many times as much of everything else.
const ROUNDS: &str = "STRATA_CRASH_ROUNDS";

/// Where the choices of moments begin.
const SEED: &str = "STRATA_CRASH_SEED";

/// Returns the number that `cargo xtask crash` was given for all tests; `None` in a short run.
pub(crate) fn rounds() -> Option<usize> {
    number(ROUNDS).map(|rounds| usize::try_from(rounds).expect("a number of rounds"))
}

/// Returns the seed of random choices.
pub(crate) fn seed() -> u64 {
    number(SEED).unwrap_or(1)
}

#[expect(clippy::disallowed_methods, reason = "a test is a binary of its own")]
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

/// Tells the person who runs the long version how far it is.
pub(crate) fn tell(line: &str) {
    // Nobody may be listening.
    drop(writeln!(std::io::stderr(), "{line}"));
}
