//! Reading archives.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::sync::Arc;

use oci::{
    Descriptor, DiffId, Digest, Hasher, ImageConfig, Index, MAX_CONFIG_SIZE, MAX_MANIFEST_SIZE,
    Manifest, ManifestOrIndex, MediaType, Reference,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::contents::{Contents, Section};
use super::documents::RECEIVED;
use super::entry::blob_name;
use super::{ArchiveError, ArchiveSource};
use crate::exchange::MAX_LAYERS;
use crate::{ManifestPolicy, Resolved};

/// The longest `manifest.json` and `index.json` that are read.
const MAX_LIST_SIZE: u64 = 8 << 20;

/// Names of images in OCI layouts: containerd's, then the specification's, which may be only a
/// tag.
const NAME_ANNOTATIONS: [&str; 2] = [
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
];

/// BuildKit's mark on manifests that describe another one.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// An opened archive.
#[derive(Debug)]
pub struct Archive {
    pub(super) contents: Arc<Contents>,
    pub(super) reading: Reading,
}

/// Which list of images is read where there are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    Docker,
    Layout,
}

/// Which image of an archive is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// The one that there is.
    Only,
    /// The one of this name.
    Name(String),
    /// The one with this digest: that of its manifest or index, or an image's id.
    Digest(Digest),
}

/// An image in an archive.
#[derive(Debug)]
pub struct ArchiveImage {
    /// The names that the archive gives it.
    pub names: Vec<Reference>,
    /// Its content.
    pub source: ArchiveSource,
    /// Whether the archive has a manifest of the image that is worth keeping.
    pub manifests: ManifestPolicy,
    /// The index that the names lead to, if the archive has all of it.
    pub index: Option<ArchiveSource>,
    /// Names as an OCI layout writes them: anything, most often a mere tag.
    labels: Vec<String>,
}

impl ArchiveImage {
    /// Tells whether the image, its manifest or index has this digest.
    fn is(&self, digest: &Digest) -> bool {
        let Resolved { descriptor, bytes } = &self.source.resolved;
        if descriptor.digest == *digest {
            return true;
        }
        match ManifestOrIndex::parse(Some(&descriptor.media_type), bytes) {
            Ok(ManifestOrIndex::Manifest(manifest)) => manifest.config.digest == *digest,
            // What is wrong with it is told when it is copied.
            Ok(ManifestOrIndex::Index(_)) | Err(_) => false,
        }
    }

    /// Tells whether the archive calls the image `name`.
    fn is_called(&self, name: &str) -> bool {
        let parsed = Reference::parse(name).map(Reference::or_latest);
        self.labels.iter().any(|label| label == name)
            || parsed.is_ok_and(|name| self.names.contains(&name))
    }
}

/// An image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    image_layout_version: String,
}

impl Archive {
    /// Returns the image that is meant.
    pub fn image(&self, pick: &Pick) -> Result<ArchiveImage, ArchiveError> {
        let mut images = self.images()?;
        let known = |images: &[ArchiveImage]| {
            let names = images.iter().flat_map(|image| {
                let names = image.names.iter().map(Reference::familiar);
                image.labels.iter().cloned().chain(names)
            });
            names.collect()
        };
        let found = match pick {
            Pick::Only if images.len() == 1 => Some(0),
            Pick::Only if images.is_empty() => return Err(ArchiveError::Empty),
            Pick::Only => return Err(ArchiveError::ManyImages(known(&images))),
            Pick::Name(name) => images.iter().position(|image| image.is_called(name)),
            Pick::Digest(digest) => images.iter().position(|image| image.is(digest)),
        };
        match (found, pick) {
            (Some(index), _) => Ok(images.swap_remove(index)),
            (None, Pick::Digest(digest)) => self.unlisted(digest),
            (None, Pick::Only) => Err(ArchiveError::Empty),
            (None, Pick::Name(name)) => Err(ArchiveError::NoSuchImage {
                name: name.clone(),
                known: known(&images),
            }),
        }
    }

