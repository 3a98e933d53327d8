//! The index of the images for several platforms.

use std::error::Error;
use std::io::{Read, Write};

use layer::Compression;
use oci::{Descriptor, Digest, ImageId, Index, MediaType, Platform, Reference};
use store::{
    BlobTarget, CopyError, CopyOptions, Force, Packing, Reuse, Store, TagDocument, Target as _,
};

use crate::SolveError;
use crate::export::Assembled;

/// How often images are recorded again that others removed before they had a name.
const ATTEMPTS: usize = 5;

/// Records an image under names.
type Put<'a> = dyn Fn(&Assembled<'_>, &[Reference]) -> Result<ImageId, SolveError> + 'a;

/// Records images and their index, and has the tags lead to it. Of the images one stays, that for
/// this machine or else the first; of the others the store has all blobs, as after a pull of all
/// platforms. Layers are compressed for it: an index names what is transferred, and keeps its
/// digest when it is pushed.
pub(crate) fn put(
    store: &Store,
    tags: &[Reference],
    (images, put): (&[Assembled<'_>], &Put<'_>),
    status: &dyn Fn(String),
) -> Result<Descriptor, SolveError> {
    status("exporting layers".to_owned());
    let mut were_there = Vec::with_capacity(images.len());
    for assembled in images {
        were_there.push(store.image(&assembled.image.id)?.is_some());
    }
    let (index, parts) = pack(store, (images, put), status)?;
    status(format!("exporting manifest list {}", index.digest));
    let host = Platform::host();
    let is_for_host = |assembled: &&Assembled<'_>| assembled.image.platform.serves(&host);
    let chosen = images.iter().find(is_for_host).or(images.first());
    let chosen = chosen.expect("invariant: there are several images");
    let image = put(chosen, tags)?;
    for tag in tags {
        store.set_tag_document(
            tag,
            &TagDocument {
                document: index.digest,
                parts: &parts,
                image: Some(image),
            },
        )?;
    }
    // Without a tag nothing but the images keeps what they are made of.
    let is_kept = |id: &ImageId| *id == image || tags.is_empty();
    for (assembled, was_there) in images.iter().zip(were_there) {
        let id = &assembled.image.id;
        if !was_there && !is_kept(id) {
            // One that got a name or a container meanwhile stays.
            drop(store.remove_image(&id.to_string(), Force::No));
        }
    }
    Ok(index)
}

/// Makes the manifests and the index, and returns what they lead to.
fn pack(
    store: &Store,
    (images, put): (&[Assembled<'_>], &Put<'_>),
    status: &dyn Fn(String),
) -> Result<(Descriptor, Vec<Digest>), SolveError> {
    let target = BlobTarget::new(store);
    let mut manifests: Vec<Descriptor> = Vec::with_capacity(images.len());
    for assembled in images {
        let mut attempts = 1;
        let manifest = loop {
            let id = put(assembled, &[])?;
            match manifest(store, &id, &target) {
                Ok(manifest) => break manifest,
                Err(_) if attempts < ATTEMPTS && store.image(&id)?.is_none() => attempts += 1,
                Err(error) => return Err(SolveError::Index(Box::new(error))),
            }
        };
        status(format!("exporting manifest {}", manifest.digest));
        status(format!("exporting config {}", assembled.image.id));
        manifests.push(Descriptor {
            platform: Some(assembled.image.platform.clone()),
            ..manifest
        });
    }
    let media_type = MediaType::from(MediaType::OCI_INDEX);
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type.clone()),
        manifests,
        annotations: None,
    };
    let bytes = serde_json::to_vec(&index).expect("invariant: an index has string keys");
    let put = target.put_manifest(&media_type, &bytes);
    put.map_err(|error| SolveError::Index(Box::new(CopyError::Target(error))))?;
    Ok((Descriptor::of(&media_type.0, &bytes), target.parts()))
}

/// Makes a manifest of compressed layers, with all that it names in the store.
fn manifest(
    store: &Store,
    image: &ImageId,
    target: &BlobTarget<'_>,
) -> Result<Descriptor, CopyError> {
    let packing = Packing {
        compress: &compress,
        reuse: Reuse::All,
        manifest: None,
        fetch: None,
    };
    let options = CopyOptions {
        platform: Platform::host(),
        parallel: std::thread::available_parallelism().map_or(1, usize::from),
        events: &|_| {},
    };
    Ok(store::push(store, image, &packing, target, &options)?.manifest)
}

fn compress(
    tar: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<MediaType, Box<dyn Error + Send + Sync>> {
    layer::compress(tar, out, Compression::DEFAULT)?;
    Ok(MediaType::OCI_LAYER_GZIP.into())
}
