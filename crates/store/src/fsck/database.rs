//! The database, before the store is opened: whether its pages are those that were written, and
//! whether SQLite can make sense of them.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::{Damage, Finding, NeededBy};
use crate::StoreError;
use crate::db::{self, Missing, Schema};
use crate::db_copy::{Paths, Sums, SumsFile};
use crate::error::{at, is_damage, with_causes};
use crate::format::Format;
use crate::wal::Wal;

/// What was found of the database.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct DatabaseCheck {
    /// The damage.
    pub findings: Vec<Finding>,
    /// What is worth a word without being damage.
    pub notes: Vec<String>,
}

/// How many contradictions are told.
const TOLD: usize = 10;

/// Checks the database under `root`, whether or not the store can be opened. Other commands may
/// write meanwhile. Nothing is changed. Where there is no store nothing is found.
pub fn examine_database(root: &Path) -> Result<DatabaseCheck, StoreError> {
    let mut check = Check {
        root,
        paths: Paths::of(root),
        found: DatabaseCheck::default(),
    };
    match Format::read(&root.join("format")) {
        Ok(Some(format)) => {
            format.check(root)?;
        }
        // A store whose making was interrupted is made again.
        Ok(None) => return Ok(check.found),
        Err(StoreError::MalformedFormat { path, .. }) => check.add(Damage::Format, &path),
        Err(error) => return Err(error),
    }
    check.database()?;
    Ok(check.found)
}

struct Check<'a> {
    root: &'a Path,
    paths: Paths,
    found: DatabaseCheck,
}

