//! Putting images of several platforms together in one index.

use oci::{
    Descriptor, Index, Manifest, ManifestError, ManifestOrIndex, MediaType, Platform, Reference,
};
use registry::{ClientError, Remote};
use store::{
    CopyError, CopyOptions, Event, ExchangeError, Extent, ListEntry, Resolved, Source as _, Store,
    StoreError, Target as _, image_config, mirror,
};

use crate::Engine;

/// Why a list was not made, changed or pushed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// A new list has the name of another one.
    #[error("refusing to amend an existing manifest list with no --amend flag")]
    Exists,
    /// There is no such list.
    #[error("No such manifest: {0}")]
    NoSuchList(String),
    /// The list has no such manifest.
    #[error("manifest for image {name} does not exist in {list}")]
    NotInList {
        /// What was looked for.
        name: String,
        /// The list.
        list: String,
    },
    /// The registry has no such manifest.
    #[error("no such manifest: {0}")]
    NoSuchManifest(String),
    /// An index names an index, or what is no manifest.
    #[error("{name} leads to `{media_type}`, which no list can hold")]
    Unsupported {
        /// The index.
        name: String,
        /// What it names.
        media_type: MediaType,
    },
    /// The index cannot say which machines the image is for.
    #[error("manifest {0} must have an OS and Architecture to be pushed to a registry")]
    NoPlatform(String),
    /// What the registry sent is not a manifest.
    #[error("{name}")]
    Manifest {
        /// Which.
        name: String,
        /// Why.
        source: ManifestError,
    },
    /// The registry cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The registry failed.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// An image was not copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What to change of a manifest's platform; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct Annotations {
    /// The processor.
    pub architecture: Option<String>,
    /// The system.
    pub os: Option<String>,
    /// The features of the system that are added.
    pub os_features: Vec<String>,
    /// The version of the system.
    pub os_version: Option<String>,
    /// The variant of the processor.
    pub variant: Option<String>,
}

/// A manifest at a registry, with what an index says of it.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it is.
    pub name: Reference,
    /// Type, digest, size, and for an image the platform.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What the bytes say.
    pub document: ManifestOrIndex,
}

/// Makes the list `list` of manifests at registries, or adds to it when that is wanted. An index
/// adds all that it names. Nothing is fetched but manifests and configurations.
pub fn create(
    engine: &Engine,
    list: &Reference,
    names: &[Reference],
    amend: bool,
) -> Result<(), ListError> {
    let store = engine.store();
    if !amend && !store.list_entries(list)?.is_empty() {
        return Err(ListError::Exists);
    }
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        let found = find(engine, name)?;
        match found.document {
            ManifestOrIndex::Manifest(_) => entries.push(ListEntry {
                name: found.name,
                descriptor: found.descriptor,
            }),
            ManifestOrIndex::Index(index) => {
                for descriptor in index.manifests {
                    if !descriptor.media_type.is_manifest() {
                        return Err(ListError::Unsupported {
                            name: name.familiar(),
                            media_type: descriptor.media_type,
                        });
                    }
                    let name = name.without_tag().with_digest(descriptor.digest);
                    entries.push(ListEntry { name, descriptor });
                }
            }
        }
    }
    Ok(store.add_to_list(list, &entries)?)
}

/// Looks a manifest up at its registry.
pub fn find(engine: &Engine, name: &Reference) -> Result<Found, ListError> {
    let remote = engine.client()?.repository(name)?;
    let Resolved {
        mut descriptor,
        bytes,
    } = remote.resolve().map_err(|error| missing(name, error))?;
    let parsed = ManifestOrIndex::parse(Some(&descriptor.media_type), &bytes);
    let document = parsed.map_err(|source| ListError::Manifest {
        name: name.familiar(),
        source,
    })?;
    if let ManifestOrIndex::Manifest(manifest) = &document {
        descriptor.platform = platform_of(&remote, manifest)?;
    }
    Ok(Found {
        name: name.clone(),
        descriptor,
        bytes,
        document,
    })
}

/// Says in docker's words that a registry does not have a manifest.
fn missing(name: &Reference, error: ExchangeError) -> ListError {
    match error.inner().downcast_ref() {
        Some(ClientError::ManifestUnknown { .. } | ClientError::RepositoryUnknown { .. }) => {
            ListError::NoSuchManifest(name.to_string())
        }
        _ => error.into(),
    }
}

fn platform_of(remote: &Remote, manifest: &Manifest) -> Result<Option<Platform>, ListError> {
    if !manifest.config.media_type.is_config() {
        return Ok(None);
    }
    let (config, _) = image_config(remote, &manifest.config)?;
    Ok(Some(config.platform()))
}

