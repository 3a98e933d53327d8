//! The database `db.sqlite`: its tables, and how it is opened and written.

use std::path::Path;
use std::time::Duration;

use oci::{DiffId, Digest};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Row, Transaction, TransactionBehavior};

use crate::StoreError;

/// The version of the tables, kept in `user_version`.
pub(crate) const SCHEMA_VERSION: i32 = 5;

/// How long a process waits for another one's transaction. Transactions are short; only a
/// stopped process can make one last.
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);

/// docs/store-format.md explains every column.
const SCHEMA_1: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE blobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL UNIQUE,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    boot TEXT NOT NULL,
    synced INTEGER NOT NULL DEFAULT 0,
    leased_until INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL
);
CREATE INDEX blobs_unsynced ON blobs (seq) WHERE synced = 0;
CREATE TABLE layers (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    diff_id BLOB NOT NULL UNIQUE,
    tar_size INTEGER NOT NULL,
    content_size INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    boot TEXT NOT NULL,
    synced INTEGER NOT NULL DEFAULT 0,
    leased_until INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL
);
CREATE INDEX layers_unsynced ON layers (seq) WHERE synced = 0;
CREATE TABLE compressions (
    digest BLOB PRIMARY KEY,
    diff_id BLOB NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX compressions_of ON compressions (diff_id);
CREATE TABLE origins (
    digest BLOB NOT NULL,
    repository TEXT NOT NULL,
    seen INTEGER NOT NULL,
    PRIMARY KEY (digest, repository)
) WITHOUT ROWID;
CREATE TABLE images (
    id BLOB PRIMARY KEY,
    manifest BLOB,
    manifest_type TEXT,
    manifest_size INTEGER,
    manifest_received INTEGER NOT NULL DEFAULT 0,
    created TEXT,
    created_ns INTEGER NOT NULL,
    added INTEGER NOT NULL,
    last_tagged INTEGER,
    size INTEGER NOT NULL,
    labels TEXT NOT NULL,
    platform TEXT NOT NULL,
    layers BLOB NOT NULL,
    parent BLOB
) WITHOUT ROWID;
CREATE INDEX images_parent ON images (parent) WHERE parent IS NOT NULL;
CREATE TABLE tags (name TEXT PRIMARY KEY, image BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX tags_image ON tags (image);
CREATE TABLE repo_digests (
    repository TEXT NOT NULL,
    digest BLOB NOT NULL,
    image BLOB NOT NULL,
    PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX repo_digests_image ON repo_digests (image);
CREATE TABLE tag_journal (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    before BLOB,
    after BLOB,
    at INTEGER NOT NULL
);
CREATE TABLE served (
    name TEXT PRIMARY KEY,
    document BLOB NOT NULL,
    image BLOB
) WITHOUT ROWID;
CREATE TABLE served_parts (
    name TEXT NOT NULL,
    part BLOB NOT NULL,
    PRIMARY KEY (name, part)
) WITHOUT ROWID;
CREATE TABLE containers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    image BLOB NOT NULL,
    created INTEGER NOT NULL,
    record TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE steps (
    key BLOB PRIMARY KEY,
    instruction TEXT NOT NULL,
    layer BLOB,
    parent_chain BLOB,
    ingredients TEXT NOT NULL,
    seconds REAL NOT NULL,
    created INTEGER NOT NULL,
    last_used INTEGER NOT NULL,
    content_size INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE builds (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    dockerfile TEXT NOT NULL,
    started INTEGER NOT NULL,
    seconds REAL NOT NULL,
    steps TEXT NOT NULL
);
";

const SCHEMA_2: &str = "
ALTER TABLE images ADD COLUMN made INTEGER;
ALTER TABLE images ADD COLUMN times TEXT;
ALTER TABLE tags ADD COLUMN manifest BLOB;
";

const SCHEMA_3: &str = "
CREATE TABLE uploads (
    repository TEXT NOT NULL,
    digest BLOB NOT NULL,
    url TEXT NOT NULL,
    started INTEGER NOT NULL,
    PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE TABLE manifest_lists (
    list TEXT NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    descriptor TEXT NOT NULL,
    PRIMARY KEY (list, name)
) WITHOUT ROWID;
";

const SCHEMA_4: &str = "
ALTER TABLE images ADD COLUMN last_used INTEGER;
CREATE TABLE operations (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    command TEXT NOT NULL,
    size INTEGER NOT NULL DEFAULT 0,
    held_until INTEGER NOT NULL DEFAULT 0,
    undoes INTEGER,
    undone_by INTEGER
);
CREATE INDEX operations_held ON operations (held_until) WHERE held_until > 0;
CREATE TABLE undo_tags (
    operation INTEGER NOT NULL,
    name TEXT NOT NULL,
    image BLOB,
    manifest BLOB,
    document BLOB,
    after_image BLOB,
    after_document BLOB,
    PRIMARY KEY (operation, name)
) WITHOUT ROWID;
CREATE TABLE undo_parts (
    operation INTEGER NOT NULL,
    name TEXT NOT NULL,
    part BLOB NOT NULL,
    PRIMARY KEY (operation, name, part)
) WITHOUT ROWID;
CREATE TABLE undo_digests (
    operation INTEGER NOT NULL,
    repository TEXT NOT NULL,
    digest BLOB NOT NULL,
    image BLOB,
    after_image BLOB,
    PRIMARY KEY (operation, repository, digest)
) WITHOUT ROWID;
CREATE INDEX undo_digests_image ON undo_digests (image) WHERE image IS NOT NULL;
CREATE TABLE undo_images (
    operation INTEGER NOT NULL,
    id BLOB NOT NULL,
    manifest BLOB,
    manifest_type TEXT,
    manifest_size INTEGER,
    manifest_received INTEGER NOT NULL,
    created TEXT,
    created_ns INTEGER NOT NULL,
    added INTEGER NOT NULL,
    last_tagged INTEGER,
    size INTEGER NOT NULL,
    labels TEXT NOT NULL,
    platform TEXT NOT NULL,
    layers BLOB NOT NULL,
    parent BLOB,
    made INTEGER,
    times TEXT,
    last_used INTEGER,
    PRIMARY KEY (operation, id)
) WITHOUT ROWID;
CREATE INDEX undo_images_id ON undo_images (id);
ALTER TABLE tag_journal ADD COLUMN operation INTEGER;
CREATE INDEX tag_journal_name ON tag_journal (name, seq);
";

const SCHEMA_5: &str = "
ALTER TABLE builds ADD COLUMN reference TEXT;
ALTER TABLE builds ADD COLUMN status TEXT;
ALTER TABLE builds ADD COLUMN about TEXT;
ALTER TABLE builds ADD COLUMN log BLOB;
CREATE UNIQUE INDEX builds_reference ON builds (reference) WHERE reference IS NOT NULL;
";

/// What makes the tables of each version from those of the one before.
const MIGRATIONS: [(i32, &str); 5] = [
    (1, SCHEMA_1),
    (2, SCHEMA_2),
    (3, SCHEMA_3),
    (4, SCHEMA_4),
    (SCHEMA_VERSION, SCHEMA_5),
];

/// Whether a missing database is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Refuse,
}

/// What the version of the tables says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schema {
    /// There are no tables. A store that was made has some.
    Empty,
    Current,
    Older,
    Newer(i32),
}

/// Opens the database without looking at its tables.
pub(crate) fn open(path: &Path, missing: Missing) -> rusqlite::Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if missing == Missing::Create {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let connection = Connection::open_with_flags(path, flags)?;
    // Before anything that may meet a lock, or concurrent first openings fail.
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Only `Store::checkpoint` writes the log into the database, and its copy. The last process to
    // close would otherwise pay two fsyncs.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", 0)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(connection)
}

pub(crate) fn schema(connection: &Connection) -> rusqlite::Result<Schema> {
    let version = version(connection)?;
    if version == 0 {
        return Ok(Schema::Empty);
    }
    Ok(match version.cmp(&SCHEMA_VERSION) {
        std::cmp::Ordering::Less => Schema::Older,
        std::cmp::Ordering::Equal => Schema::Current,
        std::cmp::Ordering::Greater => Schema::Newer(version),
    })
}

fn version(connection: &Connection) -> rusqlite::Result<i32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Returns the error that a database has no tables.
pub(crate) fn no_tables() -> rusqlite::Error {
    let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB);
    rusqlite::Error::SqliteFailure(error, Some("it has no tables".to_owned()))
}

/// Brings the tables up to date, in one transaction. The caller holds the store's opening lock.
pub(crate) fn migrate(connection: &mut Connection, journal: &str) -> rusqlite::Result<()> {
    connection.query_row(&format!("PRAGMA journal_mode = {journal}"), [], |_| Ok(()))?;
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = version(&tx)?;
    for (version, script) in MIGRATIONS {
        if version > found {
            tx.execute_batch(script)?;
            tx.pragma_update(None, "user_version", version)?;
        }
    }
    tx.commit()
}

/// Runs `work` in one write transaction. Deferred transactions would fail at once when another
/// process has written since their first read, so it is immediate.
pub(crate) fn write<T, E: From<StoreError>>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let tx = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(StoreError::from)?;
    let value = work(&tx)?;
    tx.commit().map_err(StoreError::from)?;
    Ok(value)
}

/// Runs `work` in a write transaction that is taken back. Nothing of it reaches the disk.
pub(crate) fn rehearse<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    connection.pragma_update(None, "cache_spill", false)?;
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = work(&tx);
    tx.rollback()?;
    connection.pragma_update(None, "cache_spill", true)?;
    value
}

