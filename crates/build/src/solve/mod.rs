//! From vertices to layers: what the cache has, and what must be made.
//!
//! `docs/build-cache.md` says what the keys of the cache are made of.

mod environment;
mod files;
mod imports;
mod key;
mod mounts;
mod schedule;
mod step;

pub(crate) use environment::Environment;
pub(crate) use files::Inputs;
pub(crate) use imports::Imports;
pub(crate) use mounts::{MountInputs, files, with_layers};
pub(crate) use schedule::{Failure, Outcome, look_up, make, result_layers};
pub(crate) use step::Stacks;
