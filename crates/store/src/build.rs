//! Records of builds: what ran, and how long it took.

use rusqlite::params;

use crate::{Store, StoreError, Timestamp};

const KEPT: i64 = 1000;

/// A build.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildRecord {
    /// What was built: the first tag, or the context.
    pub name: String,
    /// The path of the Dockerfile.
    pub dockerfile: String,
    /// When it started.
    pub started: Timestamp,
    /// How long it took.
    pub seconds: f64,
    /// Its steps; the store does not look inside.
    pub steps: serde_json::Value,
}

impl Store {
    /// Records a build. Only the last thousand are kept.
    pub fn put_build(&self, build: &BuildRecord) -> Result<(), StoreError> {
        let steps = build.steps.to_string();
        self.write(|tx| {
            tx.execute(
                "INSERT INTO builds (name, dockerfile, started, seconds, steps)
                    VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    build.name,
                    build.dockerfile,
                    build.started.0,
                    build.seconds,
                    steps
                ],
            )?;
            let last = tx.last_insert_rowid();
            tx.execute("DELETE FROM builds WHERE seq <= ?1", [last - KEPT])?;
            Ok(())
        })
    }

    /// Returns the recorded builds, newest first.
    pub fn builds(&self) -> Result<Vec<BuildRecord>, StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT name, dockerfile, started, seconds, steps FROM builds ORDER BY seq DESC",
            )?;
            let mut rows = query.query([])?;
            let mut builds = Vec::new();
            while let Some(row) = rows.next()? {
                let steps: String = row.get(4)?;
                let steps = serde_json::from_str(&steps).map_err(|source| {
                    let table = "builds";
                    StoreError::MalformedRecord { table, source }
                })?;
                builds.push(BuildRecord {
                    name: row.get(0)?,
                    dockerfile: row.get(1)?,
                    started: Timestamp(row.get(2)?),
                    seconds: row.get(3)?,
                    steps,
                });
            }
            Ok(builds)
        })
    }
}
