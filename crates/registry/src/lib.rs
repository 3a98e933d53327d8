//! Registries: a client that is both ends of a copy, and a server over the local store.
//!
//! The client speaks [OCI distribution 1.1](https://github.com/opencontainers/distribution-spec/blob/main/spec.md)
//! and docker's form of it. Its interface is synchronous; the async runtime and TLS inside start
//! with the first request, so a command that needs no network never pays for them.

mod client;
mod range;
mod server;

pub use client::login;
pub use client::{
    ApiError, Client, ClientError, ClientOptions, CredentialsError, Download, NetworkError,
    Problem, Refusal, Remote, Retry, Settings, SettingsError, SettingsProblem, SetupError,
    Timeouts,
};
pub use server::{Access, Report, Server, ServerError, ServerOptions, UnpackLayer};
