//! The server: the store as a registry.
//!
//! A request is parsed into a [`route::Route`], answered by the module of its noun, and every
//! failure is a [`failure::Failure`], which knows its status and error document. Handlers are
//! async only to move bodies; what touches the store runs on blocking threads.

mod blobs;
mod body;
mod failure;
mod listing;
mod manifests;
mod received;
mod route;
mod serve;
mod sessions;
mod site;
mod uploads;

pub use serve::{Server, ServerError};
pub use site::{Access, Report, ServerOptions, UnpackLayer};
