//! From a Dockerfile to the stages of a build; pure.

mod error;
mod stages;

pub use error::PlanError;
pub(crate) use error::did_you_mean;
pub use stages::{
    CopyFrom, Plan, PlanOptions, PlannedImage, PlannedStage, StageBase, context_name, plan,
};
