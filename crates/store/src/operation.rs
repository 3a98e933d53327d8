//! Operations: what each command did to names and images. What they changed is kept beside them,
//! so that the last ones can be undone.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{Store, StoreError, Timestamp, db};

/// How many operations are remembered.
const OPERATIONS_KEPT: i64 = 10_000;

/// Of how many operations what they changed is remembered.
const UNDO_KEPT: i64 = 1_000;

/// How many bytes of removed images' records are remembered, the last operation's apart: some
/// 30,000 images.
const UNDO_BYTES: u64 = 64 << 20;

/// What a record of an image takes beside its labels and layers.
const RECORD_BYTES: i64 = 512;

/// What a handle of the store is used for. All that it changes is one operation.
#[derive(Debug, Clone, Default)]
pub struct Purpose {
    /// The kind of command: `rmi`, `image prune`.
    pub kind: String,
    /// The command as people know it again: `rmi demo:1`.
    pub command: String,
    /// How long what it removes stays on disk, so that it can be undone.
    pub window: UndoWindow,
}

/// How long the layers of removed images are kept from being swept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UndoWindow {
    /// Not at all.
    #[default]
    None,
    /// So long where the file system has room: a tenth of it, and 2 GiB.
    WhereRoom(Duration),
    /// So long.
    Always(Duration),
}

/// What one command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its number; later ones have higher numbers.
    pub seq: i64,
    /// When it began to change something.
    pub at: Timestamp,
    /// The kind of command; empty when it is not known.
    pub kind: String,
    /// The command as people know it again; empty when it is not known.
    pub command: String,
    /// Until when the layers that it let go are kept for an undo; `None` when they are not.
    pub held_until: Option<Timestamp>,
    /// The operation that it undid.
    pub undoes: Option<i64>,
    /// The operation that undid it.
    pub undone_by: Option<i64>,
}

impl Operation {
    /// Returns the command, or its number when the command is not known.
    pub fn title(&self) -> String {
        match self.command.is_empty() {
            true => format!("operation {}", self.seq),
            false => self.command.clone(),
        }
    }
}

/// Which operation the changes of a handle belong to.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    recording: Recording,
    /// The operation that has begun.
    begun: Mutex<Option<i64>>,
}

#[derive(Debug, Default)]
enum Recording {
    /// Each transaction is an operation, of which nothing is held.
    #[default]
    Apart,
    Together(Purpose),
    Nothing,
}

impl Scope {
    pub(crate) fn together(purpose: Purpose) -> Self {
        Self {
            recording: Recording::Together(purpose),
            begun: Mutex::default(),
        }
    }

    pub(crate) fn nothing() -> Self {
        Self {
            recording: Recording::Nothing,
            begun: Mutex::default(),
        }
    }

    pub(crate) fn begun(&self) -> Option<i64> {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_begun(&self, seq: Option<i64>) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = seq;
    }

    /// Runs a transaction; what it began has not begun when it fails.
    pub(crate) fn transaction<T, E>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        if matches!(self.recording, Recording::Apart) {
            self.set_begun(None);
        }
        let before = self.begun();
        work().inspect_err(|_| self.set_begun(before))
    }

    /// Runs a transaction that is taken back; what it began has not begun.
    pub(crate) fn rehearsal<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = self.begun();
        let value = work();
        self.set_begun(before);
        value
    }
}

impl Store {
    /// Returns a handle for one command: all that is changed through it, and its clones, is one
    /// operation.
    #[must_use]
    pub fn operation(&self, purpose: Purpose) -> Self {
        self.with_scope(Scope::together(purpose))
    }

    /// Returns a handle whose changes belong to no operation: they cannot be undone.
    #[must_use]
    pub fn unrecorded(&self) -> Self {
        self.with_scope(Scope::nothing())
    }

    /// Returns how long what this handle removes stays on disk.
    pub fn undo_window(&self) -> UndoWindow {
        match &self.scope().recording {
            Recording::Together(purpose) => purpose.window,
            Recording::Apart | Recording::Nothing => UndoWindow::None,
        }
    }

