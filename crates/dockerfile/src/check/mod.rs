//! Checks: what builds, but should not be written so.
//!
//! The rules, their names and their messages are BuildKit's.
//! [Build checks](https://docs.docker.com/reference/build-checks/)

mod options;
mod report;
mod rule;
mod scope;
mod settings;
mod style;
mod variables;

pub use options::{Base, CheckOptions, Coverage};
pub use report::{Report, check};
pub use rule::Rule;
pub use settings::{Settings, SettingsError};
