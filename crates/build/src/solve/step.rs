//! One step: looked up in the cache, or made.

use std::time::Instant;

use layer::{Ingested, LayerWriter};
use oci::{ChainId, DiffId, Digest};
use serde_json::{Value, json};
use store::{NewLayer, Scratch, StepRecord, Timestamp};

use super::Environment;
use super::files::{Inputs, write_workdir};
use super::key::Key;
use super::mounts::{self, MountInputs};
use crate::progress::Step;
use crate::vertex::{FilesFrom, Operation, Vertex};
use crate::{CacheUse, SolveError, run};

/// A record is touched when it has not been for this long: a write for each step of each build
/// would cost more than the look-up.
const TOUCH_NANOSECONDS: i64 = 3600 * 1_000_000_000;

/// What a step gave.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) diff_id: DiffId,
    /// The epoch when it was made.
    pub(super) created: i64,
    /// When it was made.
    pub(super) made: Timestamp,
    /// The key under which the cache has it.
    pub(super) key: Digest,
    /// How long it took in this build; `None` when it was there.
    pub(super) seconds: Option<f64>,
}

/// What a step builds on and reads.
#[derive(Debug, Clone)]
pub(crate) struct Stacks {
    /// The layers below.
    pub(crate) parent: Vec<DiffId>,
    /// The layers of each of [`Vertex::sources`].
    pub(crate) sources: Vec<Vec<DiffId>>,
}

impl Stacks {
    /// Returns the layers that `--from` of a copy names.
    fn source(&self) -> &[DiffId] {
        self.sources.first().map(Vec::as_slice).unwrap_or_default()
    }
}

/// A step that the cache lacks.
pub(super) struct Missing {
    stacks: Stacks,
    key: Key,
    /// A second key, which finds the step without reading its inputs.
    shortcut: Option<Key>,
    inputs: Option<Inputs>,
    mounts: MountInputs,
}

/// What the cache says.
pub(super) enum Lookup {
    Hit(Layer),
    Miss(Box<Missing>),
}

/// Looks a step up.
pub(super) fn look_up(
    environment: &Environment<'_>,
    vertex: &Vertex,
    stacks: Stacks,
) -> Result<Lookup, SolveError> {
    let epoch = environment.options.given_epoch();
    let parent = stacks.parent.as_slice();
    let mut mounts = MountInputs::default();
    let (key, shortcut, inputs) = match &vertex.operation {
        Operation::Run(step) => {
            mounts = MountInputs::of_context(environment, step)?;
            let key = |mounts: &MountInputs| {
                let mounts = mounts.ingredients(step, &stacks.sources);
                Key::run(step, parent, (&environment.options.sandbox, epoch), mounts)
            };
            let quick = key(&mounts);
            match mounts::reads_layers(step) {
                false => (quick, None, None),
                true => {
                    if let Some(layer) = recorded(environment, vertex, &quick)? {
                        return Ok(Lookup::Hit(layer));
                    }
                    mounts.add_layers(environment, step, &stacks.sources)?;
                    (key(&mounts), Some(quick), None)
                }
            }
        }
        Operation::Workdir(step) => (Key::workdir(step, parent, epoch), None, None),
        Operation::Files(files) => {
            let shortcut = match files.from {
                FilesFrom::Context => None,
                FilesFrom::Origin(_) => {
                    Some(Key::files_of_layers(files, parent, stacks.source(), epoch))
                }
            };
            if let Some(shortcut) = &shortcut
                && let Some(layer) = recorded(environment, vertex, shortcut)?
            {
                return Ok(Lookup::Hit(layer));
            }
            let mut inputs = Inputs::find(environment, files, stacks.source())?;
            let lines = std::mem::take(&mut inputs.lines);
            let key = Key::files(files, parent, lines, epoch);
            (key, shortcut, Some(inputs))
        }
    };
    if let Some(layer) = recorded(environment, vertex, &key)? {
        if let Some(shortcut) = &shortcut {
            let record = record(vertex, &stacks, shortcut, &layer);
            environment.build.store.put_step(&record)?;
        }
        return Ok(Lookup::Hit(layer));
    }
    Ok(Lookup::Miss(Box::new(Missing {
        stacks,
        key,
        shortcut,
        inputs,
        mounts,
    })))
}

