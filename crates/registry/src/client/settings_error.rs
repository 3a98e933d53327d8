//! Why the settings of registries cannot be used.

use std::io;
use std::path::PathBuf;

use rustls::pki_types::pem;

use super::settings::MAX_MIRRORS;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is no TOML, or not of this form.
    #[error("invalid `{}`: {source}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// What is said of a registry cannot be meant.
    #[error("invalid `{}`: line {line}: registry \"{registry}\": {problem}", path.display())]
    Registry {
        /// The file.
        path: PathBuf,
        /// The line in it, from 1.
        line: usize,
        /// The registry.
        registry: String,
        /// What is wrong.
        problem: SettingsProblem,
    },
    /// A file holds no certificate.
    #[error("no certificate in `{}`", .0.display())]
    NoCertificate(PathBuf),
    /// A file holds no private key that can be used without a password.
    #[error("no private key in `{}`", .0.display())]
    NoKey(PathBuf),
    /// A file of certificates or keys is damaged.
    #[error("damaged certificate or key in `{}`", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// A certificate cannot be trusted.
    #[error("unusable certificate in `{}`", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: rustls::Error,
    },
    /// A key is damaged, of a kind that is not known, or that of another certificate.
    #[error("unusable key `{}` for the certificate `{}`", key.display(), cert.display())]
    Key {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        cert: PathBuf,
        /// The cause.
        source: rustls::Error,
    },
    /// One half of a client certificate and its key is not there.
    #[error("`{}` needs `{}` beside it", path.display(), missing.display())]
    HalfPair {
        /// The half that is there.
        path: PathBuf,
        /// The other one.
        missing: PathBuf,
    },
}

/// What cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsProblem {
    /// Not a name that references have.
    #[error("not a registry: write `host` or `host:port`, with a dot, a port or `localhost`")]
    Name,
    /// The registry has another name here.
    #[error("write `{0}` for this registry")]
    OtherName(String),
    /// Not a place.
    #[error("`{0}` is not a place: write `host[:port][/path]`, without `https://`")]
    Place(String),
    /// Too many mirrors.
    #[error("more than {MAX_MIRRORS} mirrors")]
    Mirrors,
    /// More than one key.
    #[error("more than one keypair")]
    KeyPairs,
    /// TLS for plain HTTP.
    #[error("`http` excludes `insecure`, `ca` and `keypair`: they are about TLS")]
    Plain,
}
