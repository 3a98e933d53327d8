//! How each registry is reached, as a file says it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use oci::{DEFAULT_REGISTRY, Reference};
use reqwest::Url;
use serde::Deserialize;

use super::registry::{authority_of, is_loopback};

/// The longest file that is read.
const MAX_FILE_SIZE: u64 = 1 << 20;
/// More mirrors than a pull has patience for.
const MAX_MIRRORS: usize = 16;
/// Where the images of `docker.io` are.
const HUB_HOST: &str = "registry-1.docker.io";

/// How registries are reached. The form is that of BuildKit's `buildkitd.toml`, with `location`
/// and `blocked` besides; what is not known there is an error.
///
/// ```toml
/// [registry."docker.io"]
/// mirrors = ["mirror.example:5000/hub"]
///
/// [registry."mirror.example:5000"]
/// ca = ["/etc/ssl/example.pem"]
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    #[serde(default, rename = "registry")]
    registries: BTreeMap<String, RegistrySettings>,
}

/// What the file says of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegistrySettings {
    /// Places that are asked before the registry when something is pulled.
    #[serde(default)]
    pub(crate) mirrors: Vec<String>,
    /// The place that stands in for the registry, for everything.
    pub(crate) location: Option<String>,
    /// Whether it speaks plain HTTP; by default loopback does, unless something here is about TLS.
    http: Option<bool>,
    /// Whether any certificate will do.
    #[serde(default)]
    pub(crate) insecure: bool,
    /// Files of root certificates that are trusted besides the system's.
    #[serde(default)]
    pub(crate) ca: Vec<PathBuf>,
    /// What proves to the registry who we are.
    #[serde(default)]
    pub(crate) keypair: Vec<KeyPair>,
    /// Whether nothing is pulled from it or pushed to it.
    #[serde(default)]
    pub(crate) blocked: bool,
}

/// Files of a client certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyPair {
    pub(crate) key: PathBuf,
    pub(crate) cert: PathBuf,
}

/// A host, and what stands before the names of its repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// `host[:port]`, as references write it.
    pub(crate) registry: String,
    /// Empty, or ends with `/`.
    pub(crate) prefix: String,
}

/// Why the file cannot be used.
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
    #[error("invalid `{}`: registry \"{registry}\": {problem}", path.display())]
    Registry {
        /// The file.
        path: PathBuf,
        /// The registry.
        registry: String,
        /// What is wrong.
        problem: SettingsProblem,
    },
    /// A file holds no certificate.
    #[error("no certificate in `{}`", .0.display())]
    NoCertificate(PathBuf),
    /// A certificate or key is damaged.
    #[error("unusable certificate or key in `{}`", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: reqwest::Error,
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

