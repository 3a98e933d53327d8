//! Manifests that are pushed, after their blobs: what they become in the store.
//!
//! An image becomes an image of the store, through the same copy as a pull. An index is kept as
//! a document; its tag goes to the image in it that runs here, if there is one. A manifest of
//! something else is kept as a document too.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{Read, Seek, SeekFrom};

use oci::{
    Descriptor, Digest, ImageConfig, ImageId, Index, MAX_CONFIG_SIZE, MAX_MANIFEST_SIZE, Manifest,
    ManifestOrIndex, MediaType, Platform, Reference,
};
use store::{
    CopyError, CopyOptions, ExchangeError, Resolved, Source, Store, StoreError, StoreTarget,
    TagDocument, copy, until_named,
};

use super::failure::Failure;
use super::site::Site;
use super::uploads::keep;

/// The most manifests and indexes that one index may lead to.
const MAX_DOCUMENTS: usize = 1000;

/// A manifest and the blobs that the store got before it.
struct Received<'a> {
    store: &'a Store,
    manifest: &'a Resolved,
}

impl Source for Received<'_> {
    fn resolve(&self) -> Result<Resolved, ExchangeError> {
        Ok(self.manifest.clone())
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ExchangeError> {
        self.store
            .read_blob(&descriptor.digest, MAX_MANIFEST_SIZE)
            .map_err(ExchangeError::permanent)
    }

    fn open_blob(
        &self,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>, ExchangeError> {
        let mut file = self
            .store
            .open_blob(&descriptor.digest)
            .map_err(ExchangeError::permanent)?
            .ok_or_else(|| ExchangeError::permanent(StoreError::BlobNotFound(descriptor.digest)))?;
        file.seek(SeekFrom::Start(offset))
            .map_err(ExchangeError::permanent)?;
        Ok(Box::new(file))
    }
}

/// Takes a document that is pushed under `name`. Everything it names must be there.
pub(crate) fn take(
    site: &Site,
    name: &Reference,
    told: Option<&MediaType>,
    bytes: &[u8],
) -> Result<Digest, Failure> {
    // Each push is an operation of its own.
    let site = &site.of_push(name);
    let digest = Digest::of(bytes);
    if name.digest().is_some_and(|expected| *expected != digest) {
        return Err(Failure::digest_invalid(&digest.to_string()));
    }
    let parsed =
        ManifestOrIndex::parse(told, bytes).map_err(|error| Failure::manifest_invalid(&error))?;
    let (own, default) = match &parsed {
        ManifestOrIndex::Manifest(manifest) => (&manifest.media_type, MediaType::OCI_MANIFEST),
        ManifestOrIndex::Index(index) => (&index.media_type, MediaType::OCI_INDEX),
    };
    let media_type = told.or(own.as_ref()).map_or(default, |kind| &kind.0);
    let document = Resolved {
        descriptor: Descriptor::of(media_type, bytes),
        bytes: bytes.to_vec(),
    };
    let lock = site.store().lock_shared()?;
    let parts = parts(site, &parsed)?;
    for part in &parts {
        if !keep(site, part)? {
            return Err(Failure::manifest_blob_unknown(part));
        }
    }
    match parsed {
        ManifestOrIndex::Manifest(manifest) if is_image(site, &manifest, name)? => {
            import(site, &document, |image| {
                site.store().remove_tag_document(name)?;
                site.store().tag(name, image, Some(&digest))
            })?;
            // The image has only one manifest on record, and may get another.
            match name.digest() {
                Some(_) => drop(keep(site, &digest)?),
                None => site.store().set_tag_manifest(name, &digest)?,
            }
        }
        ManifestOrIndex::Manifest(_) => keep_document(site, name, &document, &parts, None)?,
        ManifestOrIndex::Index(index) => take_index(site, name, &index, &document, &parts)?,
    }
    drop(lock);
    Ok(digest)
}

/// Tells whether a manifest becomes an image of the store. One that is pushed without a tag is
/// most often part of an index that follows: for other platforms it is not unpacked.
fn is_image(site: &Site, manifest: &Manifest, name: &Reference) -> Result<bool, Failure> {
    if !manifest.config.media_type.is_config() {
        return Ok(false);
    }
    if name.digest().is_none() {
        return Ok(true);
    }
    let config = site
        .store()
        .read_blob(&manifest.config.digest, MAX_CONFIG_SIZE)?;
    let config = ImageConfig::parse(&config).map_err(|error| Failure::manifest_invalid(&error))?;
    Ok(config.platform().serves(&Platform::host()))
}

fn take_index(
    site: &Site,
    name: &Reference,
    index: &Index,
    document: &Resolved,
    parts: &BTreeSet<Digest>,
) -> Result<(), Failure> {
    let host = Platform::host();
    let entry = index.select(&host).filter(|_| name.digest().is_none());
    let Some(entry) = entry else {
        return keep_document(site, name, document, parts, None);
    };
    let child = Resolved {
        descriptor: entry.clone(),
        bytes: site.store().read_blob(&entry.digest, MAX_MANIFEST_SIZE)?,
    };
    let tag = |image: &ImageId| site.store().tag(name, image, None);
    let image = import(site, &child, tag)?;
    keep_document(site, name, document, parts, Some(image))?;
    site.store().set_tag_manifest(name, &entry.digest)?;
    Ok(())
}

/// Keeps a document under its tag, or for a while when it has none.
fn keep_document(
    site: &Site,
    name: &Reference,
    document: &Resolved,
    parts: &BTreeSet<Digest>,
    image: Option<ImageId>,
) -> Result<(), Failure> {
    let store = site.store();
    let descriptor = &document.descriptor;
    store.put_blob(&descriptor.media_type, &document.bytes)?;
    keep(site, &descriptor.digest)?;
    if name.digest().is_some() {
        return Ok(());
    }
    let parts: Vec<Digest> = parts.iter().copied().collect();
    let new = TagDocument {
        document: descriptor.digest,
        parts: &parts,
        image,
    };
    store.set_tag_document(name, &new)?;
    match image {
        Some(image) => store.tag(name, &image, Some(&descriptor.digest))?,
        None => drop(store.untag(name)?),
    }
    Ok(())
}

/// Lists all blobs that a document leads to. The documents among them must be there to be read.
fn parts(site: &Site, document: &ManifestOrIndex) -> Result<BTreeSet<Digest>, Failure> {
    let mut all = BTreeSet::new();
    let mut documents = 0;
    let mut waiting: Vec<Descriptor> = Vec::new();
    list(document, &mut all, &mut waiting);
    while let Some(entry) = waiting.pop() {
        documents += 1;
        if documents > MAX_DOCUMENTS {
            return Err(Failure::too_many_documents(MAX_DOCUMENTS));
        }
        let bytes = match site.store().read_blob(&entry.digest, MAX_MANIFEST_SIZE) {
            Err(StoreError::BlobNotFound(digest)) => {
                return Err(Failure::manifest_blob_unknown(&digest));
            }
            bytes => bytes?,
        };
        let child = ManifestOrIndex::parse(Some(&entry.media_type), &bytes)
            .map_err(|error| Failure::manifest_invalid(&error))?;
        list(&child, &mut all, &mut waiting);
    }
    Ok(all)
}

/// Adds what a document names; the documents that were not named before wait to be read.
fn list(document: &ManifestOrIndex, all: &mut BTreeSet<Digest>, waiting: &mut Vec<Descriptor>) {
    match document {
        ManifestOrIndex::Manifest(manifest) => {
            let parts = std::iter::once(&manifest.config).chain(&manifest.layers);
            all.extend(parts.map(|part| part.digest));
        }
        ManifestOrIndex::Index(index) => {
            for entry in &index.manifests {
                let is_document = entry.media_type.is_manifest() || entry.media_type.is_index();
                // BuildKit lists the layers of a build cache in an index.
                if all.insert(entry.digest) && is_document {
                    waiting.push(entry.clone());
                }
            }
        }
    }
}

/// Unpacks the layers of an image, records it and names it.
fn import(
    site: &Site,
    manifest: &Resolved,
    name: impl Fn(&ImageId) -> Result<(), StoreError>,
) -> Result<ImageId, Failure> {
    let unpack = site.options.unpack.as_ref();
    let source = Received {
        store: site.store(),
        manifest,
    };
    let options = CopyOptions {
        platform: Platform::host(),
        parallel: std::thread::available_parallelism().map_or(1, usize::from),
        events: &|_| {},
    };
    let target = StoreTarget::new(site.store(), unpack);
    let copied = until_named::<Failure>(
        || copy(&source, &target, &options),
        |copied| name(&copied.image),
    )?;
    // Of an image that was here nothing was stored, and its parts have been kept all the same.
    site.store().release_leases(&copied.image)?;
    Ok(copied.image)
}

impl From<CopyError> for Failure {
    /// Sorts out whether what was pushed is wrong, or something here.
    fn from(error: CopyError) -> Self {
        let ours = match &error {
            CopyError::Source(failed) | CopyError::Target(failed) => {
                let inner: &(dyn Error + 'static) = failed.inner();
                match inner.downcast_ref::<StoreError>() {
                    Some(
                        StoreError::DigestMismatch { .. }
                        | StoreError::SizeMismatch { .. }
                        | StoreError::DiffIdMismatch { .. }
                        | StoreError::Config(_)
                        | StoreError::Manifest(_)
                        | StoreError::ManifestConfigMismatch { .. },
                    )
                    | None => false,
                    Some(_) => true,
                }
            }
            _ => false,
        };
        if ours {
            Self::internal(error)
        } else {
            Self::manifest_invalid(&error)
        }
    }
}
