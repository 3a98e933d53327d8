//! What a command works with.

use super::environment::Environment;
use super::output::Output;

/// One run of the program.
#[derive(Debug)]
pub(crate) struct Session {
    /// The name that the program was called by: `strata` or `docker`.
    pub(crate) program: &'static str,
    pub(crate) environment: Environment,
    pub(crate) out: Output,
}
