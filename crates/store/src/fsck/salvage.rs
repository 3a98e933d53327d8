//! A new database of what can be read of a damaged one.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use oci::Digest;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter};

use crate::db::{self, Missing};
use crate::db_copy::Paths;
use crate::error::at;
use crate::{StoreError, Timestamp};

/// Makes a new database beside the damaged one, which `old` has open if SQLite can open it, and puts
/// it in its place. Returns where the damaged one is kept, if there was
/// one. No other process has it open.
pub(super) fn salvage(
    root: &Path,
    old: Option<Connection>,
    journal: &str,
) -> Result<Option<PathBuf>, StoreError> {
    let paths = Paths::of(root);
    let (path, mut new) = fresh(root)?;
    let tx = new.transaction()?;
    if let Some(old) = &old {
        for table in tables(&tx)? {
            // Whatever SQLite says of a table, the others may be readable.
            if let Err(error) = copy_table(old, &tx, &table) {
                ignore_damage(error)?;
            }
        }
        if let Err(error) = settle_tags(old, &tx) {
            ignore_damage(error)?;
        }
    }
    drop_unknown_images(root, &tx)?;
    tx.commit()?;
    new.query_row(&format!("PRAGMA journal_mode = {journal}"), [], |_| Ok(()))?;
    drop(new);
    for end in ["-wal", "-shm"] {
        remove(&with_end(&path, end))?;
    }
    drop(old);
    let kept = put_aside(root, &paths)?;
    sync(&path)?;
    fs::rename(&path, &paths.database).map_err(at("rename", &path))?;
    sync(root)?;
    Ok(kept)
}

/// Makes a database with empty tables beside the store's.
pub(super) fn fresh(root: &Path) -> Result<(PathBuf, Connection), StoreError> {
    let path = root.join("db.sqlite.salvage");
    remove_database(&path)?;
    let mut new = db::open(&path, Missing::Create)?;
    db::migrate(&mut new, "MEMORY")?;
    Ok((path, new))
}

/// Puts all files of the old database aside. Its own file stays where it is as well, until the new
/// one replaces it.
fn put_aside(root: &Path, paths: &Paths) -> Result<Option<PathBuf>, StoreError> {
    let now = Timestamp::now().0 / 1_000_000_000;
    let kept = root.join(format!("db.sqlite.damaged-{now}"));
    remove(&paths.sums)?;
    remove(&root.join("db.sqlite-shm"))?;
    for (from, to) in [
        (&paths.wal, with_end(&kept, "-wal")),
        (&paths.copy, with_end(&kept, ".copy")),
    ] {
        match fs::rename(from, &to) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(at("rename", from)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    match fs::hard_link(&paths.database, &kept) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(at("link", &paths.database)(error))
        }
        Ok(()) => Ok(Some(kept)),
        Err(_) => Ok(None),
    }
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn remove_database(path: &Path) -> Result<(), StoreError> {
    for end in ["", "-wal", "-shm", "-journal"] {
        remove(&with_end(path, end))?;
    }
    Ok(())
}

pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync(path: &Path) -> Result<(), StoreError> {
    fs::File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(at("sync", path))
}

/// What cannot be read is lost; what cannot be written is an error.
fn ignore_damage(error: StoreError) -> Result<(), StoreError> {
    match error {
        // A table or column that is not there is one of a schema that is damaged.
        StoreError::DamagedDatabase(_)
        | StoreError::Database(rusqlite::Error::SqlInputError { .. }) => Ok(()),
        StoreError::Database(error)
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown) =>
        {
            Ok(())
        }
        error => Err(error),
    }
}

/// A table of this version.
struct Table {
    name: String,
    /// Names and declared types.
    columns: Vec<(String, String)>,
    /// What rows are sorted by.
    key: String,
}

fn tables(new: &Connection) -> Result<Vec<Table>, StoreError> {
    let query = "SELECT name FROM sqlite_schema WHERE type = 'table'
        AND name NOT LIKE 'sqlite_%' ORDER BY name";
    let mut query = new.prepare(query)?;
    let names = query.query_map([], |row| row.get::<_, String>(0))?;
    let names: Vec<String> = names.collect::<Result<_, _>>()?;
    let mut tables = Vec::new();
    for name in names {
        let mut columns = Vec::new();
        let mut key = Vec::new();
        let mut query = new.prepare("SELECT name, type, pk FROM pragma_table_info(?1)")?;
        let mut rows = query.query([&name])?;
        while let Some(row) = rows.next()? {
            let column: String = row.get(0)?;
            if row.get::<_, i64>(2)? > 0 {
                key.push(format!("\"{column}\""));
            }
            columns.push((column, row.get(1)?));
        }
        tables.push(Table {
            name,
            columns,
            key: key.join(", "),
        });
    }
    Ok(tables)
}