impl Settings {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = read(path).map_err(|source| SettingsError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Reads the text of the file at `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let settings: Self = toml::from_str(text).map_err(|source| SettingsError::Form {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        for (registry, settings) in &settings.registries {
            check_name(registry)
                .and_then(|()| settings.check())
                .map_err(|problem| SettingsError::Registry {
                    path: path.to_owned(),
                    registry: registry.clone(),
                    problem,
                })?;
        }
        Ok(settings)
    }

    /// Returns what is said of `registry`, as references write it; hosts have no case.
    pub(crate) fn of(&self, registry: &str) -> Option<&RegistrySettings> {
        self.registries.get(&registry.to_ascii_lowercase())
    }

    /// Returns what is said of the host of `url`.
    pub(crate) fn of_host(&self, url: &Url) -> Option<&RegistrySettings> {
        let host = url.host_str().unwrap_or_default();
        if host == HUB_HOST {
            return self.of(DEFAULT_REGISTRY);
        }
        let port = url.port_or_known_default().unwrap_or(0);
        self.of(&authority_of(url))
            .or_else(|| self.of(&format!("{host}:{port}")))
    }

    /// Tells whether plain HTTP to the host of `url` is wanted.
    pub(crate) fn speaks_plain_http(&self, url: &Url) -> bool {
        let settings = self.of_host(url);
        let told = settings.and_then(|settings| settings.http);
        let has_own_tls = settings.is_some_and(RegistrySettings::has_own_tls);
        told.unwrap_or_else(|| is_loopback(url) && !has_own_tls)
    }

    /// Returns where the images of `registry` are.
    pub(crate) fn place(&self, registry: &str) -> Place {
        let settings = self.of(registry);
        let moved = settings.and_then(|settings| settings.location.as_deref());
        moved.and_then(Place::parse).unwrap_or_else(|| Place {
            registry: registry.to_owned(),
            prefix: String::new(),
        })
    }

    /// Returns the places that are asked before `registry`.
    pub(crate) fn mirrors(&self, registry: &str) -> Vec<Place> {
        let mirrors = self.of(registry).map_or(&[][..], |found| &found.mirrors);
        mirrors
            .iter()
            .filter_map(|text| Place::parse(text))
            .collect()
    }
}

impl RegistrySettings {
    /// Tells whether TLS to it differs from TLS to any other host.
    pub(crate) fn has_own_tls(&self) -> bool {
        self.insecure || !self.ca.is_empty() || !self.keypair.is_empty()
    }

    fn check(&self) -> Result<(), SettingsProblem> {
        for place in self.mirrors.iter().chain(&self.location) {
            if Place::parse(place).is_none() {
                return Err(SettingsProblem::Place(place.clone()));
            }
        }
        if self.mirrors.len() > MAX_MIRRORS {
            return Err(SettingsProblem::Mirrors);
        }
        if self.keypair.len() > 1 {
            return Err(SettingsProblem::KeyPairs);
        }
        if self.http == Some(true) && self.has_own_tls() {
            return Err(SettingsProblem::Plain);
        }
        Ok(())
    }
}

impl Place {
    /// Reads `host[:port][/path]`: what may stand before a repository in a reference.
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let whole = Reference::parse(&format!("{text}/name")).ok()?;
        let (host, prefix) = match text.split_once('/') {
            Some((host, path)) => (host, format!("{path}/")),
            None => (text, String::new()),
        };
        (whole.registry() == host).then(|| Self {
            registry: host.to_owned(),
            prefix,
        })
    }

    /// Returns the host to ask.
    pub(crate) fn host(&self) -> &str {
        match self.registry == DEFAULT_REGISTRY {
            true => HUB_HOST,
            false => &self.registry,
        }
    }
}

fn check_name(registry: &str) -> Result<(), SettingsProblem> {
    let parsed = Reference::parse(&format!("{registry}/name"));
    let found = parsed.map_err(|_| SettingsProblem::Name)?;
    let found = found.registry();
    let lowercase = registry.to_ascii_lowercase();
    if lowercase != registry {
        return Err(SettingsProblem::OtherName(lowercase));
    }
    match found == registry {
        true => Ok(()),
        false if registry == "index.docker.io" || registry == HUB_HOST => {
            Err(SettingsProblem::OtherName(found.to_owned()))
        }
        false => Err(SettingsProblem::Name),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    if fs::metadata(path)?.file_type().is_fifo() {
        return Err(io::Error::other("a pipe, which would be waited for"));
    }
    let file = File::open(path)?;
    let length = file.take(MAX_FILE_SIZE + 1).read_to_string(&mut text)?;
    if u64::try_from(length).unwrap_or(u64::MAX) > MAX_FILE_SIZE {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, SettingsError> {
        Settings::parse(text, Path::new("r.toml"))
    }

    #[test]
    fn a_place_is_a_host_and_a_path() {
        let place = |registry: &str, prefix: &str| {
            Some(Place {
                registry: registry.to_owned(),
                prefix: prefix.to_owned(),
            })
        };
        for (text, expected) in [
            ("r.example", place("r.example", "")),
            ("r.example:5000/hub/", place("r.example:5000", "hub/")),
            ("localhost/a/b", place("localhost", "a/b/")),
            ("docker.io/mine", place("docker.io", "mine/")),
            ("[::1]:5000", place("[::1]:5000", "")),
            ("mirror", None),
            ("mirror/hub", None),
            ("https://r.example", None),
            ("r.example/../x", None),
            ("r.example/UP", None),
            ("user@r.example", None),
            ("", None),
        ] {
            assert_eq!(Place::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        for (text, said) in [
            ("x = 1", "unknown field `x`"),
            ("[registry.\"r.io\"]\nhttps = true", "line 2"),
            (
                "[registry.\"r.io\"]\nmirrors = [\"http://m.io\"]",
                "`http://m.io` is not a place",
            ),
            (
                "[registry.\"r.io\"]\nlocation = \"there\"",
                "`there` is not a place",
            ),
            ("[registry.\"r.io/path\"]", "not a registry"),
            ("[registry.hub]", "not a registry"),
            ("[registry.\"R.io\"]", "write `r.io`"),
            ("[registry.\"index.docker.io\"]", "`docker.io`"),
            (
                "[registry.\"r.io\"]\nhttp = true\ninsecure = true",
                "about TLS",
            ),
            (
                "[[registry.\"r.io\".keypair]]\nkey = \"a\"\ncert = \"b\"\n\
                 [[registry.\"r.io\".keypair]]\nkey = \"c\"\ncert = \"d\"",
                "more than one",
            ),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(said) && error.contains("r.toml"), "{error}");
        }
    }

    #[test]
    fn what_is_no_file_is_told() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("registries.toml");
        let empty = Settings::read(Path::new("/dev/null"));
        assert_eq!(empty.expect("nothing"), Settings::default());
        let pipe = place.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.is_ok_and(|made| made.success()));
        for path in [&path, place.path(), &pipe, Path::new("/dev/zero")] {
            let error = Settings::read(path).expect_err("no file");
            assert!(matches!(error, SettingsError::Read { .. }), "{error}");
        }
        fs::write(&path, "[registry.\"r.io\"]\nblocked = true").expect("written");
        let settings = Settings::read(&path).expect("valid");
        for name in ["r.io", "R.IO"] {
            assert!(settings.of(name).is_some_and(|found| found.blocked));
        }
    }

    #[test]
    fn plain_http_goes_to_loopback_and_where_it_is_told_to() {
        let text = "[registry.\"127.0.0.1:1\"]\nhttp = false\n[registry.\"r.io:80\"]\nhttp = true\n\
            [registry.\"127.0.0.1:3\"]\ninsecure = true";
        let settings = parse(text).expect("valid");
        for (url, expected) in [
            ("http://127.0.0.1:1/", false),
            ("http://127.0.0.1:2/", true),
            ("http://127.0.0.1:3/", false),
            ("http://r.io/", true),
            ("http://r.io:81/", false),
        ] {
            let url = Url::parse(url).expect("valid");
            assert_eq!(settings.speaks_plain_http(&url), expected, "{url}");
        }
    }
}
