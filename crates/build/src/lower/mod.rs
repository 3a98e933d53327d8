//! From planned stages and the configurations of base images to vertices and a configuration;
//! pure.

mod error;
pub(crate) mod gofmt;
mod instruction;
mod metadata;
mod mount;
mod run;
mod stage;

pub use error::LowerError;
pub(crate) use stage::lower_all;
pub use stage::{Graph, Images, Lowered, PlannedHistory, lower};

#[cfg(test)]
mod tests;
