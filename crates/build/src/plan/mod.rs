//! From a Dockerfile to the stages of a build; pure.

mod error;
mod stages;

pub use error::PlanError;
pub use stages::{CopyFrom, Plan, PlanOptions, PlannedStage, StageBase, context_name, plan};
