//! Logging in: credentials are shown to a registry, and kept for later.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use reqwest::StatusCode;
use serde_json::{Map, Value, json};

use super::connect::Client;
use super::credentials::{
    BASE64, CONFIG_FILE, Credentials, CredentialsError, DockerConfig, TOKEN_USER, matches,
    read_config, server_key,
};
use super::error::ClientError;
use super::registry::{Registry, refusal};
use super::request::Request;

/// A user and a password or access token.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Who.
    pub user: String,
    /// What proves it.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Where credentials are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// In this file, not encrypted.
    File(PathBuf),
    /// In a helper's hands.
    Helper,
}

/// A token that a registry gave in place of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentityToken(String);

impl fmt::Debug for IdentityToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityToken(..)")
    }
}

impl Client {
    /// Shows `login` to `registry` (`docker.io`, `host[:port]`). Some registries answer with a
    /// token that is to be kept instead of the password. Nothing is kept yet.
    pub fn log_in(
        &self,
        registry: &str,
        login: &Login,
    ) -> Result<Option<IdentityToken>, ClientError> {
        let credentials = Credentials::Basic {
            user: login.user.clone(),
            password: login.password.clone(),
        };
        let registry = Registry::with_credentials(registry, self.courier(), credentials)?;
        self.check(&registry)?;
        Ok(registry.authority.identity_token().map(IdentityToken))
    }

    /// Shows the credentials that are kept for `registry`, and tells whether there are any.
    pub fn log_in_again(&self, registry: &str) -> Result<bool, ClientError> {
        let registry: Arc<Registry> = self.registry(registry)?;
        if !registry.authority.has_credentials()? {
            return Ok(false);
        }
        self.check(&registry)?;
        Ok(true)
    }

    fn check(&self, registry: &Registry) -> Result<(), ClientError> {
        let request = Request::get(registry.base.clone());
        let response = registry.call(self.courier(), request, &[])?;
        match response.status() {
            StatusCode::OK => Ok(()),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(ClientError::LoginRefused {
                    url: registry.base.to_string(),
                    status,
                })
            }
            _ => Err(refusal(response)),
        }
    }
}

/// Keeps credentials in docker's `config.json` in `directory`, or where that says. What else is
/// in the file stays; it is replaced in one step and nobody else can read it.
pub fn keep(
    directory: &Path,
    registry: &str,
    login: &Login,
    token: Option<&IdentityToken>,
) -> Result<Keeper, CredentialsError> {
    let path = directory.join(CONFIG_FILE);
    let key = server_key(registry);
    let helper = match DockerConfig::read(&path)? {
        Some(config) => config.helper(registry)?,
        None => None,
    };
    let entry = match &helper {
        Some(helper) => {
            match token {
                Some(IdentityToken(token)) => helper.store(key, TOKEN_USER, token)?,
                None => helper.store(key, &login.user, &login.password)?,
            }
            json!({})
        }
        None => match token {
            Some(IdentityToken(token)) => {
                let auth = BASE64.encode(format!("{}:", login.user));
                json!({ "auth": auth, "identitytoken": token })
            }
            None => {
                let auth = BASE64.encode(format!("{}:{}", login.user, login.password));
                json!({ "auth": auth })
            }
        },
    };
    update(directory, |auths| {
        auths.retain(|known, _| !matches(known, registry));
        auths.insert(key.to_owned(), entry);
    })?;
    Ok(match helper {
        Some(_) => Keeper::Helper,
        None => Keeper::File(path),
    })
}

/// Forgets the credentials of a registry, wherever they are kept.
pub fn forget(directory: &Path, registry: &str) -> Result<(), CredentialsError> {
    let path = directory.join(CONFIG_FILE);
    let Some(config) = DockerConfig::read(&path)? else {
        return Ok(());
    };
    if let Some(helper) = config.helper(registry)? {
        helper.erase(server_key(registry))?;
    }
    update(directory, |auths| {
        auths.retain(|known, _| !matches(known, registry));
    })
}

