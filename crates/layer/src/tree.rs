//! The unpacked form of a layer.

use crate::LayerDir;

/// Why a layer was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {}

/// Makes the layer's `tree/`; when it is there already, nothing happens.
pub fn unpack(layer: &LayerDir) -> Result<(), TreeError> {
    unimplemented!("{layer:?}")
}
