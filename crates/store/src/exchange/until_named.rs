//! Copies whose images get names, while other commands remove images.

use super::{Copied, CopyError};
use crate::StoreError;

/// How often an image may be removed between its record and its name.
const TRIES: usize = 10;

/// Copies an image into the store and names it. Another command may remove the image in between: a
/// prune of images without a name, or `rmi`. Its layers are here as long as the root's lock is held,
/// so that the copy is soon made again.
pub fn until_named<E: From<CopyError> + From<StoreError>>(
    copy: impl Fn() -> Result<Copied, CopyError>,
    name: impl Fn(&Copied) -> Result<(), StoreError>,
) -> Result<Copied, E> {
    for _ in 1..TRIES {
        let copied = copy()?;
        match name(&copied) {
            Err(StoreError::ImageNotFound(_)) => {}
            named => return Ok(named.map(|()| copied)?),
        }
    }
    let copied = copy()?;
    name(&copied)?;
    Ok(copied)
}
