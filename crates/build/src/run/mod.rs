//! `RUN`: a container on top of the parent's layers, and what it leaves behind.

mod error;
mod execute;
mod output;

pub use error::RunError;
pub(crate) use execute::run;
