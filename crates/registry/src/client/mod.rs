//! The client: from a reference to verified bytes, and back.
//!
//! Down the stack: `Remote` (what a copy sees), `Registry` (one host, its tokens), `Courier`
//! (retries and redirects), `Transport` (connections and timeouts).

mod authority;
mod blob;
mod challenge;
mod connect;
mod content;
mod courier;
mod credential_program;
mod credentials;
mod download;
mod error;
mod exchange;
mod host_certificates;

pub mod login;
mod options;
mod refusal;
mod registry;
mod remote;
mod request;
mod resolver;
mod session;
mod settings;
mod settings_error;
mod settings_file;
mod tls;
mod transport;
mod upload;

pub use connect::Client;
pub use credentials::CredentialsError;
pub use download::Download;
pub use error::{ClientError, NetworkError, Problem, SetupError};
pub use options::{ClientOptions, Retry, Timeouts};
pub use refusal::{ApiError, Refusal};
pub(crate) use remote::CONTENT_DIGEST;
pub use remote::Remote;
pub use settings::Settings;
pub use settings_error::{SettingsError, SettingsProblem};
