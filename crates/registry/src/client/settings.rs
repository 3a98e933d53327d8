//! How each registry is reached, as a file says it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use oci::{DEFAULT_REGISTRY, Reference};
use reqwest::Url;
use serde::Deserialize;
use toml::Spanned;

use super::host_certificates;
use super::registry::{authority_of, is_loopback};
use super::settings_error::{SettingsError, SettingsProblem};
use super::settings_file::read_text;
use super::tls::{HostTls, KeyPair};

/// More mirrors than a pull has patience for.
pub(super) const MAX_MIRRORS: usize = 16;
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    registries: BTreeMap<String, RegistrySettings>,
    certificates: Vec<PathBuf>,
}

/// What the file says of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RegistrySettings {
    /// Places that are asked before the registry when something is pulled.
    mirrors: Vec<Place>,
    /// The place that stands in for the registry, for everything.
    location: Option<Place>,
    /// Whether it speaks plain HTTP; by default loopback does, unless something here is about TLS.
    http: Option<bool>,
    /// How TLS to it differs.
    tls: HostTls,
    /// Whether nothing is pulled from it or pushed to it.
    pub(crate) blocked: bool,
}

/// The form of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default, rename = "registry")]
    registries: BTreeMap<Spanned<String>, Table>,
}

/// The form of what the file says of one registry.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    mirrors: Vec<Spanned<String>>,
    location: Option<Spanned<String>>,
    http: Option<Spanned<bool>>,
    /// Whether any certificate will do.
    #[serde(default)]
    insecure: bool,
    /// Files of root certificates that are trusted besides the system's.
    #[serde(default)]
    ca: Vec<PathBuf>,
    /// What proves to the registry who we are.
    #[serde(default)]
    keypair: Vec<Spanned<KeyPair>>,
    #[serde(default)]
    blocked: bool,
}

/// A host, and what stands before the names of its repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// `host[:port]`, as references write it.
    pub(crate) registry: String,
    /// Empty, or ends with `/`.
    pub(crate) prefix: String,
}

