//! Records against files: whether they are there, and how long they are.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use oci::{DiffId, Digest};

use super::records::{Needs, Records};
use super::{Damage, Finding, Flaw, NeededBy, Probes};
use crate::error::at;
use crate::store::DIRECTORIES;
use crate::{Store, StoreError};

/// The names in the store's directories.
#[derive(Debug)]
pub(super) struct Listing {
    blobs: Vec<String>,
    layers: Vec<String>,
    containers: Vec<String>,
    pub(super) ingest: usize,
    pub(super) trash: usize,
}

impl Listing {
    pub(super) fn read(store: &Store) -> Result<Self, StoreError> {
        let root = store.root();
        let mut containers = names(&root.join("containers"))?;
        // One that is being made is empty, and its record is to come.
        containers.retain(|name| {
            fs::read_dir(root.join("containers").join(name))
                .is_ok_and(|mut found| found.next().is_some())
        });
        Ok(Self {
            blobs: names(&root.join("blobs/sha256"))?,
            layers: names(&root.join("layers"))?,
            containers,
            ingest: names(&store.ingest_dir())?.len(),
            trash: names(&store.trash_dir())?.len(),
        })
    }

    /// Returns the files and directories that no record names.
    pub(super) fn unused(&self, store: &Store, records: &Records) -> Vec<PathBuf> {
        let containers: HashSet<&str> = records
            .containers
            .iter()
            .map(|found| found.id.as_str())
            .collect();
        let is_blob = |name: &str| {
            Digest::from_hex(name).is_some_and(|digest| records.blobs.contains_key(&digest))
        };
        let is_layer = |name: &str| {
            Digest::from_hex(name).is_some_and(|digest| records.layers.contains_key(&digest))
        };
        let mut unused = Vec::new();
        let mut add = |directory: &str, names: &[String], is_used: &dyn Fn(&str) -> bool| {
            let directory = store.root().join(directory);
            let names = names.iter().filter(|name| !is_used(name));
            unused.extend(names.map(|name| directory.join(name)));
        };
        add("blobs/sha256", &self.blobs, &is_blob);
        add("layers", &self.layers, &is_layer);
        add("containers", &self.containers, &|name| {
            containers.contains(name)
        });
        unused
    }
}

/// Returns the names in a directory; none when it is not there.
fn names(directory: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at("read", directory)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(at("read", directory))?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    Ok(names)
}

/// Checks that the store's directories are there and closed to others.
pub(super) fn check_directories(
    store: &Store,
    findings: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    let root = store.root();
    let directories = DIRECTORIES.iter().map(|name| root.join(name));
    for path in directories.chain([root.to_owned(), store.run_dir().to_owned()]) {
        let damage = match fs::metadata(&path) {
            Ok(metadata) => {
                let mode = metadata.permissions().mode() & 0o7777;
                if mode & 0o077 == 0 {
                    continue;
                }
                Damage::Permissions { mode }
            }
            // Made by the first build that wants one, in stores that are older than these.
            Err(error) if error.kind() == ErrorKind::NotFound && path.ends_with("caches") => {
                continue;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Damage::MissingDirectory,
            Err(error) => return Err(at("look at", &path)(error)),
        };
        let needed_by = NeededBy::default();
        findings.push(Finding {
            damage,
            path,
            needed_by,
        });
    }
    Ok(())
}

/// Checks every file that a record names. Returns the blobs and layers whose files are there, at
/// their length.
pub(super) fn check(
    store: &Store,
    records: &Records,
    needs: &Needs,
    probes: &Probes<'_>,
    findings: &mut Vec<Finding>,
) -> Result<HashSet<Digest>, StoreError> {
    let mut sound = HashSet::new();
    let mut add = |damage, path: &Path, digest: &Digest| {
        findings.push(Finding {
            damage,
            path: path.to_owned(),
            needed_by: needs.by(digest),
        });
    };
    let mut blobs: Vec<_> = records.blobs.iter().collect();
    blobs.sort_unstable_by_key(|(digest, _)| **digest);
    for (digest, blob) in blobs {
        let path = store.blob_path(digest);
        match flaw(fs::symlink_metadata(&path), blob.size) {
            None => {
                sound.insert(*digest);
            }
            Some(flaw) => {
                let role = needs.role(digest);
                let digest = *digest;
                add(Damage::Blob { digest, role, flaw }, &path, &digest);
            }
        }
    }
    let mut layers: Vec<_> = records.layers.iter().collect();
    layers.sort_unstable_by_key(|(digest, _)| **digest);
    for (digest, row) in layers {
        let layer = DiffId(*digest);
        let directory = store.layer_dir(&layer);
        let tar = directory.join("tar");
        if let Some(flaw) = flaw(fs::symlink_metadata(&tar), row.tar_size) {
            add(Damage::Tar { layer, flaw }, &tar, digest);
            continue;
        }
        let index = directory.join("index.erofs");
        let flaw = match fs::symlink_metadata(&index) {
            Err(error) => unreadable(&error),
            Ok(_) => match (probes.index)(&directory) {
                Ok(()) => {
                    sound.insert(*digest);
                    continue;
                }
                Err(what) => Flaw::Malformed { what },
            },
        };
        // The tar is sound, and read in full whatever its index is.
        sound.insert(*digest);
        add(Damage::Index { layer, flaw }, &index, digest);
    }
    check_containers(store, records, findings)?;
    Ok(sound)
}

fn check_containers(
    store: &Store,
    records: &Records,
    findings: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    for container in &records.containers {
        let path = store.container_dir(&container.id);
        // A container that is removed loses its record first.
        if path.exists() || !store.container_exists(&container.id)? {
            continue;
        }
        findings.push(Finding {
            damage: Damage::Container {
                id: container.id.clone(),
            },
            path,
            needed_by: NeededBy {
                containers: vec![container.name.clone()],
                ..NeededBy::default()
            },
        });
    }
    Ok(())
}

fn flaw(metadata: io::Result<Metadata>, expected: u64) -> Option<Flaw> {
    match metadata {
        Ok(found) if !found.is_file() => Some(Flaw::Malformed {
            what: "not a regular file".to_owned(),
        }),
        Ok(found) if found.len() != expected => Some(Flaw::Size {
            expected,
            found: found.len(),
        }),
        Ok(_) => None,
        Err(error) => Some(unreadable(&error)),
    }
}

pub(super) fn unreadable(error: &io::Error) -> Flaw {
    match error.kind() {
        ErrorKind::NotFound => Flaw::Missing,
        _ => Flaw::Unreadable {
            what: error.to_string(),
        },
    }
}