    /// Returns the manifest or index of a layout that is not in its list, but below what is: by its
    /// digest, or that of the configuration.
    fn unlisted(&self, digest: &Digest) -> Result<ArchiveImage, ArchiveError> {
        if let Some(list) = self.document("index.json")?
            && let Some(listed) = self.listed_manifests(&list)?.get(digest)
        {
            return self.layout_image(Vec::new(), &listed.manifest);
        }
        let name = blob_name(digest);
        let bytes = self.contents.read(&name, MAX_MANIFEST_SIZE)?;
        let bytes = bytes.ok_or_else(|| ArchiveError::NoSuchImage {
            name: digest.to_string(),
            known: Vec::new(),
        })?;
        let parsed = ManifestOrIndex::parse(None, &bytes);
        let parsed = parsed.map_err(|source| ArchiveError::Manifest { name, source })?;
        let (own, usual) = match parsed {
            ManifestOrIndex::Manifest(manifest) => (manifest.media_type, MediaType::OCI_MANIFEST),
            ManifestOrIndex::Index(index) => (index.media_type, MediaType::OCI_INDEX),
        };
        let media_type = own.unwrap_or_else(|| usual.into());
        let size = u64::try_from(bytes.len()).expect("a length fits in 64 bits");
        self.layout_image(Vec::new(), &Descriptor::new(&media_type.0, *digest, size))
    }

    /// Returns the images, in the archive's order.
    pub fn images(&self) -> Result<Vec<ArchiveImage>, ArchiveError> {
        let index: Option<Index> = self.document("index.json")?;
        let docker: Option<Vec<DockerImage>> = match (&index, self.reading) {
            (Some(_), Reading::Layout) => None,
            _ => self.document("manifest.json")?,
        };
        match (docker, index) {
            (Some(images), index) => {
                let manifests = match &index {
                    Some(index) => self.listed_manifests(index)?,
                    None => HashMap::new(),
                };
                let mut described = Described::new();
                let images = images
                    .iter()
                    .map(|image| self.docker_image(image, &manifests, &mut described));
                images.collect()
            }
            (None, Some(index)) => self.layout_images(&index),
            (None, None) if self.contents.find("repositories")?.is_some() => {
                Err(ArchiveError::TooOld)
            }
            (None, None) => Err(ArchiveError::NoImages),
        }
    }

    fn document<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ArchiveError> {
        let Some(bytes) = self.contents.read(name, MAX_LIST_SIZE)? else {
            return Ok(None);
        };
        let document = serde_json::from_slice(&bytes);
        document.map_err(|source| ArchiveError::Malformed {
            name: name.to_owned(),
            source,
        })
    }

