//! What is left to do after commands: syncing, sweeping, deleting.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use layer::rootfs::unmount_layer;
use oci::DiffId;
use store::{ContainerError, ContainerState, Remains, Store, StoreError, Timestamp};

use crate::container::status::Status;

/// Tells whether there is anything to tidy up, now or when what is held for an undo may go.
pub fn is_needed(store: &Store) -> bool {
    matches!(store.has_trash(), Ok(true))
        || matches!(store.needs_sync(), Ok(true))
        || matches!(is_hold_forgotten(store), Ok(true))
        || store.lacks_reserve()
}

/// Tells whether something is held for an undo and no process waits for the end of that: the one
/// that did may have been killed.
fn is_hold_forgotten(store: &Store) -> Result<bool, StoreError> {
    Ok(store.undo_hold_ends()?.is_some() && try_lock(store, "undo.lock")?.is_some())
}

/// Deletes what is in the trash, syncs what was written, and sweeps if nobody works. While another
/// process tidies up it waits, unless a third one waits already: that one has yet to look.
pub fn run(store: &Store) -> Result<(), StoreError> {
    let lock = match turn(store) {
        Ok(Some(lock)) => lock,
        Ok(None) => return Ok(()),
        // Deleting is what helps then, and two may do it at once.
        Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::StorageFull => {
            return store.empty_trash();
        }
        Err(error) => return Err(error),
    };
    // First: on a full disk nothing of what follows can be written.
    store.empty_trash()?;
    store.make_room()?;
    if store.needs_sync()? {
        store.mark_synced()?;
    }
    remove_lost(store)?;
    runtime::remove_abandoned_groups();
    store.try_sweep()?;
    store.empty_trash()?;
    store.restore_reserve()?;
    drop(lock);
    Ok(())
}

/// How long at most a process waits before it looks again whether anything is still held.
const LOOK: Duration = Duration::from_secs(1);

/// Waits until nothing is held for an undo any more, and frees what was. Does nothing while another
/// process waits. Others can tidy up meanwhile.
pub fn wait_for_holds(store: &Store) -> Result<(), StoreError> {
    while store.undo_hold_ends()?.is_some() {
        let Some(lock) = try_lock(store, "undo.lock")? else {
            return Ok(());
        };
        while let Some(end) = store.undo_hold_ends()? {
            let left = end.0.saturating_sub(Timestamp::now().0);
            match u64::try_from(left) {
                Ok(left) if left > 0 => wait(LOOK.min(Duration::from_nanos(left))),
                Ok(_) | Err(_) => {
                    store.sweep()?;
                    store.empty_trash()?;
                }
            }
            if !store.root().exists() {
                return Ok(());
            }
        }
        // Who came between the last look and now has found the lock held, and has left what it
        // holds to this process: so it looks once more.
        drop(lock);
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "that a time is over is the event, and nobody waits for this process"
)]
fn wait(time: Duration) {
    std::thread::sleep(time);
}

/// Waits for the turn to tidy up; `None` when another process waits for it.
fn turn(store: &Store) -> Result<Option<File>, StoreError> {
    if let Some(lock) = try_lock(store, "tidy.lock")? {
        return Ok(Some(lock));
    }
    // What the one at work has looked at already, it does not look at again.
    let Some(_next) = try_lock(store, "next.lock")? else {
        return Ok(None);
    };
    let (file, path) = lock_file(store, "tidy.lock")?;
    file.lock().map_err(failed_to_lock(&path))?;
    Ok(Some(file))
}

/// Takes a lock in the run directory without waiting; `None` when another process has it. It is
/// released when the file is closed.
fn try_lock(store: &Store, name: &str) -> Result<Option<File>, StoreError> {
    let (file, path) = lock_file(store, name)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed_to_lock(&path)(error)),
    }
}

fn lock_file(store: &Store, name: &str) -> Result<(File, PathBuf), StoreError> {
    let path = store.run_dir().join(name);
    let file = File::create(&path).map_err(failed_to_lock(&path))?;
    Ok((file, path))
}

fn failed_to_lock(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    |source| StoreError::Io {
        action: "lock",
        path,
        source,
    }
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

/// Removes the shared mounts of layers that are about to go. One that a process is in stays until
/// the next boot: it shows what the layer has, should that come again.
pub fn unmount(mounts: &Path, layers: &[DiffId]) {
    for layer in layers {
        drop(unmount_layer(mounts, layer));
    }
}
