//! An image from a container's changes.

use std::path::PathBuf;

use layer::{
    CaptureOptions, DiffError, LayerDir, LayerWriter, View, ViewError, WriteError, capture,
};
use oci::{History, ImageId, Reference};
use store::{NewImage, StoreError};

use super::changes::{self, ChangeError};
use super::layers::new_layer;
use crate::container::Container;
use crate::{Engine, time};

/// How a container becomes an image.
#[derive(Debug, Clone)]
pub struct CommitOptions<'a> {
    /// The name of the image.
    pub name: Option<&'a Reference>,
    /// Dockerfile instructions for the configuration.
    pub changes: &'a [String],
    /// The comment of the history.
    pub message: &'a str,
    /// Who made it.
    pub author: &'a str,
}

/// Why a container did not become an image.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A change cannot be applied.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The image's layers cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The container's changes cannot be read.
    #[error(transparent)]
    Diff(#[from] DiffError),
    /// The layer was not written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the engine puts into every container; it is not the container's work.
const ENGINE_PATHS: &[&str] = &[
    ".dockerenv",
    "dev",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/resolv.conf",
    "proc",
    "sys",
];

/// Makes an image of the container's layers and one more with its changes. The container may
/// run.
pub fn commit(
    engine: &Engine,
    container: &Container,
    options: &CommitOptions<'_>,
) -> Result<ImageId, CommitError> {
    let store = engine.store();
    let record = &container.record;
    let run_config = changes::apply(&container.options.config, options.changes)?;
    store.make_room()?;
    let lock = store.lock_shared()?;
    let layers: Vec<LayerDir> = record
        .layers
        .iter()
        .map(|layer| LayerDir::new(store.layer_dir(layer)))
        .collect();
    let scratch = store.scratch()?;
    let mut writer = LayerWriter::create(scratch.path())?;
    let upper: PathBuf = store.container_dir(&record.id).join("rw").join("upper");
    if upper.exists() {
        let exclude = excluded(container);
        let capture_options = CaptureOptions {
            exclude: &exclude,
            ..CaptureOptions::default()
        };
        capture(&upper, &View::open(&layers)?, &mut writer, &capture_options)?;
    }
    let layer = new_layer(&writer.finish()?);
    store.commit_layer(scratch, &layer)?;
    let mut config = store.image_config(&record.image)?;
    let created = time::now().to_string();
    config.created = Some(created.clone());
    options.author.clone_into(&mut config.author);
    options.message.clone_into(&mut config.comment);
    config.config = run_config;
    config.rootfs.diff_ids.push(layer.diff_id);
    config.history.push(History {
        created: Some(created),
        created_by: record.command.join(" "),
        author: options.author.to_owned(),
        comment: options.message.to_owned(),
        empty_layer: false,
    });
    let image = NewImage {
        config: &config.to_bytes(),
        manifest: None,
        parent: Some(record.image),
        times: &[],
    };
    let id = store.put_named_image(&image, options.name.map_or(&[], std::slice::from_ref))?;
    drop(lock);
    Ok(id)
}

fn excluded(container: &Container) -> Vec<Vec<u8>> {
    let engine = ENGINE_PATHS.iter().map(|path| path.as_bytes().to_vec());
    let binds = container.options.binds.iter();
    let binds = binds.map(|bind| bind.target.trim_matches('/').as_bytes().to_vec());
    engine.chain(binds).collect()
}