/// Returns the layer that the cache has under a key.
fn recorded(
    environment: &Environment<'_>,
    vertex: &Vertex,
    key: &Key,
) -> Result<Option<Layer>, SolveError> {
    let uncached = &environment.options.uncached_stages;
    let is_stage = |name: &String| name.eq_ignore_ascii_case(&vertex.stage);
    if environment.options.cache == CacheUse::Ignore || uncached.iter().any(is_stage) {
        return Ok(None);
    }
    let store = environment.build.store;
    let Some(record) = store.step_made(&key.digest)? else {
        return Ok(None);
    };
    let Some(diff_id) = record.layer else {
        return Ok(None);
    };
    if Timestamp::now().0.saturating_sub(record.last_used.0) > TOUCH_NANOSECONDS {
        store.touch_step(&key.digest)?;
    }
    Ok(Some(Layer {
        diff_id,
        created: record.epoch.unwrap_or_default(),
        made: record.created,
        key: key.digest,
        seconds: None,
    }))
}

fn record(vertex: &Vertex, stacks: &Stacks, key: &Key, layer: &Layer) -> StepRecord {
    StepRecord {
        key: key.digest,
        instruction: vertex.instruction.clone(),
        layer: Some(layer.diff_id),
        parent_chain: ChainId::of(&stacks.parent),
        ingredients: recorded_ingredients(key, layer),
        seconds: layer.seconds.unwrap_or_default(),
        created: layer.made,
        last_used: Timestamp::now(),
        content_size: 0,
    }
}

/// Returns what is stored of a key: what it was made of, and beside it the epoch of the layer,
/// which is no part of it.
fn recorded_ingredients(key: &Key, layer: &Layer) -> Value {
    json!({ "key": key.ingredients, "epoch": layer.created })
}

/// Makes the layer of a step, and records it.
pub(super) fn make(
    environment: &Environment<'_>,
    vertex: &Vertex,
    missing: Missing,
    step: &Step<'_>,
) -> Result<Layer, SolveError> {
    let started = Instant::now();
    let store = environment.build.store;
    let epoch = environment.epoch()?;
    let parent = missing.stacks.parent.as_slice();
    let scratch = store.scratch()?;
    let mut writer = LayerWriter::create(scratch.path())?;
    match &vertex.operation {
        Operation::Run(run_step) => {
            let inputs = (&missing.stacks, missing.mounts);
            run::run(environment, run_step, inputs, (step, &mut writer))?;
        }
        Operation::Workdir(workdir) => {
            write_workdir(environment, workdir, parent, (step, &mut writer))?;
        }
        Operation::Files(files) => {
            let inputs = match missing.inputs {
                Some(inputs) => inputs,
                None => Inputs::find(environment, files, missing.stacks.source())?,
            };
            inputs.write(environment, files, parent, (Some(step), &mut writer))?;
        }
    }
    let ingested = commit(environment, scratch, writer)?;
    let layer = Layer {
        diff_id: ingested.diff_id,
        created: epoch.seconds,
        made: Timestamp::now(),
        key: missing.key.digest,
        seconds: Some(started.elapsed().as_secs_f64()),
    };
    let record = StepRecord {
        content_size: ingested.content_size,
        ..record(vertex, &missing.stacks, &missing.key, &layer)
    };
    store.put_step(&record)?;
    if let Some(shortcut) = &missing.shortcut {
        store.put_step(&StepRecord {
            key: shortcut.digest,
            ingredients: recorded_ingredients(shortcut, &layer),
            ..record
        })?;
    }
    Ok(layer)
}

fn commit(
    environment: &Environment<'_>,
    scratch: Scratch,
    writer: LayerWriter,
) -> Result<Ingested, SolveError> {
    let ingested = writer.finish()?;
    let layer = NewLayer {
        diff_id: ingested.diff_id,
        tar_size: ingested.tar_size,
        content_size: ingested.content_size,
        entries: ingested.entries,
    };
    environment.build.store.commit_layer(scratch, &layer)?;
    Ok(ingested)
}