/// Returns the entries of a list.
fn entries(store: &Store, list: &Reference) -> Result<Vec<ListEntry>, ListError> {
    let entries = store.list_entries(list)?;
    if entries.is_empty() {
        return Err(ListError::NoSuchList(list.to_string()));
    }
    Ok(entries)
}

/// Returns the entry of a list that `name` names: as it was added, or by its digest.
pub fn entry(store: &Store, list: &Reference, name: &Reference) -> Result<ListEntry, ListError> {
    let entries = store.list_entries(list)?;
    let is_meant = |entry: &ListEntry| {
        let same_repository = entry.name.repository() == name.repository();
        entry.name == *name || same_repository && name.digest() == Some(&entry.descriptor.digest)
    };
    let found = entries.into_iter().find(is_meant);
    found.ok_or_else(|| ListError::NotInList {
        name: name.familiar(),
        list: list.familiar(),
    })
}

/// Changes what a list says of the platform of one of its manifests.
pub fn annotate(
    store: &Store,
    list: &Reference,
    name: &Reference,
    annotations: Annotations,
) -> Result<(), ListError> {
    let mut entry = entry(store, list, name)?;
    let mut platform = entry.descriptor.platform.take().unwrap_or(Platform {
        architecture: String::new(),
        os: String::new(),
        os_version: None,
        os_features: None,
        variant: None,
    });
    let features = platform.os_features.get_or_insert_default();
    for feature in annotations.os_features {
        if !features.contains(&feature) {
            features.push(feature);
        }
    }
    platform.os_features = platform.os_features.filter(|features| !features.is_empty());
    platform.architecture = annotations.architecture.unwrap_or(platform.architecture);
    platform.os = annotations.os.unwrap_or(platform.os);
    platform.os_version = annotations.os_version.or(platform.os_version);
    platform.variant = annotations.variant.or(platform.variant);
    entry.descriptor.platform = Some(platform);
    Ok(store.add_to_list(list, &[entry])?)
}

/// Returns the index that a list makes. As in docker, its family is that of its first manifest.
pub fn index(entries: &[ListEntry]) -> Index {
    let is_docker = entries
        .first()
        .is_some_and(|entry| entry.descriptor.media_type.0 == MediaType::DOCKER_MANIFEST);
    let media_type = match is_docker {
        true => MediaType::DOCKER_MANIFEST_LIST,
        false => MediaType::OCI_INDEX,
    };
    Index {
        schema_version: 2,
        media_type: Some(media_type.into()),
        manifests: entries
            .iter()
            .map(|entry| entry.descriptor.clone())
            .collect(),
        annotations: None,
    }
}

/// What was pushed.
#[derive(Debug)]
pub struct PushedList {
    /// The manifests that came from another repository, with their names in this one.
    pub manifests: Vec<Reference>,
    /// The index.
    pub index: Descriptor,
}

/// Pushes a list as an index under its own name. Images that are in other repositories are copied
/// there first, by mounting their blobs where the registry is the same.
pub fn push(
    engine: &Engine,
    list: &Reference,
    events: &(dyn Fn(Event) + Sync),
) -> Result<PushedList, ListError> {
    let entries = entries(engine.store(), list)?;
    for entry in &entries {
        let platform = entry.descriptor.platform.as_ref();
        if platform.is_none_or(|known| known.os.is_empty() || known.architecture.is_empty()) {
            return Err(ListError::NoPlatform(entry.name.to_string()));
        }
    }
    let client = engine.client()?;
    let options = CopyOptions {
        platform: Platform::host(),
        parallel: super::parallel_layers(),
        events,
    };
    let mut manifests = Vec::new();
    for entry in &entries {
        let digest = entry.descriptor.digest;
        let source = entry.name.without_tag().with_digest(digest);
        if source.repository() == list.repository() {
            continue;
        }
        let name = list.without_tag().with_digest(digest);
        let target = client.repository(&name)?.mounting_from(&source);
        mirror(
            &client.repository(&source)?,
            &target,
            &Extent::Whole,
            &options,
        )?;
        manifests.push(name);
    }
    let index = index(&entries);
    let bytes = serde_json::to_vec(&index).expect("invariant: an index has string keys");
    let media_type = index
        .media_type
        .unwrap_or_else(|| MediaType::OCI_INDEX.into());
    client.repository(list)?.put_manifest(&media_type, &bytes)?;
    Ok(PushedList {
        manifests,
        index: Descriptor::of(&media_type.0, &bytes),
    })
}

/// Removes a list. What was pushed stays at its registry.
pub fn remove(store: &Store, list: &Reference) -> Result<(), ListError> {
    match store.remove_list(list)? {
        true => Ok(()),
        false => Err(ListError::NoSuchList(list.to_string())),
    }
}
