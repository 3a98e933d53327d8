//! The program as people use it: what it prints and how it ends.
//!
//! Names, output and exit codes are docker's; the expectations are its captures where it was
//! observed. What the operations do is tested in the crates below.

mod archives;
mod build;
mod build_caches;
mod build_platforms;
mod build_records;
mod containers;
mod copying;
mod file_system;
mod fsck;
mod fsck_database;
mod full_disk;
mod images;
mod many;
mod platforms;
mod proxies;
mod registry;
mod resume;
mod run;
mod secrets;
mod servers;
mod space;
mod throttle;
mod undoing;
mod usage;
mod users;

use testkit::cli::CommandLine;

/// Returns a command line with an empty store.
fn strata() -> CommandLine {
    CommandLine::new(env!("CARGO_BIN_EXE_strata"))
}
