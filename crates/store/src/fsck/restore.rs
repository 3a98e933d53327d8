//! Making the database right, before the store is opened.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rusqlite::Connection;

use super::database::said;
use super::renew::set_aside;
use super::salvage::{fresh, remove, salvage};
use super::{Damage, Finding, NeededBy};
use crate::db::{self, Missing};
use crate::db_copy::{Paths, Sums, SumsFile};
use crate::error::{at, is_damage};
use crate::format::Format;
use crate::held::pause;
use crate::scratch::unique_name;
use crate::store::{journal_mode, make_directory};
use crate::{StoreError, lock};

/// What a repair of the database did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct DatabaseRepair {
    /// What became of each finding, in the order in which they were given: how it was repaired, or
    /// why not.
    pub results: Vec<Result<String, String>>,
    /// Whether records may be lost: images are to be looked for.
    pub lost_records: bool,
    /// Containers whose record is lost, and where what was written in them is kept.
    pub lost_containers: Vec<Finding>,
}

/// How often, every 20 ms, the database is tried to be had alone.
const TRIES: u32 = 250;

/// In how many pages a changed bit is looked for.
const SEARCHES: u32 = 32;

const BUSY: &str = "other commands have the database open: end them (`registry serve`, containers \
    in the foreground) and repair again";

/// Makes right what [`examine_database`](super::examine_database) found. Waits until no other command
/// works, and keeps others away.
pub fn repair_database(root: &Path, findings: &[Finding]) -> Result<DatabaseRepair, StoreError> {
    let mut locks = Vec::new();
    for name in ["lock", "open.lock"] {
        let path = root.join(name);
        let file = lock::open_file(&path)?;
        file.lock().map_err(at("lock", &path))?;
        locks.push(file);
    }
    let mut repair = Repair {
        root,
        paths: Paths::of(root),
        done: DatabaseRepair::default(),
        salvaged: None,
    };
    for finding in findings {
        let result = repair.one(&finding.damage)?;
        repair.done.results.push(result);
    }
    if repair.done.lost_records {
        repair.keep_containers()?;
    }
    drop(locks);
    Ok(repair.done)
}

struct Repair<'a> {
    root: &'a Path,
    paths: Paths,
    done: DatabaseRepair,
    /// How the whole database was made anew.
    salvaged: Option<String>,
}

/// The database, with nobody else in it.
enum Alone {
    Opened(Connection),
    /// It is no database.
    Unreadable,
    Busy,
}

