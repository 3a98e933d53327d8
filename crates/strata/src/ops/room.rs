//! Room on the disk for what comes.

use store::{Store, StoreError};

/// Frees what killed commands left and, when the disk is nearly full, what is held for an undo. The
/// caller must not hold the root's lock.
pub(super) fn make_room(store: &Store) -> Result<(), StoreError> {
    store.sweep_remains()?;
    store.make_room()
}

/// Does `work`, which brings images into the store. When the disk was full and something was held
/// for an undo, that is let go and the work is done once more. The caller must not hold the root's
/// lock, and `work` must release it.
pub(super) fn with_room<T, E: From<StoreError>>(
    store: &Store,
    is_lack_of_room: impl Fn(&E) -> bool,
    work: impl Fn() -> Result<T, E>,
) -> Result<T, E> {
    match work() {
        Err(error) if is_lack_of_room(&error) && store.give_up_undo()? => work(),
        result => result,
    }
}