impl Check<'_> {
    fn add(&mut self, damage: Damage, path: &Path) {
        self.found.findings.push(Finding {
            damage,
            path: path.to_owned(),
            needed_by: NeededBy::default(),
        });
    }

    fn database(&mut self) -> Result<(), StoreError> {
        let path = self.paths.database.clone();
        // Before the connection and closed after it, so that SQLite's locks stay.
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let what = "is missing".to_owned();
                self.add(Damage::Database { what }, &path);
                return Ok(());
            }
            Err(error) => return Err(at("open", &path)(error)),
        };
        let opened = db::open(&path, Missing::Refuse);
        let connection = match opened {
            Ok(connection) => Some(connection),
            Err(error) if is_damage(&error) => {
                self.contradiction(&error);
                None
            }
            Err(error) => return Err(error.into()),
        };
        let pages = match &connection {
            Some(connection) => self.apart(connection, &file)?,
            None => self.bytes(&file)?,
        };
        if let Some(connection) = &connection
            && pages.is_empty()
        {
            self.contradictions(connection)?;
        }
        if !pages.is_empty() {
            // What SQLite says of them adds nothing.
            let is_contradiction =
                |finding: &Finding| matches!(finding.damage, Damage::Database { .. });
            self.found.findings.retain(|found| !is_contradiction(found));
            let tables = connection
                .as_ref()
                .map_or_else(Vec::new, |connection| tables(connection, &pages));
            self.add(Damage::Pages { pages, tables }, &path);
            // They are repaired first, with checksums that the repair of others removes.
            self.found.findings.rotate_right(1);
        }
        drop(connection);
        drop(file);
        Ok(())
    }

    /// Reads the bytes while no other process writes.
    fn apart(&mut self, connection: &Connection, file: &File) -> Result<Vec<u32>, StoreError> {
        let behavior = TransactionBehavior::Immediate;
        match rusqlite::Transaction::new_unchecked(connection, behavior) {
            Ok(tx) => {
                let pages = self.bytes(file)?;
                tx.rollback()?;
                Ok(pages)
            }
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ReadOnly) => {
                self.bytes(file)
            }
            // Nobody can write to it.
            Err(error) if is_damage(&error) => {
                self.contradiction(&error);
                self.bytes(file)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Checks files as bytes. Returns the pages of the database that are wrong.
    fn bytes(&mut self, file: &File) -> Result<Vec<u32>, StoreError> {
        let wal_path = self.paths.wal.clone();
        let wal = Wal::read(&wal_path)?;
        if let Some(damage) = wal.as_ref().and_then(|wal| wal.damage) {
            let (frame, frames) = (damage.frame, damage.frames);
            self.add(Damage::Log { frame, frames }, &wal_path);
        }
        let sums_path = self.paths.sums.clone();
        let sums = match Sums::read(&sums_path)? {
            SumsFile::Missing => return Ok(Vec::new()),
            SumsFile::Malformed => {
                self.add(Damage::Copy, &sums_path);
                return Ok(Vec::new());
            }
            SumsFile::Read(sums) => sums,
        };
        let is_known = sums.are_of(wal.as_ref());
        let wrong = sums.wrong_pages(file, wal.as_ref());
        if !is_known {
            if !wrong.is_empty() {
                let note = "another program has written to the database: whether its pages are as \
                    they were written is not known";
                self.found.notes.push(note.to_owned());
            }
            return Ok(Vec::new());
        }
        let copy = self.paths.copy.clone();
        let is_right = match File::open(&copy) {
            Ok(file) => sums.wrong_pages(&file, wal.as_ref()).is_empty(),
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(at("open", &copy)(error)),
        };
        if !is_right {
            self.add(Damage::Copy, &copy);
        }
        Ok(wrong)
    }

    /// Asks SQLite.
    fn contradictions(&mut self, connection: &Connection) -> Result<(), StoreError> {
        match said(connection) {
            Ok(what) => {
                for what in what {
                    let path = self.paths.database.clone();
                    self.add(Damage::Database { what }, &path);
                }
            }
            Err(error) if is_damage(&error) => self.contradiction(&error),
            Err(error) => return Err(error.into()),
        }
        // A store of a newer strata is not to be repaired by this one.
        if let Ok(Schema::Newer(version)) = db::schema(connection) {
            return Err(StoreError::NewerFormat {
                root: self.root.to_owned(),
                found: version.unsigned_abs(),
                supported: db::SCHEMA_VERSION.unsigned_abs(),
            });
        }
        Ok(())
    }

    fn contradiction(&mut self, error: &rusqlite::Error) {
        let what = with_causes(error);
        let damage = Damage::Database { what };
        if !self
            .found
            .findings
            .iter()
            .any(|found| found.damage == damage)
        {
            let path = self.paths.database.clone();
            self.add(damage, &path);
        }
    }
}

/// Returns what SQLite finds wrong.
pub(super) fn said(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut what = Vec::new();
    let mut query = connection.prepare(&format!("PRAGMA integrity_check({TOLD})"))?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        if text != "ok" {
            what.push(text.lines().collect::<Vec<_>>().join(" "));
        }
    }
    drop(rows);
    let mut query = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let table: String = row.get(0)?;
        what.push(format!("a row of table {table} leads nowhere"));
    }
    drop(rows);
    if what.is_empty() {
        match db::schema(connection)? {
            Schema::Empty => what.push("it has no tables".to_owned()),
            Schema::Current => what.extend(wrong_schema(connection)?),
            Schema::Older | Schema::Newer(_) => {}
        }
    }
    Ok(what)
}

/// Says which table or index is not what this version makes.
fn wrong_schema(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let mut fresh = Connection::open_in_memory()?;
    db::migrate(&mut fresh, "MEMORY")?;
    let (found, expected) = (definitions(connection)?, definitions(&fresh)?);
    let other = expected.iter().find(|one| !found.contains(one));
    let other = other.or_else(|| found.iter().find(|one| !expected.contains(one)));
    Ok(other.map(|(name, _)| format!("`{name}` is not defined as it has to be")))
}

fn definitions(connection: &Connection) -> rusqlite::Result<Vec<(String, Option<String>)>> {
    let query = "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%'";
    let mut query = connection.prepare(query)?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Returns the tables that have pages, as far as the damage lets SQLite tell.
fn tables(connection: &Connection, pages: &[u32]) -> Vec<String> {
    let mut tables = Vec::new();
    for page in pages {
        let query = "SELECT name FROM dbstat WHERE pageno = ?1";
        let name = connection.query_row(query, [page], |row| row.get::<_, String>(0));
        if let Ok(Some(name)) = name.optional()
            && !tables.contains(&name)
        {
            tables.push(name);
        }
    }
    tables.sort();
    tables
}
