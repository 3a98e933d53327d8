//! `-v host:container[:options]`.

use std::path::{Path, PathBuf};

use runtime::Access;
use serde::{Deserialize, Serialize};

use super::name;

/// A directory or file of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// The absolute path on the host.
    pub source: PathBuf,
    /// The absolute path in the container.
    pub target: String,
    /// Whether the container may only read it.
    pub read_only: bool,
}

/// Why a `-v` cannot be honoured. `Display` is docker's own text where docker has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// Not of the form `host:container[:options]`.
    #[error("invalid volume specification: '{0}'")]
    Malformed(String),
    /// The path in the container is relative.
    #[error(
        "invalid volume specification: '{spec}': invalid mount config for type \"bind\": invalid mount path: '{target}' mount path must be absolute"
    )]
    RelativeTarget {
        /// The whole option.
        spec: String,
        /// The path in the container.
        target: String,
    },
    /// The path in the container is its root.
    #[error("invalid volume specification: '{0}': invalid specification: destination can't be '/'")]
    RootTarget(String),
    /// A relative path without a leading `./` can only be a name, and is none.
    #[error(
        "create {0}: \"{0}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )]
    InvalidName(String),
    /// An option that docker has not.
    #[error("invalid volume specification: '{spec}': invalid mode: {mode}")]
    InvalidMode {
        /// The whole option.
        spec: String,
        /// Its last part.
        mode: String,
    },
    /// An option of docker that strata cannot honour.
    #[error("volume option `{0}` is not supported yet")]
    UnsupportedMode(String),
    /// Two volumes for one path in the container.
    #[error("Duplicate mount point: {0}")]
    Duplicate(String),
    /// A named volume.
    #[error(
        "named volumes are not supported yet: give the absolute path of a directory instead of `{0}`"
    )]
    Named(String),
    /// An anonymous volume.
    #[error("anonymous volumes are not supported yet: give a directory, as in `-v /host/path:{0}`")]
    Anonymous(String),
}

impl Bind {
    /// Reads `spec`; a source that starts with `.` is relative to `directory`.
    pub fn parse(spec: &str, directory: &Path) -> Result<Self, VolumeError> {
        let malformed = || VolumeError::Malformed(spec.to_owned());
        let mut parts = spec.split(':');
        let source = parts.next().unwrap_or_default();
        let Some(target) = parts.next() else {
            return Err(match source.starts_with('/') {
                true => VolumeError::Anonymous(source.to_owned()),
                false => malformed(),
            });
        };
        let mode = parts.next().unwrap_or_default();
        if parts.next().is_some() || source.is_empty() || target.is_empty() {
            return Err(malformed());
        }
        if !target.starts_with('/') {
            return Err(VolumeError::RelativeTarget {
                spec: spec.to_owned(),
                target: target.to_owned(),
            });
        }
        if target.trim_matches('/').is_empty() {
            return Err(VolumeError::RootTarget(spec.to_owned()));
        }
        let source = match source.as_bytes()[0] {
            b'/' => PathBuf::from(source),
            b'.' => directory.join(source),
            _ if name::is_name(source) => return Err(VolumeError::Named(source.to_owned())),
            _ => return Err(VolumeError::InvalidName(source.to_owned())),
        };
        let read_only = read_mode(spec, mode)?;
        Ok(Self {
            source,
            target: target.to_owned(),
            read_only,
        })
    }

    /// Returns whether the container may change it.
    pub fn access(&self) -> Access {
        match self.read_only {
            true => Access::ReadOnly,
            false => Access::ReadWrite,
        }
    }
}

/// Options that change nothing here are taken: SELinux labels, and hints for other systems.
fn read_mode(spec: &str, mode: &str) -> Result<bool, VolumeError> {
    let mut read_only = false;
    for word in mode.split(',').filter(|word| !word.is_empty()) {
        match word {
            "ro" => read_only = true,
            "rw" => read_only = false,
            "z" | "Z" | "cached" | "delegated" | "consistent" | "rprivate" => {}
            "private" | "shared" | "rshared" | "slave" | "rslave" | "nocopy" => {
                return Err(VolumeError::UnsupportedMode(word.to_owned()));
            }
            _ => {
                return Err(VolumeError::InvalidMode {
                    spec: spec.to_owned(),
                    mode: mode.to_owned(),
                });
            }
        }
    }
    Ok(read_only)
}

/// Refuses two volumes for one path in the container.
pub fn check_distinct(binds: &[Bind]) -> Result<(), VolumeError> {
    let path = |bind: &Bind| bind.target.trim_end_matches('/').to_owned();
    let mut seen = std::collections::BTreeSet::new();
    match binds.iter().find(|bind| !seen.insert(path(bind))) {
        Some(twice) => Err(VolumeError::Duplicate(path(twice))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: &str, expected: Result<(&str, &str, bool), &str>) {
        let found = Bind::parse(spec, Path::new("/work"));
        let found = found.map_err(|error| error.to_string());
        let expected = expected
            .map_err(str::to_owned)
            .map(|(source, target, read_only)| Bind {
                source: source.into(),
                target: target.into(),
                read_only,
            });
        assert_eq!(found, expected, "{spec}");
    }

    #[test]
    fn binds_are_read_as_docker_reads_them() {
        check("/a:/b", Ok(("/a", "/b", false)));
        check("/a:/b:ro", Ok(("/a", "/b", true)));
        check("/a:/b:ro,z", Ok(("/a", "/b", true)));
        check("./a:/b:rw", Ok(("/work/./a", "/b", false)));
        check(".:/b", Ok(("/work/.", "/b", false)));
    }

    #[test]
    fn what_is_no_bind_is_refused_in_dockers_words() {
        check(
            "rel/path:/x",
            Err(
                "create rel/path: \"rel/path\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
            ),
        );
        check(
            ".:rel",
            Err(
                "invalid volume specification: '.:rel': invalid mount config for type \"bind\": invalid mount path: 'rel' mount path must be absolute",
            ),
        );
        check(
            "/a:/b:c:d",
            Err("invalid volume specification: '/a:/b:c:d'"),
        );
        check(
            "/a:/b:nope",
            Err("invalid volume specification: '/a:/b:nope': invalid mode: nope"),
        );
        check(
            "/a:/",
            Err(
                "invalid volume specification: '/a:/': invalid specification: destination can't be '/'",
            ),
        );
        check(
            "data:/x",
            Err(
                "named volumes are not supported yet: give the absolute path of a directory instead of `data`",
            ),
        );
        check(
            "/data",
            Err(
                "anonymous volumes are not supported yet: give a directory, as in `-v /host/path:/data`",
            ),
        );
    }

    #[test]
    fn one_path_takes_one_volume() {
        let binds = |specs: &[&str]| -> Vec<Bind> {
            let parse = |spec: &&str| Bind::parse(spec, Path::new("/work")).expect("valid");
            specs.iter().map(parse).collect()
        };
        assert_eq!(
            check_distinct(&binds(&["/a:/x", "/b:/y"])).map_err(|e| e.to_string()),
            Ok(())
        );
        assert_eq!(
            check_distinct(&binds(&["/a:/x", "/b:/x/"])).map_err(|e| e.to_string()),
            Err("Duplicate mount point: /x".to_owned())
        );
    }
}
