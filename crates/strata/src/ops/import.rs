//! An image from a tar of a root file system.

use std::io::{self, Read};

use layer::{IngestError, Limits};
use oci::{History, ImageConfig, ImageId, Platform, Reference, RunConfig};
use store::{NewImage, Store, StoreError};

use super::changes::{self, ChangeError};
use super::layers::new_layer;
use crate::time;

/// How a tar becomes an image.
#[derive(Debug, Clone)]
pub struct ImportOptions<'a> {
    /// The name of the image.
    pub name: Option<&'a Reference>,
    /// Dockerfile instructions for the configuration.
    pub changes: &'a [String],
    /// The comment of the history.
    pub message: &'a str,
    /// What the tar is for.
    pub platform: &'a Platform,
}

/// Why a tar did not become an image.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A change cannot be applied.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The tar cannot be read.
    #[error("failed to read the archive")]
    Read(#[source] io::Error),
    /// The tar is no root file system.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes an image of one layer from `tar`, which may be compressed. Nothing is left behind on an
/// error.
pub fn import(
    store: &Store,
    tar: Box<dyn Read + Send + '_>,
    options: &ImportOptions<'_>,
) -> Result<ImageId, ImportError> {
    let run_config = changes::apply(&RunConfig::default(), options.changes)?;
    store.make_room()?;
    let lock = store.lock_shared()?;
    let scratch = store.scratch()?;
    let (_, mut tar) = layer::decompress(tar).map_err(ImportError::Read)?;
    let ingested = layer::ingest(&mut tar, scratch.path(), &Limits::default())?;
    let layer = new_layer(&ingested);
    store.commit_layer(scratch, &layer)?;
    let created = time::now().to_string();
    let mut config = ImageConfig {
        created: Some(created.clone()),
        comment: options.message.to_owned(),
        config: run_config,
        history: vec![History {
            created: Some(created),
            comment: options.message.to_owned(),
            ..History::default()
        }],
        ..ImageConfig::scratch(options.platform)
    };
    config.rootfs.diff_ids.push(layer.diff_id);
    let image = NewImage {
        config: &config.to_bytes(),
        manifest: None,
        parent: None,
        times: &[],
    };
    let id = store.put_named_image(&image, options.name.map_or(&[], std::slice::from_ref))?;
    drop(lock);
    Ok(id)
}
