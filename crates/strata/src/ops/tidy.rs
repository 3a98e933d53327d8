//! What is left to do after commands: syncing, sweeping, deleting.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;

use layer::rootfs::unmount_layer;
use oci::DiffId;
use store::{ContainerError, ContainerState, Remains, Store, StoreError};

use crate::container::status::Status;

/// Tells whether there is anything to tidy up.
pub fn is_needed(store: &Store) -> bool {
    matches!(store.has_trash(), Ok(true)) || matches!(store.needs_sync(), Ok(true))
}

/// Deletes what is in the trash, syncs what was written, and sweeps if nobody works. Does
/// nothing while another process tidies up.
pub fn run(store: &Store) -> Result<(), StoreError> {
    let path = store.run_dir().join("tidy.lock");
    let failed = |source| StoreError::Io {
        action: "lock",
        path: path.clone(),
        source,
    };
    let file = match File::create(&path) {
        Ok(file) => file,
        // Deleting is what helps then, and two may do it at once.
        Err(error) if error.kind() == ErrorKind::StorageFull => return store.empty_trash(),
        Err(error) => return Err(failed(error)),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    // First: on a full disk nothing of what follows can be written.
    store.empty_trash()?;
    if store.needs_sync()? {
        store.mark_synced()?;
    }
    remove_lost(store)?;
    if let Some(swept) = store.try_sweep()? {
        unmount(store, &swept.layers);
    }
    store.empty_trash()
}

/// Removes containers that were to remove themselves, and whose supervisor died before it did.
fn remove_lost(store: &Store) -> Result<(), StoreError> {
    for record in store.containers()? {
        let was_started = matches!(record.state, ContainerState::Running { .. });
        let has_ended = matches!(Status::of(store, &record), Status::Exited { .. });
        if record.auto_remove && was_started && has_ended {
            // Other errors say that someone was faster.
            if let Err(ContainerError::Store(error)) =
                store.remove_container(&record.id, Remains::Files)
            {
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Removes the shared mounts of layers. One that a container uses stays until the next boot:
/// it holds no name that anyone would use again.
pub fn unmount(store: &Store, layers: &[DiffId]) {
    for layer in layers {
        drop(unmount_layer(&store.layer_mounts_dir(), layer));
    }
}
