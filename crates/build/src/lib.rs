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
mod cache_export;
mod call;
mod chmod;
mod context;
mod contexts;
mod copy;
mod emulation;
mod error;
mod event;
mod export;
mod fault;
mod git;
mod git_source;
mod imported;
mod index;
mod located;
mod lower;
mod options;
mod plan;
mod progress;
mod run;
mod size;
mod solve;
mod step_cache;
mod variables;
mod vertex;

pub use base::{BaseImage, BaseImageError, BaseImages, CheckOut, Download};
pub use build::{Built, BuiltStep, PlatformImage, build};
pub use cache_export::CacheExport;
pub use call::{ArgInfo, Outline, TargetInfo, check, outline, targets};
pub use chmod::{Chmod, ModeChange};
pub use context::ContextError;
pub use copy::CopyError;
pub use error::{BuildError, Location, SolveError};
pub use event::{CANCELED, Event, LogStream, StepId};
pub use git_source::{GitSource, GitSourceError};
pub use imported::ImportedCache;
pub use located::Located;
pub use lower::{Graph, Images, LowerError, Lowered, PlannedHistory, lower};
pub use options::{
    BuildContext, BuildOptions, CacheUse, DockerfilePlace, InlineCache, NamedContext, Network,
    ResultKind, Sandbox, Secret,
};
pub use plan::{
    CopyFrom, Plan, PlanError, PlanOptions, PlannedImage, PlannedStage, StageBase, context_name,
    plan,
};
pub use run::RunError;
pub use step_cache::{CachedLayer, CachedStep, StepCache, StepCacheError, remembered};
pub use vertex::{
    Archives, Cache, Destination, DestinationForm, Files, FilesFrom, Item, Link, Mount, MountKind,
    Operation, Origin, RunStep, Script, Vertex, Workdir,
};
