//! Kernel interfaces: the only crate with unsafe code.

pub mod boot;
mod bpf;
mod capability;
mod clone3;
mod confined;
mod file_system;
mod mount;
mod mount_error;
mod namespace;
mod overlay;
mod process;
mod seccomp;
mod signal;
mod signal_queue;
mod stub;
pub mod xattr;

pub use bpf::attach_device_filter;
pub use capability::{Capability, drop_capabilities, drop_from_bounding_set, holds};
pub use confined::{ConfinedError, Root};
pub use file_system::FileSystem;
pub use mount::{Mount, MountAttributes, Propagation, Recursion, Unmount, is_mount_point, unmount};
pub use mount_error::MountError;
pub use namespace::{
    bring_up_loopback, enter_network, join_new_session_keyring, unshare_cgroup, unshare_network,
};
pub use overlay::{Lower, OverlayOptions, Upper};
pub use process::{
    Child, CloneOptions, Cloned, Ended, Launcher, Namespaces, clone_into, read_report, send_signal,
    wait,
};
pub use seccomp::{FilterInstruction, load_seccomp};
pub use signal_queue::SignalQueue;
pub use stub::Stub;
