//! Checks: what builds, but should not be written so.
//!
//! The rules, their names and their messages are BuildKit's, except for those that are
//! [advice](Rule::is_advice): what these say is kept apart, so that the rest is as BuildKit has it.
//! [Build checks](https://docs.docker.com/reference/build-checks/)

mod cache;
mod commands;
mod options;
mod report;
mod rule;
mod scope;
mod settings;
mod style;
mod tools;
mod variables;

pub use options::{Base, CheckOptions, Coverage};
pub use report::{Report, check};
pub use rule::Rule;
pub use settings::{Settings, SettingsError};
