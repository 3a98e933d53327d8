//! What the store is handed for a check: how a layer is read.

use std::error::Error;
use std::io;
use std::path::Path;

use layer::{IngestError, LayerDir, VerifyError, check_tree, verify};
use store::{CheckedLayer, Depth, Hashed, Probes, Report, Store, StoreError};

use crate::describe;

/// Checks a store. The caller holds its lock shared.
pub(super) fn examine(
    store: &Store,
    depth: Depth,
    progress: &(dyn Fn(Hashed) + Sync),
) -> Result<Report, StoreError> {
    let probes = Probes {
        index: &index,
        layer: &layer,
        progress,
    };
    store.examine(depth, &probes)
}

fn index(directory: &Path) -> Result<(), String> {
    let opened = layer::Index::open(&LayerDir::new(directory));
    let checked = opened.and_then(|index| index.check_length());
    checked.map_err(|error| describe(&error))
}

/// Reads a layer whole. Its index, written again, is in `scratch` afterwards.
pub(super) fn layer(
    directory: &Path,
    scratch: &Path,
    progress: &dyn Fn(u64),
) -> Result<CheckedLayer, Box<dyn Error + Send + Sync>> {
    let layer = LayerDir::new(directory);
    let verified = match verify(&layer, scratch, progress) {
        Ok(verified) => verified,
        Err(VerifyError::Ingest(error)) if is_of_content(&error) => {
            return Ok(CheckedLayer {
                diff_id: None,
                content_size: 0,
                entries: 0,
                index_is_right: false,
                tree: None,
            });
        }
        Err(error) => return Err(error.into()),
    };
    let tree = match verified.index_is_right && layer.tree().try_exists()? {
        true => tree(&layer),
        false => None,
    };
    Ok(CheckedLayer {
        diff_id: Some(verified.tar.diff_id),
        content_size: verified.tar.content_size,
        entries: verified.tar.entries,
        index_is_right: verified.index_is_right,
        tree,
    })
}

/// Says what is wrong with the unpacked form of a layer whose index and tar are right.
pub(super) fn tree(layer: &LayerDir) -> Option<String> {
    match check_tree(layer) {
        Ok(None) => None,
        Ok(Some(fault)) => Some(format!("`{}` {}", fault.path.display(), fault.what)),
        Err(error) => Some(describe(&error)),
    }
}

/// What was once taken in as a layer does not break its rules unless it changed.
fn is_of_content(error: &IngestError) -> bool {
    match error {
        IngestError::Read(_) | IngestError::Write { .. } => false,
        IngestError::Tar { .. }
        | IngestError::Entry { .. }
        | IngestError::TooLarge(_)
        | IngestError::TooManyEntries(_)
        | IngestError::IndexTooLarge => true,
    }
}

/// Fails with the error that says why a directory is no sound layer.
pub(super) fn changed() -> io::Error {
    io::Error::other("the content is not what its name promises")
}
