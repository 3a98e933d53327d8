//! The root file system of a container.

use std::path::Path;

use oci::DiffId;
use sys::Mount;

use crate::{Form, LayerDir};

/// What a root file system is made of.
#[derive(Debug, Clone, Copy)]
pub struct RootfsOptions<'a> {
    /// The image's layers, bottom first; perhaps none.
    pub layers: &'a [LayerDir],
    /// The directory, which exists, that gets `upper/` and `work/`; without it the file system
    /// is read-only.
    pub upper: Option<&'a Path>,
    /// Never waits for the disk; `upper` must not be mounted again.
    pub volatile: bool,
    /// Where shared layer mounts live: `$STRATA_RUN/layers`. It is made when it lacks.
    pub mounts: &'a Path,
    /// The form of layers that are not mounted or unpacked yet.
    pub form: Form,
}

/// Why a root file system was not mounted.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {}

/// What became of a layer's shared mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmounted {
    /// It was there and is gone.
    Done,
    /// There was none.
    Absent,
    /// A container uses it; it stays.
    Busy,
}

/// Mounts the root file system, attached nowhere.
pub fn mount(options: &RootfsOptions<'_>) -> Result<Mount, RootfsError> {
    unimplemented!("{options:?}")
}

/// Removes the shared mount of a layer that nothing uses.
pub fn unmount_layer(mounts: &Path, diff_id: &DiffId) -> Result<Unmounted, RootfsError> {
    unimplemented!("{mounts:?} {diff_id}")
}
