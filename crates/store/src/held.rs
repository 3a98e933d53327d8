//! What is kept on disk for a while after its records went, so that an undo finds it.

use std::collections::HashSet;
use std::time::Duration;

use oci::Digest;
use rusqlite::{Connection, params};

use crate::census::needed;
use crate::sweep::Needed;
use crate::{Store, StoreError, Timestamp, db};

/// How much of its file system must be free for removed images to stay for a while.
const ROOM: u64 = 2 << 30;

/// How often, and how far apart, the lock is tried: a sweep of others takes less.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

impl Store {
    /// Returns the bytes of disk that only an undo needs.
    pub fn held_for_undo(&self) -> Result<u64, StoreError> {
        let only_held = self.read(|connection| {
            let mut held = held(connection, Whose::All, Timestamp::now())?;
            if !held.is_empty() {
                held.remove_all(&needed(connection)?);
            }
            Ok(held)
        })?;
        Ok(self.disk_usage_of(&only_held))
    }

    /// Returns when the first of what is held for an undo is to be let go; `None` when nothing
    /// is held.
    pub fn undo_hold_ends(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|connection| {
            let query = "SELECT min(held_until) FROM operations WHERE held_until > 0";
            let end: Option<i64> = connection.query_row(query, [], |row| row.get(0))?;
            Ok(end.map(Timestamp))
        })
    }

    /// Lets go of what is held for an undo, and frees it unless other commands hold the root's lock
    /// for longer than a sweep takes. The caller must not hold it. Tells whether anything was held.
    pub fn give_up_undo(&self) -> Result<bool, StoreError> {
        if self.undo_hold_ends()?.is_none() {
            return Ok(false);
        }
        self.freeing(|| {
            self.write(|tx| {
                tx.execute(
                    "UPDATE operations SET held_until = 0 WHERE held_until > 0",
                    [],
                )?;
                Ok::<_, StoreError>(())
            })
        })?;
        for _ in 0..TRIES {
            if self.try_sweep()?.is_some() {
                break;
            }
            pause();
        }
        self.empty_trash()?;
        Ok(true)
    }

    /// Lets go of what is held for an undo when the file system is nearly full: for commands that
    /// are about to write. The caller must not hold the root's lock.
    pub fn make_room(&self) -> Result<(), StoreError> {
        if self.undo_hold_ends()?.is_some() && self.free_space()? < ROOM.min(self.capacity()? / 10)
        {
            self.give_up_undo()?;
        }
        Ok(())
    }

    /// Tells whether a tenth of the file system is free, and 2 GiB.
    pub(crate) fn has_room(&self) -> Result<bool, StoreError> {
        let (free, all) = (self.free_space()?, self.capacity()?);
        Ok(free >= ROOM && free >= all / 10)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a lock has no event that could be waited for until a time"
)]
pub(crate) fn pause() {
    std::thread::sleep(PAUSE);
}

/// Whose holds count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    All,
    Only(i64),
}

/// Collects what operations hold for an undo.
pub(crate) fn held(
    connection: &Connection,
    whose: Whose,
    now: Timestamp,
) -> Result<Needed, StoreError> {
    let mut held = held_apart(connection, whose, now)?;
    if !held.is_empty() {
        held.add_compressed(connection)?;
    }
    Ok(held)
}

/// Collects what operations hold, without the compressed forms of what they hold.
pub(crate) fn held_apart(
    connection: &Connection,
    whose: Whose,
    now: Timestamp,
) -> Result<Needed, StoreError> {
    let mut held = Needed::default();
    for operation in holders(connection, whose, now)? {
        collect(connection, operation, &mut held)?;
    }
    Ok(held)
}

/// Lists the operations that hold something. A hold that began in the future is none: the clock
/// was set back, and it might last for long.
fn holders(connection: &Connection, whose: Whose, now: Timestamp) -> Result<Vec<i64>, StoreError> {
    let mut query = connection
        .prepare_cached("SELECT seq FROM operations WHERE held_until > ?1 AND at <= ?1")?;
    let rows = query.query_map([now.0], |row| row.get(0))?;
    let mut holders = rows.collect::<Result<Vec<i64>, _>>()?;
    holders.retain(|seq| match whose {
        Whose::All => true,
        Whose::Only(wanted) => *seq == wanted,
    });
    Ok(holders)
}

fn collect(connection: &Connection, operation: i64, held: &mut Needed) -> Result<(), StoreError> {
    let mut query = connection
        .prepare_cached("SELECT id, manifest, layers FROM undo_images WHERE operation = ?1")?;
    let mut rows = query.query([operation])?;
    while let Some(row) = rows.next()? {
        held.add_image(row)?;
    }
    let mut collect = |query: &str, into: fn(&mut Needed) -> &mut HashSet<Digest>| {
        let mut query = connection.prepare_cached(query)?;
        let mut rows = query.query([operation])?;
        while let Some(row) = rows.next()? {
            into(held).extend(db::optional_digest(row, 0)?);
        }
        Ok::<_, StoreError>(())
    };
    collect(
        "SELECT manifest FROM undo_tags WHERE operation = ?1",
        |held| &mut held.blobs,
    )?;
    collect(
        "SELECT document FROM undo_tags WHERE operation = ?1",
        |held| &mut held.blobs,
    )?;
    let parts = "SELECT part FROM undo_parts WHERE operation = ?1";
    collect(parts, |held| &mut held.blobs)?;
    collect(parts, |held| &mut held.layers)
}

/// Ends the holds whose time is over; see [`holders`] for those that began in the future.
pub(crate) fn end(tx: &Connection, now: Timestamp) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE operations SET held_until = 0
            WHERE held_until > 0 AND (held_until <= ?1 OR at > ?1)",
        params![now.0],
    )?;
    Ok(())
}
