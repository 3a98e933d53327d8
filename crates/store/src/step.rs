//! Build steps: the build cache. A step keeps its layer from being swept.

use std::collections::HashSet;

use oci::{ChainId, DiffId, Digest};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{Store, StoreError, Timestamp, db, layer};

/// A step of a build and what it made.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRecord {
    /// The cache key.
    pub key: Digest,
    /// The instruction, expanded.
    pub instruction: String,
    /// The layer it made; `None` when it changed no file.
    pub layer: Option<DiffId>,
    /// The content it ran on.
    pub parent_chain: Option<ChainId>,
    /// What the key was made of.
    pub ingredients: serde_json::Value,
    /// How long it took.
    pub seconds: f64,
    /// When it ran.
    pub created: Timestamp,
    /// When it last served a build.
    pub last_used: Timestamp,
    /// The size of its layer's files.
    pub content_size: u64,
}

/// What a step made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepMade {
    /// The layer; `None` when it changed no file.
    pub layer: Option<DiffId>,
    /// When it ran.
    pub created: Timestamp,
    /// When it last served a build.
    pub last_used: Timestamp,
    /// The number `epoch` in what is recorded of the key.
    pub epoch: Option<i64>,
}

/// The most bytes that `,"epoch":` and a number take.
const EPOCH_SIZE: i64 = 40;

/// Reads the last member of an object, when it is a number named `epoch`.
fn epoch_at_end(text: &str) -> Option<i64> {
    let (_, number) = text.strip_suffix('}')?.rsplit_once(",\"epoch\":")?;
    number.parse().ok()
}

fn parsed_epoch(connection: &Connection, key: &Digest) -> rusqlite::Result<Option<i64>> {
    let query = "SELECT CASE json_type(ingredients, '$.epoch')
            WHEN 'integer' THEN json_extract(ingredients, '$.epoch') END
        FROM steps WHERE key = ?1";
    connection.query_row(query, [key.as_bytes()], |row| row.get(0))
}

/// Which steps [`Store::prune`] removes. All conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct StepFilter {
    /// All steps or those whose layer no image has.
    pub scope: StepScope,
    /// Only steps last used before.
    pub until: Option<Timestamp>,
}

/// All steps or unused ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StepScope {
    /// Steps whose layer no image has.
    #[default]
    Unused,
    /// All steps.
    All,
}

const COLUMNS: &str =
    "key, instruction, layer, parent_chain, ingredients, seconds, created, last_used, content_size";

impl Store {
    /// Returns the step with a key, if what it made is still in the store.
    pub fn step(&self, key: &Digest) -> Result<Option<StepRecord>, StoreError> {
        let found = self.read(|connection| {
            let query = format!("SELECT {COLUMNS} FROM steps WHERE key = ?1");
            let mut query = connection.prepare_cached(&query)?;
            let found = query.query_row([key.as_bytes()], record).optional()?;
            found.transpose()
        })?;
        self.if_here(found, |step| step.layer)
    }

