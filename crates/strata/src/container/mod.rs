//! What a container is made of beside its image: names, variables, directories of the host,
//! its log.

pub mod log;
pub mod name;
pub mod options;
pub mod status;
pub mod supervise;
pub mod variables;
mod volume;
mod word;

pub use options::{Container, ContainerOptions, FindError, NetworkMode};
pub use volume::{Bind, VolumeError, check_distinct};
