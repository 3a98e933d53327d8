//! What the surroundings say: environment variables, read once and nowhere else.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use strata::RegistryFiles;

/// The settings that come from environment variables and from who calls.
#[derive(Debug)]
pub(crate) struct Environment {
    /// Where the store is.
    pub(crate) root: PathBuf,
    /// Where mounts, locks and running state are.
    pub(crate) run: PathBuf,
    /// The form of layers that `$STRATA_LAYER_FORM` forces.
    pub(crate) layer_form: Option<String>,
    /// `$STRATA_UNDO_WINDOW`.
    pub(crate) undo_window: Option<String>,
    /// Files that say how registries are reached.
    pub(crate) registries: RegistryFiles,
    /// Where large files are that nobody else needs: `$TMPDIR` or `/var/tmp`.
    pub(crate) spool: PathBuf,
    /// `$DOCKER_DEFAULT_PLATFORM`.
    pub(crate) platform: Option<String>,
    /// `$BUILDKIT_PROGRESS`.
    pub(crate) build_progress: Option<String>,
    /// `$SOURCE_DATE_EPOCH`.
    pub(crate) source_date_epoch: Option<String>,
    /// `$NO_COLOR` is set.
    pub(crate) no_color: bool,
}

/// Where docker and podman have certificates by host.
const CERTIFICATES: [&str; 2] = ["/etc/docker/certs.d", "/etc/containers/certs.d"];

impl Environment {
    pub(crate) fn read() -> Self {
        let root_user = rustix::process::geteuid().is_root();
        let home = path("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let root = path("STRATA_ROOT").unwrap_or_else(|| match root_user {
            true => PathBuf::from("/var/lib/strata"),
            false => path("XDG_DATA_HOME")
                .unwrap_or_else(|| home.join(".local/share"))
                .join("strata"),
        });
        let run = path("STRATA_RUN").unwrap_or_else(|| match root_user {
            true => PathBuf::from("/run/strata"),
            false => match path("XDG_RUNTIME_DIR") {
                Some(runtime) => runtime.join("strata"),
                None => root.join("run"),
            },
        });
        Self {
            root: absolute(root),
            run: absolute(run),
            layer_form: text("STRATA_LAYER_FORM"),
            undo_window: text("STRATA_UNDO_WINDOW"),
            registries: RegistryFiles {
                docker_config: Some(path("DOCKER_CONFIG").unwrap_or_else(|| home.join(".docker"))),
                settings: path("STRATA_REGISTRIES").or_else(|| settings_of_registries(&home)),
                certificates: match path("STRATA_CERTS_D") {
                    Some(directory) => vec![directory],
                    None => CERTIFICATES.iter().map(PathBuf::from).collect(),
                },
            },
            spool: path("TMPDIR").unwrap_or_else(|| PathBuf::from("/var/tmp")),
            platform: text("DOCKER_DEFAULT_PLATFORM"),
            build_progress: text("BUILDKIT_PROGRESS"),
            source_date_epoch: text("SOURCE_DATE_EPOCH"),
            no_color: raw("NO_COLOR").is_some(),
        }
    }
}

/// Returns the user's file of registries where there is one, else the machine's.
fn settings_of_registries(home: &Path) -> Option<PathBuf> {
    let config = path("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    let places = [config.join("strata"), PathBuf::from("/etc/strata")];
    let mut files = places.iter().map(|place| place.join("registries.toml"));
    files.find(|file| file.exists())
}

/// Returns the value of the caller's variable `name`, for `-e NAME` and `--build-arg NAME`.
pub(crate) fn variable(name: &str) -> Option<String> {
    raw(name).map(|value| value.to_string_lossy().into_owned())
}

fn path(name: &str) -> Option<PathBuf> {
    raw(name).map(PathBuf::from)
}

fn text(name: &str) -> Option<String> {
    variable(name)
}

/// An empty variable counts as none, as everywhere in Unix.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the binary's one place that reads the environment"
)]
pub(crate) fn raw(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The store's path goes into mounts and records, which outlive the working directory.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}