    /// Returns what [`Store::step`] does, but of what the key was made of, which can be megabytes, only the
    /// number `epoch`. Where that is the last member, nothing is parsed.
    pub fn step_made(&self, key: &Digest) -> Result<Option<StepMade>, StoreError> {
        let found = self.read(|connection| {
            // In this order SQLite walks a long text once: it then knows where what follows it is.
            let mut query = connection.prepare_cached(
                "SELECT substr(CAST(ingredients AS BLOB), -?2), layer, created, last_used
                    FROM steps WHERE key = ?1",
            )?;
            let row = |row: &Row<'_>| {
                let end: Vec<u8> = row.get(0)?;
                Ok(StepMade {
                    layer: db::optional_digest(row, 1)?.map(DiffId),
                    created: Timestamp(row.get(2)?),
                    last_used: Timestamp(row.get(3)?),
                    epoch: epoch_at_end(&String::from_utf8_lossy(&end)),
                })
            };
            let found = query.query_row(params![key.as_bytes(), EPOCH_SIZE], row);
            let mut found = found.optional()?;
            if let Some(step) = &mut found
                && step.epoch.is_none()
            {
                step.epoch = parsed_epoch(connection, key)?;
            }
            Ok(found)
        })?;
        self.if_here(found, |step| step.layer)
    }

    /// Returns what was found, unless the layer that it names is gone.
    fn if_here<T>(
        &self,
        found: Option<T>,
        layer: impl Fn(&T) -> Option<DiffId>,
    ) -> Result<Option<T>, StoreError> {
        let Some(step) = found else {
            return Ok(None);
        };
        let is_here = match layer(&step) {
            Some(layer) => self.has_layer(&layer)?,
            None => true,
        };
        Ok(is_here.then_some(step))
    }

    /// Records a step; one with the same key is replaced. Its layer must be in the store.
    pub fn put_step(&self, step: &StepRecord) -> Result<(), StoreError> {
        let ingredients = step.ingredients.to_string();
        self.write(|tx| {
            if let Some(layer) = &step.layer {
                layer::find(tx, layer, self.boot_id())?.ok_or(StoreError::LayerNotFound(*layer))?;
            }
            tx.execute(
                &format!(
                    "INSERT OR REPLACE INTO steps ({COLUMNS})
                        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
                ),
                params![
                    step.key.as_bytes(),
                    step.instruction,
                    step.layer.map(|layer| *layer.digest().as_bytes()),
                    step.parent_chain.map(|chain| *chain.digest().as_bytes()),
                    ingredients,
                    step.seconds,
                    step.created.0,
                    step.last_used.0,
                    db::from_u64(step.content_size)
                ],
            )?;
            Ok(())
        })
    }

    /// Notes that a step served a build now.
    pub fn touch_step(&self, key: &Digest) -> Result<(), StoreError> {
        self.touch_steps(std::slice::from_ref(key))
    }

    /// Notes that several steps served a build now, in one transaction.
    pub fn touch_steps(&self, keys: &[Digest]) -> Result<(), StoreError> {
        let now = Timestamp::now();
        self.write(|tx| {
            for key in keys {
                tx.execute(
                    "UPDATE steps SET last_used = ?2 WHERE key = ?1",
                    params![key.as_bytes(), now.0],
                )?;
            }
            Ok(())
        })
    }

    /// Returns all steps, last used first.
    pub fn steps(&self) -> Result<Vec<StepRecord>, StoreError> {
        self.read(all)
    }
}

/// Removes the steps that a filter selects, and returns them.
pub(crate) fn remove(
    tx: &Connection,
    filter: &StepFilter,
    is_chosen: impl Fn(&StepRecord) -> bool,
) -> Result<Vec<StepRecord>, StoreError> {
    let used = match filter.scope {
        StepScope::All => HashSet::new(),
        StepScope::Unused => image_layers(tx)?,
    };
    let mut steps = all(tx)?;
    steps.retain(|step| {
        filter.until.is_none_or(|until| step.last_used < until)
            && step.layer.is_none_or(|layer| !used.contains(&layer))
            && is_chosen(step)
    });
    let mut delete = tx.prepare_cached("DELETE FROM steps WHERE key = ?1")?;
    for step in &steps {
        delete.execute([step.key.as_bytes()])?;
    }
    Ok(steps)
}

pub(crate) fn all(connection: &Connection) -> Result<Vec<StepRecord>, StoreError> {
    let query = format!("SELECT {COLUMNS} FROM steps ORDER BY last_used DESC, key");
    let mut query = connection.prepare_cached(&query)?;
    let mut rows = query.query([])?;
    let mut steps = Vec::new();
    while let Some(row) = rows.next()? {
        steps.push(record(row)??);
    }
    Ok(steps)
}

fn image_layers(connection: &Connection) -> Result<HashSet<DiffId>, StoreError> {
    let mut query = connection.prepare_cached("SELECT layers FROM images")?;
    let rows = query.query_map([], |row| db::layers(row, 0))?;
    let mut layers = HashSet::new();
    for row in rows {
        layers.extend(row?);
    }
    Ok(layers)
}

fn record(row: &Row<'_>) -> rusqlite::Result<Result<StepRecord, StoreError>> {
    let ingredients: String = row.get(4)?;
    let ingredients = match serde_json::from_str(&ingredients) {
        Ok(ingredients) => ingredients,
        Err(source) => {
            let table = "steps";
            return Ok(Err(StoreError::MalformedRecord { table, source }));
        }
    };
    Ok(Ok(StepRecord {
        key: db::digest(row, 0)?,
        instruction: row.get(1)?,
        layer: db::optional_digest(row, 2)?.map(DiffId),
        parent_chain: db::optional_digest(row, 3)?.map(ChainId),
        ingredients,
        seconds: row.get(5)?,
        created: Timestamp(row.get(6)?),
        last_used: Timestamp(row.get(7)?),
        content_size: db::to_u64(row, 8)?,
    }))
}