    /// Returns the operations that are remembered, last first.
    pub fn operations(&self) -> Result<Vec<Operation>, StoreError> {
        self.read(|connection| {
            let query = format!("SELECT {COLUMNS} FROM operations ORDER BY seq DESC");
            let mut query = connection.prepare_cached(&query)?;
            let rows = query.query_map([], record)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Returns the number of the operation that a change belongs to; the first change begins it.
    /// `None` when it is not recorded.
    pub(crate) fn begin(&self, tx: &Connection) -> Result<Option<i64>, StoreError> {
        let scope = self.scope();
        let (kind, command) = match &scope.recording {
            Recording::Nothing => return Ok(None),
            Recording::Apart => ("", ""),
            Recording::Together(purpose) => (purpose.kind.as_str(), purpose.command.as_str()),
        };
        if let Some(seq) = scope.begun() {
            return Ok(Some(seq));
        }
        tx.execute(
            "INSERT INTO operations (at, kind, command) VALUES (?1, ?2, ?3)",
            params![Timestamp::now().0, kind, command],
        )?;
        let seq = tx.last_insert_rowid();
        scope.set_begun(Some(seq));
        Ok(Some(seq))
    }

    /// Keeps what an operation has just let go from being swept, as long as its window says.
    pub(crate) fn hold(&self, tx: &Connection, seq: i64) -> Result<(), StoreError> {
        let window = match self.undo_window() {
            UndoWindow::None => return Ok(()),
            UndoWindow::WhereRoom(_) if !self.has_room()? => return Ok(()),
            UndoWindow::WhereRoom(window) | UndoWindow::Always(window) => window,
        };
        let window = i64::try_from(window.as_nanos()).unwrap_or(i64::MAX);
        if window > 0 {
            let until = Timestamp::now().0.saturating_add(window);
            tx.prepare_cached("UPDATE operations SET held_until = ?2 WHERE seq = ?1")?
                .execute([seq, until])?;
        }
        Ok(())
    }

    /// Keeps the record of an image that is about to be removed.
    pub(crate) fn remember_image(&self, tx: &Connection, id: &[u8; 32]) -> Result<(), StoreError> {
        let Some(seq) = self.begin(tx)? else {
            return Ok(());
        };
        let insert = format!(
            "INSERT OR IGNORE INTO undo_images (operation, {IMAGE_COLUMNS})
                SELECT ?1, {IMAGE_COLUMNS} FROM images WHERE id = ?2"
        );
        tx.prepare_cached(&insert)?.execute(params![seq, id])?;
        tx.prepare_cached(
            "UPDATE operations SET size = size + ?3 + (SELECT length(CAST(labels AS BLOB))
                + length(layers) + coalesce(length(times), 0) FROM images WHERE id = ?2)
                WHERE seq = ?1",
        )?
        .execute(params![seq, id, RECORD_BYTES])?;
        self.hold(tx, seq)
    }
}

/// All columns of `images`.
pub(crate) const IMAGE_COLUMNS: &str = "id, manifest, manifest_type, manifest_size,
    manifest_received, created, created_ns, added, last_tagged, size, labels, platform, layers,
    parent, made, times, last_used";

const COLUMNS: &str = "seq, at, kind, command, held_until, undoes, undone_by";

fn record(row: &Row<'_>) -> rusqlite::Result<Operation> {
    let held_until: i64 = row.get(4)?;
    Ok(Operation {
        seq: row.get(0)?,
        at: Timestamp(row.get(1)?),
        kind: row.get(2)?,
        command: row.get(3)?,
        held_until: (held_until > 0).then_some(Timestamp(held_until)),
        undoes: row.get(5)?,
        undone_by: row.get(6)?,
    })
}

/// Finds an operation by its number.
pub(crate) fn find(connection: &Connection, seq: i64) -> Result<Option<Operation>, StoreError> {
    let query = format!("SELECT {COLUMNS} FROM operations WHERE seq = ?1");
    let mut query = connection.prepare_cached(&query)?;
    Ok(query.query_row([seq], record).optional()?)
}

/// The kind of the operation that discards what a power cut left; it cannot be undone.
pub(crate) const RECOVERY: &str = "recovery";

/// Finds the last operation that was not undone and did not undo.
pub(crate) fn last(connection: &Connection) -> Result<Option<Operation>, StoreError> {
    let query = format!(
        "SELECT {COLUMNS} FROM operations WHERE undoes IS NULL AND undone_by IS NULL
            AND kind <> ?1 ORDER BY seq DESC LIMIT 1"
    );
    let mut query = connection.prepare_cached(&query)?;
    Ok(query.query_row([RECOVERY], record).optional()?)
}

/// Forgets operations, and what they changed, beyond what is remembered.
pub(crate) fn trim(tx: &Connection) -> Result<(), StoreError> {
    let last: Option<i64> =
        tx.query_row("SELECT max(seq) FROM operations", [], |row| row.get(0))?;
    let Some(last) = last else {
        return Ok(());
    };
    tx.execute(
        "DELETE FROM operations WHERE seq <= ?1",
        [last - OPERATIONS_KEPT],
    )?;
    let mut first = last - UNDO_KEPT;
    let mut query = tx.prepare_cached(
        "SELECT seq, size FROM operations WHERE seq > ?1 AND size > 0 ORDER BY seq DESC",
    )?;
    let mut rows = query.query([first])?;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        bytes += db::to_u64(row, 1)?;
        if bytes > UNDO_BYTES && seq < last {
            first = seq;
            break;
        }
    }
    for table in ["undo_tags", "undo_parts", "undo_digests", "undo_images"] {
        tx.execute(
            &format!("DELETE FROM {table} WHERE operation <= ?1"),
            [first],
        )?;
    }
    tx.execute(
        "UPDATE operations SET size = 0, held_until = 0 WHERE seq <= ?1 AND (size > 0 OR held_until > 0)",
        [first],
    )?;
    Ok(())
}