    /// Reads an image of `manifest.json`. Docker's manifest is made up for the archive, so one is
    /// made here; a manifest with compressed layers came from a registry and is kept.
    fn docker_image(
        &self,
        image: &DockerImage,
        manifests: &HashMap<Digest, Listed>,
        described: &mut Described,
    ) -> Result<ArchiveImage, ArchiveError> {
        let tags = image.repo_tags.iter().flatten();
        let names = tags.map(|tag| parse_name(tag)).collect::<Result<_, _>>()?;
        let config_bytes = self.contents.read(&image.config, MAX_CONFIG_SIZE)?;
        let config_bytes =
            config_bytes.ok_or_else(|| ArchiveError::Missing(image.config.clone()))?;
        let config_descriptor = Descriptor::of(MediaType::OCI_CONFIG, &config_bytes);
        if let Some(listed) = manifests.get(&config_descriptor.digest) {
            let index = listed.index.as_ref();
            return Ok(ArchiveImage {
                index: index.map(|index| self.whole(index)).transpose()?.flatten(),
                ..self.layout_image(names, &listed.manifest)?
            });
        }
        let invalid = |source| ArchiveError::Config {
            name: image.config.clone(),
            source,
        };
        let config = ImageConfig::parse(&config_bytes).map_err(invalid)?;
        let layers = image.layers.as_deref().unwrap_or_default();
        if layers.len() > MAX_LAYERS {
            return Err(ArchiveError::TooManyLayers {
                name: "manifest.json".to_owned(),
                found: layers.len(),
                limit: MAX_LAYERS,
            });
        }
        let diff_ids = &config.rootfs.diff_ids;
        if layers.len() != diff_ids.len() {
            return Err(invalid(oci::ConfigError::LayerCountMismatch {
                config: diff_ids.len(),
                manifest: layers.len(),
            }));
        }
        let mut places = HashMap::from([(config_descriptor.digest, image.config.clone())]);
        let mut descriptors = Vec::with_capacity(layers.len());
        for (name, diff_id) in layers.iter().zip(diff_ids) {
            let descriptor = match described.entry((name.clone(), *diff_id)) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(new) => {
                    let layer = describe(self.contents.require(name)?, diff_id)?;
                    new.insert(layer).clone()
                }
            };
            places.insert(descriptor.digest, name.clone());
            descriptors.push(descriptor);
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MediaType::OCI_MANIFEST.into()),
            config: config_descriptor,
            layers: descriptors,
            annotations: None,
        };
        let bytes = serde_json::to_vec(&manifest).expect("invariant: a manifest has string keys");
        let resolved = Resolved {
            descriptor: Descriptor::of(MediaType::OCI_MANIFEST, &bytes),
            bytes,
        };
        Ok(ArchiveImage {
            names,
            source: ArchiveSource {
                contents: Arc::clone(&self.contents),
                resolved,
                names: places,
            },
            manifests: ManifestPolicy::Discard,
            index: None,
            labels: Vec::new(),
        })
    }

    /// Returns the manifests that `index.json` leads to, by configuration: those with compressed
    /// layers, those that are marked as received, and those of indexes.
    fn listed_manifests(&self, list: &Index) -> Result<HashMap<Digest, Listed>, ArchiveError> {
        let mut found = HashMap::new();
        for entry in &list.manifests {
            match self.manifest(entry)? {
                Some(ManifestOrIndex::Manifest(manifest))
                    if has_compressed_layers(&manifest) || is_received(entry) =>
                {
                    let manifest_of = Listed {
                        manifest: entry.clone(),
                        index: None,
                    };
                    found.insert(manifest.config.digest, manifest_of);
                }
                Some(ManifestOrIndex::Index(index)) => {
                    for child in index.manifests {
                        if let Some(ManifestOrIndex::Manifest(manifest)) = self.manifest(&child)? {
                            let manifest_of = Listed {
                                manifest: child,
                                index: Some(entry.clone()),
                            };
                            found.insert(manifest.config.digest, manifest_of);
                        }
                    }
                }
                Some(ManifestOrIndex::Manifest(_)) | None => {}
            }
        }
        Ok(found)
    }

    /// Reads a manifest or index; `None` when the archive does not have it, or it is neither.
    fn manifest(&self, entry: &Descriptor) -> Result<Option<ManifestOrIndex>, ArchiveError> {
        if !entry.media_type.is_manifest() && !entry.media_type.is_index() {
            return Ok(None);
        }
        let name = blob_name(&entry.digest);
        let Some(bytes) = self.contents.read(&name, MAX_MANIFEST_SIZE)? else {
            return Ok(None);
        };
        let parsed = ManifestOrIndex::parse(Some(&entry.media_type), &bytes);
        let parsed = parsed.map_err(|source| ArchiveError::Manifest { name, source })?;
        Ok(Some(parsed))
    }

    /// Returns an index as a source, if the archive has all that it leads to.
    fn whole(&self, index: &Descriptor) -> Result<Option<ArchiveSource>, ArchiveError> {
        let mut waiting = vec![index.clone()];
        let mut seen = HashSet::new();
        while let Some(entry) = waiting.pop() {
            if !seen.insert(entry.digest) {
                continue;
            }
            if self.contents.find(&blob_name(&entry.digest))?.is_none() || seen.len() > MAX_PARTS {
                return Ok(None);
            }
            match self.manifest(&entry)? {
                Some(ManifestOrIndex::Index(index)) => waiting.extend(index.manifests),
                Some(ManifestOrIndex::Manifest(manifest)) => {
                    waiting.push(manifest.config);
                    waiting.extend(manifest.layers);
                }
                None => {}
            }
        }
        self.layout_source(index).map(Some)
    }

    fn layout_images(&self, index: &Index) -> Result<Vec<ArchiveImage>, ArchiveError> {
        let layout: Option<Layout> = self.document("oci-layout")?;
        if let Some(Layout {
            image_layout_version: version,
        }) = layout
            && !version.starts_with("1.")
        {
            return Err(ArchiveError::UnsupportedLayout(version));
        }
        let mut images: Vec<(ArchiveImage, Digest)> = Vec::new();
        for entry in index.manifests.iter().filter(|entry| is_image(entry)) {
            let known = images.iter().position(|(_, known)| *known == entry.digest);
            let at = match known {
                Some(at) => at,
                None => {
                    images.push((self.layout_image(Vec::new(), entry)?, entry.digest));
                    images.len() - 1
                }
            };
            let image = &mut images[at].0;
            image.names.extend(layout_name(entry));
            image.labels.extend(layout_labels(entry).map(str::to_owned));
        }
        Ok(images.into_iter().map(|(image, _)| image).collect())
    }

    fn layout_image(
        &self,
        names: Vec<Reference>,
        entry: &Descriptor,
    ) -> Result<ArchiveImage, ArchiveError> {
        Ok(ArchiveImage {
            names,
            source: self.layout_source(entry)?,
            manifests: ManifestPolicy::Keep,
            index: match entry.media_type.is_index() {
                true => self.whole(entry)?,
                false => None,
            },
            labels: Vec::new(),
        })
    }

    fn layout_source(&self, entry: &Descriptor) -> Result<ArchiveSource, ArchiveError> {
        let name = blob_name(&entry.digest);
        let bytes = self.contents.read(&name, MAX_MANIFEST_SIZE)?;
        let bytes = bytes.ok_or(ArchiveError::Missing(name))?;
        Ok(ArchiveSource {
            contents: Arc::clone(&self.contents),
            resolved: Resolved {
                descriptor: entry.clone(),
                bytes,
            },
            names: HashMap::new(),
        })
    }
}