impl Repair<'_> {
    fn one(&mut self, damage: &Damage) -> Result<Result<String, String>, StoreError> {
        match damage {
            Damage::Format => {
                Format::current().write(&self.root.join("format"))?;
                Ok(Ok("written again".to_owned()))
            }
            Damage::Pages { pages, .. } => self.pages(pages),
            Damage::Log { .. } => self.log(),
            Damage::Database { .. } => self.salvage(),
            // Made when the store is open.
            Damage::Copy => {
                remove(&self.paths.sums)?;
                Ok(Ok("made again from the database".to_owned()))
            }
            _ => Ok(Err("nothing is known to do about it".to_owned())),
        }
    }

    /// Puts the directories of containers aside that have no record any more.
    fn keep_containers(&mut self) -> Result<(), StoreError> {
        let connection = db::open(&self.paths.database, Missing::Refuse)?;
        let directory = self.root.join("containers");
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(at("read", &directory)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(at("read", &directory))?;
            let id = entry.file_name().to_string_lossy().into_owned();
            let query = "SELECT EXISTS (SELECT 1 FROM containers WHERE id = ?1)";
            if connection.query_row(query, [&id], |row| row.get(0))? {
                continue;
            }
            let path = set_aside(self.root, &entry.path())?;
            self.done.lost_containers.extend(path.map(|path| Finding {
                needed_by: NeededBy {
                    containers: vec![id.clone()],
                    ..NeededBy::default()
                },
                damage: Damage::LostContainer { id },
                path,
            }));
        }
        Ok(())
    }

    fn alone(&self) -> Result<Alone, StoreError> {
        for _ in 0..TRIES {
            match alone(&self.paths.database) {
                Ok(connection) => return Ok(Alone::Opened(connection)),
                Err(error) if is_damage(&error) => return Ok(Alone::Unreadable),
                Err(error) => match error.sqlite_error_code() {
                    Some(
                        rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked,
                    ) => {
                        pause();
                    }
                    Some(rusqlite::ErrorCode::CannotOpen) => return Ok(Alone::Unreadable),
                    _ => return Err(error.into()),
                },
            }
        }
        Ok(Alone::Busy)
    }

    /// Takes pages from the copy.
    fn pages(&mut self, pages: &[u32]) -> Result<Result<String, String>, StoreError> {
        if let Some(how) = &self.salvaged {
            return Ok(Ok(how.clone()));
        }
        let connection = match self.alone()? {
            Alone::Opened(connection) => Some(connection),
            Alone::Unreadable => None,
            Alone::Busy => return Ok(Err(BUSY.to_owned())),
        };
        // Closed after the connection, so that nobody else gets in between.
        let path = &self.paths.database;
        let database = OpenOptions::new().read(true).write(true).open(path);
        let database = database.map_err(at("open", path))?;
        let are_restored = self.take(pages, &database)?;
        drop(connection);
        drop(database);
        if are_restored && self.is_readable()? {
            return Ok(Ok("made again from the copy of the database".to_owned()));
        }
        self.salvage()
    }

    /// Takes pages from the copy, or from empty tables: those with the definitions are the same in most
    /// stores. Of some that are right nowhere the bit can be found that changed. Tells whether all
    /// are right now.
    fn take(&self, pages: &[u32], database: &File) -> Result<bool, StoreError> {
        let SumsFile::Read(sums) = Sums::read(&self.paths.sums)? else {
            return Ok(false);
        };
        let (path, connection) = fresh(self.root)?;
        drop(connection);
        let copies: Vec<File> = [&self.paths.copy, &path]
            .into_iter()
            .filter_map(|path| File::open(path).ok())
            .collect();
        let mut searches = 0;
        let mut are_restored = true;
        for page in pages {
            let mut bytes = copies.iter().find_map(|copy| sums.page(copy, *page));
            if bytes.is_none() && searches < SEARCHES {
                searches += 1;
                let files = copies.iter().take(1).chain([database]);
                bytes = files.into_iter().find_map(|file| sums.mended(file, *page));
            }
            match bytes {
                Some(bytes) => database
                    .write_all_at(&bytes, sums.offset(*page))
                    .map_err(at("write", &self.paths.database))?,
                None => are_restored = false,
            }
        }
        remove(&path)?;
        let synced = database.sync_all();
        synced.map_err(at("sync", &self.paths.database))?;
        Ok(are_restored)
    }

    fn is_readable(&self) -> Result<bool, StoreError> {
        let said = db::open(&self.paths.database, Missing::Refuse)
            .and_then(|connection| said(&connection));
        match said {
            Ok(said) => Ok(said.is_empty()),
            Err(error) if is_damage(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends the log before what is wrong: what follows was written on top of it.
    fn log(&mut self) -> Result<Result<String, String>, StoreError> {
        if let Some(how) = &self.salvaged {
            return Ok(Ok(how.clone()));
        }
        let connection = match self.alone()? {
            Alone::Opened(connection) => connection,
            Alone::Unreadable => return self.salvage(),
            Alone::Busy => return Ok(Err(BUSY.to_owned())),
        };
        let directory = self.root.join("damaged");
        make_directory(&directory)?;
        let kept = directory.join(format!("db.sqlite-wal-{}", unique_name()));
        fs::copy(&self.paths.wal, &kept).map_err(at("copy", &self.paths.wal))?;
        // The sums are of the log that was.
        remove(&self.paths.sums)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        self.done.lost_records = true;
        Ok(Ok(format!(
            "the log ends before it: what was recorded after that is lost (kept in `{}`)",
            kept.display()
        )))
    }

    fn salvage(&mut self) -> Result<Result<String, String>, StoreError> {
        if let Some(how) = &self.salvaged {
            return Ok(Ok(how.clone()));
        }
        let old = match self.alone()? {
            Alone::Opened(connection) => Some(connection),
            Alone::Unreadable => None,
            Alone::Busy => return Ok(Err(BUSY.to_owned())),
        };
        let kept = salvage(self.root, old, journal_mode(self.root)?)?;
        self.done.lost_records = true;
        let how = match kept {
            Some(kept) => format!(
                "what could be read was written into a new database; the old one is `{}`",
                kept.display()
            ),
            None => "a new one was made".to_owned(),
        };
        self.salvaged = Some(how.clone());
        Ok(Ok(how))
    }
}

/// Opens the database so that no other process has it open, and reads its log anew.
fn alone(path: &Path) -> rusqlite::Result<Connection> {
    let connection = db::open(path, Missing::Refuse)?;
    connection.busy_timeout(std::time::Duration::ZERO)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK;")?;
    Ok(connection)
}
