//! The operations of strata, without a command line: what each command does, on the crates
//! below.
//!
//! Nothing here prints, reads the environment or ends the process; progress comes as events.

pub mod container;
mod describe;
mod engine;
mod hindrance;
pub mod ops;
pub mod time;

pub use describe::describe;
pub use engine::{Engine, EngineOptions, RegistryFiles};
pub use hindrance::Hindrance;