/// Layers by name and what they should be: each is read once, however often it is named.
type Described = HashMap<(String, DiffId), Descriptor>;

/// A manifest that `index.json` leads to.
struct Listed {
    manifest: Descriptor,
    /// The index that names it, when `index.json` does not.
    index: Option<Descriptor>,
}

/// More blobs than an index of images leads to.
const MAX_PARTS: usize = 20_000;

fn is_received(entry: &Descriptor) -> bool {
    let annotations = entry.annotations.as_ref();
    annotations.is_some_and(|annotations| annotations.contains_key(RECEIVED))
}

fn has_compressed_layers(manifest: &Manifest) -> bool {
    manifest.layers.iter().any(|layer| {
        !matches!(
            layer.media_type.0.as_str(),
            MediaType::OCI_LAYER | MediaType::DOCKER_LAYER
        )
    })
}

/// Tells whether an entry of a layout's index is an image, and not a statement about one.
fn is_image(entry: &Descriptor) -> bool {
    let annotations = entry.annotations.as_ref();
    (entry.media_type.is_manifest() || entry.media_type.is_index())
        && annotations.is_none_or(|annotations| !annotations.contains_key(ATTESTATION))
}

fn layout_labels(entry: &Descriptor) -> impl Iterator<Item = &str> {
    let annotations = entry.annotations.as_ref();
    NAME_ANNOTATIONS
        .iter()
        .filter_map(move |key| annotations?.get(*key))
        .map(String::as_str)
}

fn layout_name(entry: &Descriptor) -> Option<Reference> {
    let mut names = layout_labels(entry).filter_map(|name| Reference::parse(name).ok());
    // A mere tag reads as a repository; it says nothing about the name.
    names.find(|name| name.tag().is_some())
}

fn parse_name(name: &str) -> Result<Reference, ArchiveError> {
    let parsed = Reference::parse(name).map_err(|source| ArchiveError::InvalidName {
        name: name.to_owned(),
        source,
    })?;
    Ok(parsed.or_latest())
}

/// Describes a layer in an archive of docker's, where nothing but its content tells its form.
fn describe(section: Section, diff_id: &DiffId) -> Result<Descriptor, ArchiveError> {
    let size = section.size();
    let mut magic = Vec::new();
    section
        .clone()
        .take(6)
        .read_to_end(&mut magic)
        .map_err(ArchiveError::Read)?;
    let Some(media_type) = compression(&magic) else {
        return Ok(Descriptor::new(
            MediaType::OCI_LAYER,
            *diff_id.digest(),
            size,
        ));
    };
    Ok(Descriptor::new(media_type, hash(section)?, size))
}

fn hash(mut section: Section) -> Result<Digest, ArchiveError> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = section.read(&mut buffer).map_err(ArchiveError::Read)?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..count]);
    }
}

/// Tells the compression of a file by its first bytes, as the media type of such a layer.
pub(super) fn compression(magic: &[u8]) -> Option<&'static str> {
    const XZ_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+xz";
    const BZIP2_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+bzip2";
    match magic {
        [0x1f, 0x8b, ..] => Some(MediaType::OCI_LAYER_GZIP),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(MediaType::OCI_LAYER_ZSTD),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Some(XZ_LAYER),
        [b'B', b'Z', b'h', ..] => Some(BZIP2_LAYER),
        _ => None,
    }
}
