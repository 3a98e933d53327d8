//! Records of builds: what ran, how long it took, and what it said.

use oci::{Digest, MediaType};
use rusqlite::{Row, params};

use crate::{NewBlob, Store, StoreError, Timestamp, db};

const KEPT: i64 = 1000;
/// What is read of the rows of a build.
const COLUMNS: &str = "reference, name, dockerfile, started, seconds, status, steps, about, log";

/// A build that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildRecord {
    /// What commands call it; empty for builds that were recorded before they had that.
    pub reference: String,
    /// What was built: the context, and what of it.
    pub name: String,
    /// The path of the Dockerfile.
    pub dockerfile: String,
    /// When it started.
    pub started: Timestamp,
    /// How long it took.
    pub seconds: f64,
    /// How it ended.
    pub status: BuildStatus,
    /// Its steps; the store does not look inside.
    pub steps: serde_json::Value,
    /// What else is known of it; the store does not look inside.
    pub about: serde_json::Value,
    /// The blob of its log. It may be gone: what a power cut takes of it comes not again.
    pub log: Option<Digest>,
}

/// How a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildStatus {
    /// Well.
    Completed,
    /// A step failed, or the build could not start.
    Failed,
    /// The user has ended it.
    Canceled,
}

impl BuildStatus {
    const ALL: [(Self, &str); 3] = [
        (Self::Completed, "completed"),
        (Self::Failed, "failed"),
        (Self::Canceled, "canceled"),
    ];

    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        let found = Self::ALL.iter().find(|(status, _)| *status == self);
        found.map(|(_, word)| *word).unwrap_or_default()
    }
}

impl Store {
    /// Keeps a log, written to a [`Store::new_blob`]. It goes with the next sweep unless a build names it; the caller's lock keeps
    /// that away.
    pub fn commit_build_log(&self, log: NewBlob) -> Result<Digest, StoreError> {
        let media_type = MediaType::from("application/vnd.strata.build.log.v1+jsonl+zstd");
        Ok(log.commit(&media_type)?.digest)
    }

    /// Records a build. Only the last thousand are kept.
    pub fn put_build(&self, build: &BuildRecord) -> Result<(), StoreError> {
        let (steps, about) = (build.steps.to_string(), build.about.to_string());
        self.write(|tx| {
            tx.execute(
                "INSERT INTO builds
                    (reference, name, dockerfile, started, seconds, status, steps, about, log)
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    build.reference,
                    build.name,
                    build.dockerfile,
                    build.started.0,
                    build.seconds,
                    build.status.word(),
                    steps,
                    about,
                    build.log.as_ref().map(Digest::as_bytes),
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
            let query = format!("SELECT {COLUMNS} FROM builds ORDER BY seq DESC");
            let mut query = connection.prepare_cached(&query)?;
            let mut rows = query.query([])?;
            let mut builds = Vec::new();
            while let Some(row) = rows.next()? {
                builds.push(read(row)?);
            }
            Ok(builds)
        })
    }

    /// Forgets builds, all without references. Their logs go with the next sweep.
    pub fn remove_builds(&self, references: Option<&[String]>) -> Result<(), StoreError> {
        self.write(|tx| {
            let Some(references) = references else {
                tx.execute("DELETE FROM builds", [])?;
                return Ok(());
            };
            let mut query = tx.prepare_cached("DELETE FROM builds WHERE reference = ?1")?;
            for reference in references {
                query.execute([reference])?;
            }
            Ok(())
        })
    }
}

fn read(row: &Row<'_>) -> Result<BuildRecord, StoreError> {
    let parse = |text: Option<String>| match text {
        None => Ok(serde_json::Value::Null),
        Some(text) => serde_json::from_str(&text).map_err(|source| {
            let table = "builds";
            StoreError::MalformedRecord { table, source }
        }),
    };
    let word: Option<String> = row.get(5)?;
    let known = BuildStatus::ALL.iter();
    let status = known
        .clone()
        .find(|(_, known)| Some(*known) == word.as_deref());
    Ok(BuildRecord {
        reference: row.get::<_, Option<String>>(0)?.unwrap_or_default(),
        name: row.get(1)?,
        dockerfile: row.get(2)?,
        started: Timestamp(row.get(3)?),
        seconds: row.get(4)?,
        // Older records are of builds that went well.
        status: status.map_or(BuildStatus::Completed, |(status, _)| *status),
        steps: parse(row.get(6)?)?,
        about: parse(row.get(7)?)?,
        log: db::optional_digest(row, 8)?,
    })
}
