//! Credentials from docker's `config.json` and its helpers.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::GeneralPurposeConfig;
use base64::engine::general_purpose::GeneralPurpose;
use serde::Deserialize;

use super::credential_program::CredentialProgram;

/// The key of Docker Hub in `config.json`, a name from before registries had version 2.
pub(super) const HUB_KEY: &str = "https://index.docker.io/v1/";
/// Docker's configuration in its directory.
pub(super) const CONFIG_FILE: &str = "config.json";
/// The longest `config.json` that is read.
const MAX_CONFIG_SIZE: u64 = 4 << 20;
/// The user name with which a helper marks an identity token.
pub(super) const TOKEN_USER: &str = "<token>";

/// Writers differ in whether they pad.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// What proves to a registry who asks.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// A user and a password or access token.
    Basic { user: String, password: String },
    /// A token to exchange for access tokens.
    Identity(String),
    /// A token to send as it is.
    Bearer(String),
}

/// Why credentials cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// `config.json` cannot be read.
    #[error("failed to read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// `config.json` is not of the expected shape.
    #[error("malformed docker configuration `{path}`")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// An `auth` field is not base64 of `user:password`.
    #[error("invalid `auth` for `{key}` in `{path}`")]
    InvalidAuth {
        /// The file.
        path: PathBuf,
        /// The entry.
        key: String,
    },
    /// `config.json` cannot be written.
    #[error("failed to write `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// There is no directory for `config.json`.
    #[error("no directory for docker's `config.json`: set DOCKER_CONFIG or HOME")]
    NoDirectory,
    /// A helper is named by a path.
    #[error("invalid credential helper name `{0}`")]
    InvalidHelper(String),
    /// A helper cannot be run.
    #[error("failed to run credential helper `{program}`")]
    RunHelper {
        /// The program.
        program: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A helper failed.
    #[error("credential helper `{program}` failed: {message}")]
    Helper {
        /// The program.
        program: String,
        /// What it said.
        message: String,
    },
    /// A helper answered something else than credentials.
    #[error("malformed answer of credential helper `{program}`")]
    HelperAnswer {
        /// The program.
        program: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DockerConfig {
    #[serde(default)]
    auths: Option<BTreeMap<String, Option<Entry>>>,
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
    #[serde(default)]
    registrytoken: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry(..)")
    }
}

impl Credentials {
    /// Looks up `registry` (`docker.io`, `host:port`) in the configuration in `directory`:
    /// its own helper, then the store of all credentials, then the file itself.
    pub(crate) fn look_up(
        directory: &Path,
        registry: &str,
    ) -> Result<Option<Self>, CredentialsError> {
        let path = directory.join(CONFIG_FILE);
        match DockerConfig::read(&path)? {
            Some(config) => config.look_up(&path, registry),
            None => Ok(None),
        }
    }
}

impl DockerConfig {
    /// Reads the file; `None` when there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, CredentialsError> {
        let Some(text) = read_config(path)? else {
            return Ok(None);
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| CredentialsError::Malformed {
                path: path.to_owned(),
                source,
            })
    }

    /// Returns the helper that keeps the credentials of `registry`: its own, else that of all.
    pub(super) fn helper(
        &self,
        registry: &str,
    ) -> Result<Option<CredentialProgram>, CredentialsError> {
        let own = self
            .cred_helpers
            .iter()
            .flatten()
            .find(|(key, _)| matches(key, registry))
            .map(|(_, helper)| helper.as_str());
        let helper = own.or(self.creds_store.as_deref());
        let helper = helper.filter(|helper| !helper.is_empty());
        helper.map(CredentialProgram::new).transpose()
    }

    fn look_up(
        &self,
        path: &Path,
        registry: &str,
    ) -> Result<Option<Credentials>, CredentialsError> {
        if let Some(helper) = self.helper(registry)?
            && let Some(found) = helper.get(server_key(registry))?
        {
            return Ok(Some(found));
        }
        let auths = || self.auths.iter().flatten();
        let exact = auths().find(|(key, _)| key.as_str() == server_key(registry));
        let Some((key, Some(entry))) =
            exact.or_else(|| auths().find(|(key, _)| matches(key, registry)))
        else {
            return Ok(None);
        };
        entry
            .credentials()
            .map_err(|InvalidAuth| CredentialsError::InvalidAuth {
                path: path.to_owned(),
                key: key.clone(),
            })
    }
}

struct InvalidAuth;