impl Settings {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = read_text(path).map_err(|source| SettingsError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Reads the text of the file at `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let document: Document = toml::from_str(text).map_err(|source| SettingsError::Form {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let mut registries = BTreeMap::new();
        for (name, table) in document.registries {
            let span = name.span();
            let registry = name.into_inner();
            let settings = check_name(&registry)
                .map_err(|problem| (problem, span.clone()))
                .and_then(|()| table.check(span))
                .map_err(|(problem, span)| SettingsError::Registry {
                    path: path.to_owned(),
                    line: line_of(text, &span),
                    registry: registry.clone(),
                    problem,
                })?;
            registries.insert(registry, settings);
        }
        Ok(Self {
            registries,
            certificates: Vec::new(),
        })
    }

    /// Adds directories as `/etc/docker/certs.d`, with a directory for each host. They are looked
    /// into, in their order, for hosts of which nothing is said about TLS.
    #[must_use]
    pub fn with_certificates(self, directories: &[PathBuf]) -> Self {
        Self {
            certificates: directories.to_vec(),
            ..self
        }
    }

    /// Has `registry` asked without TLS, whatever else is said of it.
    #[must_use]
    pub fn with_plain_http(mut self, registry: &str) -> Self {
        let settings = self.registries.entry(registry.to_ascii_lowercase());
        settings.or_default().http = Some(true);
        self
    }

    /// Returns what is said of `registry`, as references write it; hosts have no case.
    pub(crate) fn of(&self, registry: &str) -> Option<&RegistrySettings> {
        self.registries.get(&registry.to_ascii_lowercase())
    }

    /// Returns what is said of the host of `url`.
    fn of_host(&self, url: &Url) -> Option<&RegistrySettings> {
        names(url).iter().find_map(|name| self.of(name))
    }

    /// Returns how TLS to the host of `url` differs from TLS to any other. Reads directories.
    pub(crate) fn tls(&self, url: &Url) -> Result<Option<HostTls>, SettingsError> {
        match self.of_host(url) {
            Some(settings) if settings.http.is_some() || settings.tls.differs() => {
                Ok(Some(settings.tls.clone()).filter(HostTls::differs))
            }
            _ => host_certificates::find(&self.certificates, &names(url)),
        }
    }

    /// Tells whether plain HTTP to the host of `url` is wanted.
    pub(crate) fn speaks_plain_http(&self, url: &Url) -> bool {
        let told = self.of_host(url).and_then(|settings| settings.http);
        // What cannot be read is told when TLS begins.
        told.unwrap_or_else(|| is_loopback(url) && matches!(self.tls(url), Ok(None)))
    }

    /// Returns where the images of `registry` are.
    pub(crate) fn place(&self, registry: &str) -> Place {
        let moved = self
            .of(registry)
            .and_then(|settings| settings.location.clone());
        moved.unwrap_or_else(|| Place {
            registry: registry.to_owned(),
            prefix: String::new(),
        })
    }

    /// Returns the places that are asked before `registry`.
    pub(crate) fn mirrors(&self, registry: &str) -> &[Place] {
        self.of(registry).map_or(&[][..], |found| &found.mirrors)
    }
}

impl Table {
    /// Returns what is meant, or what cannot be and where it stands.
    fn check(
        self,
        span: Range<usize>,
    ) -> Result<RegistrySettings, (SettingsProblem, Range<usize>)> {
        let place = |text: Spanned<String>| {
            let found = Place::parse(text.get_ref());
            found.ok_or_else(|| {
                let span = text.span();
                (SettingsProblem::Place(text.into_inner()), span)
            })
        };
        if self.mirrors.len() > MAX_MIRRORS {
            return Err((SettingsProblem::Mirrors, span));
        }
        if let Some(second) = self.keypair.get(1) {
            return Err((SettingsProblem::KeyPairs, second.span()));
        }
        let tls = HostTls {
            insecure: self.insecure,
            ca: self.ca,
            keypairs: self.keypair.into_iter().map(Spanned::into_inner).collect(),
        };
        if let Some(http) = &self.http
            && *http.get_ref()
            && tls.differs()
        {
            return Err((SettingsProblem::Plain, http.span()));
        }
        let mirrors = self.mirrors.into_iter().map(place);
        Ok(RegistrySettings {
            mirrors: mirrors.collect::<Result<_, _>>()?,
            location: self.location.map(place).transpose()?,
            http: self.http.map(Spanned::into_inner),
            tls,
            blocked: self.blocked,
        })
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

/// Returns what references may call the host of `url`.
fn names(url: &Url) -> Vec<String> {
    let host = url.host_str().unwrap_or_default();
    if host == HUB_HOST {
        return vec![DEFAULT_REGISTRY.to_owned()];
    }
    let port = url.port_or_known_default().unwrap_or(0);
    let mut names = vec![authority_of(url), format!("{host}:{port}")];
    names.dedup();
    names
}

/// Returns the number of the line at which a part of `text` begins.
fn line_of(text: &str, span: &Range<usize>) -> usize {
    let before = &text.as_bytes()[..span.start.min(text.len())];
    before.iter().filter(|byte| **byte == b'\n').count() + 1
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

#[cfg(test)]
mod tests {
    use std::fs;

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
                "line 2: registry \"r.io\": `http://m.io` is not a place",
            ),
            (
                "[registry.\"r.io\"]\nlocation = \"there\"",
                "`there` is not a place",
            ),
            (
                "\n[registry.\"r.io/path\"]",
                "line 2: registry \"r.io/path\": not a registry",
            ),
            ("[registry.hub]", "not a registry"),
            ("[registry.\"R.io\"]", "write `r.io`"),
            ("[registry.\"index.docker.io\"]", "`docker.io`"),
            (
                "[registry.\"r.io\"]\ninsecure = true\nhttp = true",
                "line 3: registry \"r.io\": `http` excludes",
            ),
            (
                "[[registry.\"r.io\".keypair]]\nkey = \"a\"\ncert = \"b\"\n\
                 [[registry.\"r.io\".keypair]]\nkey = \"c\"\ncert = \"d\"",
                "line 4: registry \"r.io\": more than one",
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
        let told = settings
            .with_plain_http("R.io:81")
            .with_plain_http("127.0.0.1:3");
        for (url, expected) in [
            ("http://127.0.0.1:1/", false),
            ("http://127.0.0.1:3/", true),
            ("http://r.io:81/", true),
            ("http://r.io:82/", false),
        ] {
            let url = Url::parse(url).expect("valid");
            assert_eq!(told.speaks_plain_http(&url), expected, "{url}");
        }
    }
}
