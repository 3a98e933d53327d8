//! Kernel interfaces: the only crate with unsafe code.

mod capability;
mod mount;

pub use capability::Capability;
pub use mount::Mount;