impl Entry {
    fn credentials(&self) -> Result<Option<Credentials>, InvalidAuth> {
        let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Credentials::Identity(token)));
        }
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Some(Credentials::Bearer(token)));
        }
        if let Some(auth) = given(&self.auth) {
            let decoded = BASE64.decode(auth.trim()).map_err(|_| InvalidAuth)?;
            let text = String::from_utf8(decoded).map_err(|_| InvalidAuth)?;
            let (user, password) = text.split_once(':').ok_or(InvalidAuth)?;
            return Ok(Some(Credentials::Basic {
                user: user.to_owned(),
                // Docker's own first versions padded with NUL.
                password: password.trim_end_matches('\0').to_owned(),
            }));
        }
        Ok(given(&self.username).map(|user| Credentials::Basic {
            user,
            password: self.password.clone().unwrap_or_default(),
        }))
    }
}

pub(super) fn read_config(path: &Path) -> Result<Option<Vec<u8>>, CredentialsError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        File::open(path)?
            .take(MAX_CONFIG_SIZE)
            .read_to_end(&mut text)?;
        Ok(text)
    };
    match read() {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CredentialsError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Returns the name of a registry in `config.json` and for helpers.
pub(super) fn server_key(registry: &str) -> &str {
    if registry == oci::DEFAULT_REGISTRY {
        HUB_KEY
    } else {
        registry
    }
}

/// Compares hosts: keys may be written as URLs.
pub(super) fn matches(key: &str, registry: &str) -> bool {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let host = key.split('/').next().unwrap_or(key);
    host == registry
        || (registry == oci::DEFAULT_REGISTRY
            && matches!(host, "index.docker.io" | "registry-1.docker.io"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(config: &str, registry: &str) -> Result<Option<Credentials>, CredentialsError> {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("config.json"), config).expect("written");
        Credentials::look_up(directory.path(), registry)
    }

    fn basic(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }

    #[test]
    fn an_entry_is_found_by_host_however_its_key_is_written() {
        for key in [
            "r.example:5000",
            "https://r.example:5000",
            "http://r.example:5000/v2/",
        ] {
            let config = format!(r#"{{"auths":{{"{key}":{{"auth":"dTpwOnE="}}}}}}"#);
            let found = look_up(&config, "r.example:5000").expect("readable");
            assert_eq!(found, basic("u", "p:q"), "{key}");
            assert_eq!(look_up(&config, "r.example").expect("readable"), None);
        }
    }

    #[test]
    fn docker_hub_has_its_old_key() {
        let config = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#;
        assert_eq!(
            look_up(config, "docker.io").expect("readable"),
            basic("u", "p")
        );
        assert_eq!(look_up(config, "quay.io").expect("readable"), None);
    }

    #[test]
    fn an_identity_token_goes_before_a_password() {
        let config = r#"{"auths":{"a":{"auth":"dTpw","identitytoken":"t"}}}"#;
        assert_eq!(
            look_up(config, "a").expect("readable"),
            Some(Credentials::Identity("t".to_owned()))
        );
    }

    #[test]
    fn a_missing_file_or_entry_means_anonymous() {
        let directory = tempfile::tempdir().expect("a directory");
        let found = Credentials::look_up(directory.path(), "a").expect("no error");
        assert_eq!(found, None);
        for config in [
            "{}",
            r#"{"auths":null}"#,
            r#"{"auths":{"a":{}}}"#,
            r#"{"auths":{"a":null}}"#,
        ] {
            assert_eq!(look_up(config, "a").expect("readable"), None, "{config}");
        }
    }

    #[test]
    fn a_broken_file_is_an_error_not_anonymous() {
        for config in [
            "",
            "{",
            "7",
            r#"{"auths":{"a":{"auth":"!"}}}"#,
            r#"{"auths":{"a":{"auth":"dQ=="}}}"#,
        ] {
            assert!(look_up(config, "a").is_err(), "{config}");
        }
    }

    #[test]
    fn a_helper_named_by_a_path_is_not_run() {
        let config = r#"{"credsStore":"../../bin/sh"}"#;
        assert!(matches!(
            look_up(config, "a"),
            Err(CredentialsError::InvalidHelper(_))
        ));
    }

    #[test]
    fn a_missing_helper_is_named() {
        let config = r#"{"credHelpers":{"a":"strata-test-missing"}}"#;
        assert!(matches!(
            look_up(config, "a"),
            Err(CredentialsError::RunHelper { program, .. })
                if program == "docker-credential-strata-test-missing"
        ));
    }
}
