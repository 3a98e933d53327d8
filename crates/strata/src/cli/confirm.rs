//! Asking before something is removed for good.

use std::io::{self, BufRead as _};

use super::error::CommandError;
use super::session::Session;

/// Prints `warning` and asks; anything but `y` is no.
pub(crate) fn confirm(session: &mut Session, warning: &str) -> Result<bool, CommandError> {
    session.out.data(&format!(
        "{warning}\nAre you sure you want to continue? [y/N] "
    ))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