/// Copies what can be read, from both ends: between two pages that cannot, nothing can be reached.
fn copy_table(old: &Connection, new: &Connection, table: &Table) -> Result<(), StoreError> {
    let known = known_columns(old, &table.name)?;
    let columns: Vec<&(String, String)> = table
        .columns
        .iter()
        .filter(|(name, _)| known.contains(name))
        .collect();
    let names: Vec<String> = columns
        .iter()
        .map(|(name, _)| format!("\"{name}\""))
        .collect();
    let names = names.join(", ");
    let places = vec!["?"; columns.len()].join(", ");
    let insert = format!(
        "INSERT OR IGNORE INTO {} ({names}) VALUES ({places})",
        table.name
    );
    let mut insert = new.prepare(&insert)?;
    for order in ["", " DESC"] {
        let key = table.key.replace(',', &format!("{order},"));
        let query = format!("SELECT {names} FROM {} ORDER BY {key}{order}", table.name);
        let mut query = old.prepare(&query)?;
        let mut rows = query.query([])?;
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(()),
                Err(error) => {
                    ignore_damage(error.into())?;
                    break;
                }
            };
            let values: Result<Vec<Value>, _> =
                (0..columns.len()).map(|index| row.get(index)).collect();
            // Text that is none, for example.
            let Ok(values) = values else {
                continue;
            };
            let is_valid = columns
                .iter()
                .zip(&values)
                .all(|((name, kind), value)| is_valid(&table.name, name, kind, value));
            if is_valid {
                insert.execute(params_from_iter(values))?;
            }
        }
    }
    Ok(())
}

fn known_columns(old: &Connection, table: &str) -> Result<Vec<String>, StoreError> {
    let mut query = old.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let names = query.query_map([table], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// All blobs in the tables are digests, but for the lists of layers.
fn is_valid(table: &str, column: &str, kind: &str, value: &Value) -> bool {
    let is_layers = column == "layers" && matches!(table, "images" | "undo_images");
    match (kind, value) {
        (_, Value::Null)
        | ("INTEGER", Value::Integer(_))
        | ("TEXT", Value::Text(_))
        | ("REAL", Value::Real(_)) => true,
        ("BLOB", Value::Blob(bytes)) => match is_layers {
            true => bytes.len() % 32 == 0,
            false => bytes.len() == 32,
        },
        _ => false,
    }
}

/// A tag stands in three places: its row, the index of the rows by image, and its history. Two of
/// them are to agree.
fn settle_tags(old: &Connection, new: &Connection) -> Result<(), StoreError> {
    let mut history: BTreeMap<String, Option<[u8; 32]>> = BTreeMap::new();
    let mut query = new.prepare("SELECT name, after FROM tag_journal ORDER BY seq")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        history.insert(row.get(0)?, row.get(1)?);
    }
    let mut query = new.prepare("SELECT name, image FROM tags")?;
    let tags = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let tags: Vec<(String, [u8; 32])> = tags.collect::<Result<_, _>>()?;
    for (name, image) in tags {
        let is_confirmed = match history.get(&name) {
            Some(after) => *after == Some(image) || is_in_index(old, &name, &image),
            None => is_in_index(old, &name, &image),
        };
        if !is_confirmed {
            new.execute("DELETE FROM tags WHERE name = ?1", [&name])?;
        }
    }
    for (name, after) in &history {
        if let Some(image) = after {
            new.execute(
                "INSERT OR IGNORE INTO tags (name, image) VALUES (?1, ?2)",
                params![name, image],
            )?;
        }
    }
    Ok(())
}

fn is_in_index(old: &Connection, name: &str, image: &[u8; 32]) -> bool {
    let query = "SELECT 1 FROM tags INDEXED BY tags_image WHERE image = ?1 AND name = ?2";
    let found = old.query_row(query, params![image, name], |_| Ok(()));
    matches!(found.optional(), Ok(Some(())))
}

/// Without its configuration an image is nothing but a number that may be wrong.
fn drop_unknown_images(root: &Path, new: &Connection) -> Result<(), StoreError> {
    let mut query = new.prepare("SELECT id FROM images")?;
    let ids = query.query_map([], |row| db::digest(row, 0))?;
    let ids: Vec<Digest> = ids.collect::<Result<_, _>>()?;
    for id in ids {
        let config = root.join("blobs/sha256").join(id.hex());
        if !config.exists() {
            new.execute("DELETE FROM images WHERE id = ?1", [id.as_bytes()])?;
        }
    }
    Ok(())
}