/// Changes the `auths` of the file. Others that do so wait.
fn update(
    directory: &Path,
    change: impl FnOnce(&mut Map<String, Value>),
) -> Result<(), CredentialsError> {
    let path = directory.join(CONFIG_FILE);
    let failed = |source| CredentialsError::Write {
        path: path.clone(),
        source,
    };
    fs::create_dir_all(directory).map_err(failed)?;
    let lock = File::open(directory).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let before = read_config(&path)?;
    let malformed = |source| CredentialsError::Malformed {
        path: path.clone(),
        source,
    };
    let mut config: Map<String, Value> = match &before {
        Some(text) => serde_json::from_slice(text).map_err(malformed)?,
        None => Map::new(),
    };
    let auths = config.entry("auths").or_insert_with(|| json!({}));
    if auths.is_null() {
        *auths = json!({});
    }
    let Value::Object(auths) = auths else {
        let invalid = "`auths` is no object";
        return Err(malformed(serde::de::Error::custom(invalid)));
    };
    change(auths);
    let mut text = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, indent);
    serde::Serialize::serialize(&config, &mut serializer)
        .map_err(io::Error::from)
        .map_err(failed)?;
    if before.as_ref() == Some(&text) {
        return Ok(());
    }
    replace(&path, &text).map_err(failed)
}

/// A link is followed: people keep their configuration elsewhere.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = path.parent().unwrap_or(Path::new("/"));
    // Readable for its owner only.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn login(user: &str, password: &str) -> Login {
        Login {
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    fn read(directory: &Path) -> String {
        fs::read_to_string(directory.join(CONFIG_FILE)).expect("there")
    }

    #[test]
    fn credentials_are_kept_as_docker_keeps_them_and_forgotten() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("docker");
        let keeper = keep(&path, "127.0.0.1:5000", &login("a", "b"), None).expect("kept");
        assert_eq!(keeper, Keeper::File(path.join(CONFIG_FILE)));
        let expected =
            "{\n\t\"auths\": {\n\t\t\"127.0.0.1:5000\": {\n\t\t\t\"auth\": \"YTpi\"\n\t\t}\n\t}\n}";
        assert_eq!(read(&path), expected);
        let metadata = fs::metadata(path.join(CONFIG_FILE)).expect("there");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        let found = Credentials::look_up(&path, "127.0.0.1:5000").expect("readable");
        let basic = Credentials::Basic {
            user: "a".to_owned(),
            password: "b".to_owned(),
        };
        assert_eq!(found, Some(basic));
        let token = IdentityToken("t".to_owned());
        keep(&path, "docker.io", &login("a", "b"), Some(&token)).expect("kept");
        let found = Credentials::look_up(&path, "docker.io").expect("readable");
        assert_eq!(found, Some(Credentials::Identity("t".to_owned())));
        assert!(!read(&path).contains("YTpi\",\n\t\t\t\"identity"));
        for registry in ["127.0.0.1:5000", "docker.io", "never.seen"] {
            forget(&path, registry).expect("forgotten");
            let found = Credentials::look_up(&path, registry).expect("readable");
            assert_eq!(found, None);
        }
        assert_eq!(read(&path), "{\n\t\"auths\": {}\n}");
    }

    #[test]
    fn what_else_is_in_the_file_stays_and_links_are_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let elsewhere = directory.path().join("elsewhere");
        let before = r#"{"psFormat":"x","auths":{"https://r.example/v1/":{"auth":"eDp5"},"q":null},"zebra":[1]}"#;
        fs::write(&elsewhere, before).expect("written");
        let path = directory.path().join("docker");
        fs::create_dir(&path).expect("made");
        symlink(&elsewhere, path.join(CONFIG_FILE)).expect("a link");
        keep(&path, "r.example", &login("a", "b"), None).expect("kept");
        let text = fs::read_to_string(&elsewhere).expect("there");
        let after: Value = serde_json::from_str(&text).expect("JSON");
        let expected =
            json!({"psFormat":"x","auths":{"q":null,"r.example":{"auth":"YTpi"}},"zebra":[1]});
        assert_eq!(after, expected);
        assert!(path.join(CONFIG_FILE).is_symlink());
    }

    #[test]
    fn a_broken_file_is_not_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        for text in ["{", "[]", r#"{"auths":7}"#] {
            let path = directory.path().join(CONFIG_FILE);
            fs::write(&path, text).expect("written");
            assert!(keep(directory.path(), "r", &login("a", "b"), None).is_err());
            assert_eq!(read(directory.path()), text);
        }
    }
}
