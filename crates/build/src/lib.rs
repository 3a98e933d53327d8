//! Images from Dockerfiles: the plan, the keys of the step cache, and the steps themselves.
//!
//! [`build`] is the whole way. [`plan`](plan()) turns a parsed Dockerfile into the stages that
//! the target needs; it is pure. Lowering a stage on its base image gives vertices (COPY, ADD,
//! RUN, WORKDIR) and a configuration; it is pure as well. Solving looks each vertex up in the
//! step cache by the key of its content, and makes what is missing. `docs/build-cache.md` says
//! what a key is made of.

mod base;
mod bases;
mod build;
mod call;
mod chmod;
mod context;
mod copy;
mod error;
mod event;
mod export;
mod fault;
mod git;
mod located;
mod lower;
mod options;
mod plan;
mod progress;
mod run;
mod size;
mod solve;
mod variables;
mod vertex;

pub use base::{BaseImage, BaseImageError, BaseImages, Download};
pub use build::{Built, build};
pub use call::{ArgInfo, Outline, TargetInfo, check, outline, targets};
pub use chmod::{Chmod, ModeChange};
pub use context::ContextError;
pub use copy::CopyError;
pub use error::{BuildError, Location, SolveError};
pub use event::{CANCELED, Event, LogStream, StepId};
pub use located::Located;
pub use lower::{Graph, Images, LowerError, Lowered, PlannedHistory, lower};
pub use options::{
    BuildContext, BuildOptions, CacheUse, DockerfilePlace, Network, ResultKind, Sandbox, Secret,
};
pub use plan::{CopyFrom, Plan, PlanError, PlanOptions, PlannedStage, StageBase, plan};
pub use run::RunError;
pub use vertex::{
    Archives, Cache, Destination, DestinationForm, Files, FilesFrom, Item, Link, Mount, MountKind,
    Operation, Origin, RunStep, Script, Vertex, Workdir,
};
