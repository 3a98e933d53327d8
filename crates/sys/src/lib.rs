//! Kernel interfaces: the only crate with unsafe code.

pub mod boot;
mod capability;
mod confined;
mod mount;
pub mod xattr;

pub use capability::Capability;
pub use confined::{ConfinedError, Root};
pub use mount::{
    Lower, Mount, MountAttributes, MountError, OverlayOptions, Propagation, Recursion, Unmount,
    Upper, is_mount_point, unmount,
};