pub(crate) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    row.get(column).map(Digest::from_bytes)
}

pub(crate) fn optional_digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Digest>> {
    Ok(row
        .get::<_, Option<[u8; 32]>>(column)?
        .map(Digest::from_bytes))
}

/// SQLite has no unsigned integers; no size on disk reaches the difference.
pub(crate) fn from_u64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn to_u64(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

/// A list of layers is one column: their digests one after the other.
pub(crate) fn layers_column(layers: &[DiffId]) -> Vec<u8> {
    layers
        .iter()
        .flat_map(|layer| *layer.digest().as_bytes())
        .collect()
}

pub(crate) fn layers(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<DiffId>> {
    let bytes: Vec<u8> = row.get(column)?;
    let digests = bytes.chunks_exact(32).map(|chunk| {
        let chunk: [u8; 32] = chunk.try_into().expect("invariant: chunks of 32");
        DiffId(Digest::from_bytes(chunk))
    });
    Ok(digests.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes tables of an earlier version, in a directory that goes with the first value.
    fn earlier(scripts: &[&str]) -> (tempfile::TempDir, Connection) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("db.sqlite");
        let connection = open(&path, Missing::Create).expect("opened");
        for script in scripts {
            connection.execute_batch(script).expect("made");
        }
        let version = i32::try_from(scripts.len()).expect("few");
        connection
            .pragma_update(None, "user_version", version)
            .expect("set");
        (directory, connection)
    }

    #[test]
    fn older_tables_are_migrated_with_their_rows() {
        let (_directory, mut connection) = earlier(&[SCHEMA_1]);
        let insert = "INSERT INTO images (id, created_ns, added, size, labels, platform, layers)
            VALUES (x'00', 1, 2, 3, '{}', '{}', x'')";
        connection.execute(insert, []).expect("inserted");
        assert!(schema(&connection).expect("read") == Schema::Older);
        for _ in 0..2 {
            migrate(&mut connection, "WAL").expect("migrated");
            assert!(schema(&connection).expect("read") == Schema::Current);
        }
        let query = "SELECT added, made, times FROM images";
        let row: (i64, Option<i64>, Option<String>) = connection
            .query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .expect("kept");
        assert_eq!(row, (2, None, None));
    }

    #[test]
    fn tables_of_version_3_keep_their_tags_and_get_a_history() {
        let (_directory, mut connection) = earlier(&[SCHEMA_1, SCHEMA_2, SCHEMA_3]);
        let insert = "INSERT INTO tags (name, image, manifest) VALUES ('a:1', x'01', x'02');
            INSERT INTO tag_journal (name, after, at) VALUES ('a:1', x'01', 5);";
        connection.execute_batch(insert).expect("inserted");
        migrate(&mut connection, "WAL").expect("migrated");
        assert!(schema(&connection).expect("read") == Schema::Current);
        let query = "SELECT at, operation, (SELECT manifest FROM tags), \
            (SELECT count(*) FROM operations) FROM tag_journal WHERE name = 'a:1'";
        let row: (i64, Option<i64>, Vec<u8>, i64) = connection
            .query_row(query, [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .expect("kept");
        assert_eq!(row, (5, None, vec![2], 0));
    }

    #[test]
    fn a_migration_that_fails_leaves_the_older_tables_as_they_were() {
        let (directory, mut connection) = earlier(&[SCHEMA_1]);
        let path = directory.path().join("db.sqlite");
        // In the way of the last script, long after the first has done its work.
        connection
            .execute_batch("CREATE TABLE undo_images (id BLOB)")
            .expect("made");
        let columns = |connection: &Connection| -> i64 {
            let query = "SELECT count(*) FROM pragma_table_info('images')";
            connection
                .query_row(query, [], |row| row.get(0))
                .expect("read")
        };
        let before = columns(&connection);
        migrate(&mut connection, "WAL").expect_err("there is a table already");
        drop(connection);
        let connection = open(&path, Missing::Refuse).expect("opened");
        assert_eq!(version(&connection).expect("read"), 1);
        assert_eq!(columns(&connection), before);
    }
}
