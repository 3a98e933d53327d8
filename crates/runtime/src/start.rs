//! Starting a container.

use crate::{Running, Spec, StartError};

/// Starts a container and returns once its program has been executed.
///
/// Nothing is left behind on an error. The container dies with the thread that called `start`:
/// call it from a thread that lives as long as the container should.
pub fn start(_spec: Spec) -> Result<Running, StartError> {
    unimplemented!()
}
