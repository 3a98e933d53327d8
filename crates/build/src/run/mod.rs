//! `RUN`: a container on top of the parent's layers, and what it leaves behind.

mod agent;
mod error;
mod execute;
mod mounts;
mod output;

pub use error::RunError;
pub(crate) use execute::run;
