//! The file system of a container as a tar.

use std::io::Write;

use layer::{
    CaptureOptions, DiffError, FlattenError, LayerDir, LayerWriter, View, ViewError, WriteError,
    capture, flatten,
};
use store::{Store, StoreError};

use crate::container::Container;

/// Why a container was not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The image's layers cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The container's changes cannot be read.
    #[error(transparent)]
    Diff(#[from] DiffError),
    /// The changes cannot be kept for a moment.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The tar was not written.
    #[error(transparent)]
    Flatten(#[from] FlattenError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes what the container sees, without mounts, as one tar. The container may run: what
/// changes meanwhile is in the tar or not.
pub fn export(
    store: &Store,
    container: &Container,
    output: &mut dyn Write,
) -> Result<(), ExportError> {
    let record = &container.record;
    let _lock = store.lock_shared()?;
    let dir = |layer| LayerDir::new(store.layer_dir(layer));
    let mut layers: Vec<LayerDir> = record.layers.iter().map(dir).collect();
    let upper = store.container_dir(&record.id).join("rw").join("upper");
    let scratch = store.scratch()?;
    if upper.exists() {
        let mut writer = LayerWriter::create(scratch.path())?;
        let below = View::open(&layers)?;
        capture(&upper, &below, &mut writer, &CaptureOptions::default())?;
        writer.finish()?;
        layers.push(LayerDir::new(scratch.path()));
    }
    Ok(flatten(&View::open(&layers)?, output)?)
}
