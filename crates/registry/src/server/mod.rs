//! The server: the store as a registry.

mod server;

pub use server::{Access, Server, ServerError, ServerOptions};
