//! One step: looked up in the cache, or made.

use std::time::Instant;

use layer::{Ingested, LayerWriter};
use oci::{ChainId, DiffId, Digest};
use serde_json::{Value, json};
use store::{NewLayer, Scratch, StepRecord, Timestamp, Turn};

use super::Environment;
use super::files::{Inputs, write_workdir};
use super::key::Key;
use super::mounts::{self, MountInputs};
use crate::progress::Step;
use crate::vertex::{FilesFrom, Link, Operation, Vertex};
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
    /// The key that finds it without reading its inputs; the same for most steps.
    pub(super) quick: Digest,
    /// How long it took in this build; `None` when it was there.
    pub(super) seconds: Option<f64>,
    /// What is to be recorded of a step that another build made, when its layer is fetched.
    pub(super) pending: Option<Box<StepRecord>>,
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
    /// Layers that must be read to tell could not be fetched.
    Lost,
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
                    if let Some(layer) = recorded(environment, vertex, &stacks, &quick)? {
                        return Ok(Lookup::Hit(layer));
                    }
                    if !fetch_sources(environment, &stacks)? {
                        return Ok(Lookup::Lost);
                    }
                    mounts.add_layers(environment, step, &stacks.sources)?;
                    (key(&mounts), Some(quick), None)
                }
            }
        }
        Operation::Workdir(step) => (Key::workdir(step, parent, epoch), None, None),
        Operation::Files(files) => {
            let shortcut = match files.from {
                FilesFrom::Context(_) => None,
                FilesFrom::Origin(_) => {
                    Some(Key::files_of_layers(files, parent, stacks.source(), epoch))
                }
            };
            if let Some(shortcut) = &shortcut
                && let Some(layer) = recorded(environment, vertex, &stacks, shortcut)?
            {
                return Ok(Lookup::Hit(layer));
            }
            if !fetch_sources(environment, &stacks)? {
                return Ok(Lookup::Lost);
            }
            let mut inputs = Inputs::find(environment, files, stacks.source())?;
            let lines = std::mem::take(&mut inputs.lines);
            let key = Key::files(files, parent, lines, epoch);
            (key, shortcut, Some(inputs))
        }
    };
    if let Some(mut layer) = recorded(environment, vertex, &stacks, &key)? {
        if let Some(shortcut) = &shortcut {
            layer.quick = shortcut.digest;
        }
        if let Some(shortcut) = &shortcut
            && layer.pending.is_none()
        {
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

/// Brings the layers that a step reads into the store, if they are to be fetched.
fn fetch_sources(environment: &Environment<'_>, stacks: &Stacks) -> Result<bool, SolveError> {
    for layers in &stacks.sources {
        if !environment.fetch(layers)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns the layer that the cache has under a key, or one that the build imports.
fn recorded(
    environment: &Environment<'_>,
    vertex: &Vertex,
    stacks: &Stacks,
    key: &Key,
) -> Result<Option<Layer>, SolveError> {
    if ignores_cache(environment, vertex) {
        return Ok(None);
    }
    let store = environment.build.store;
    let Some(record) = store.step_made(&key.digest)? else {
        return imported(environment, vertex, stacks, key);
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
        quick: key.digest,
        seconds: None,
        pending: None,
    }))
}

/// Returns what another build made of a step. Its layer is there already, or fetched now, or
/// fetched when it turns out to be needed.
fn imported(
    environment: &Environment<'_>,
    vertex: &Vertex,
    stacks: &Stacks,
    key: &Key,
) -> Result<Option<Layer>, SolveError> {
    let store = environment.build.store;
    let parent = match &vertex.operation {
        // Its layer is the same on any other.
        Operation::Files(files) if files.link == Link::Apart => None,
        Operation::Files(_) | Operation::Run(_) | Operation::Workdir(_) => Some(&*stacks.parent),
    };
    let Some(found) = environment.imports.find(&key.digest, parent) else {
        return Ok(None);
    };
    let now = Timestamp::now();
    let mut layer = Layer {
        diff_id: found.layer,
        created: found.epoch,
        made: found.made.map_or(now, |made| made.min(now)),
        key: key.digest,
        quick: key.digest,
        seconds: None,
        pending: None,
    };
    let pending = StepRecord {
        seconds: found.seconds,
        ..record(vertex, stacks, key, &layer)
    };
    let here = environment
        .imports
        .is_eager()
        .then(|| environment.fetch(&[found.layer]));
    match here.transpose()? {
        Some(false) => return Ok(None),
        Some(true) => store.put_step(&with_size(environment, pending)?)?,
        None if store.has_layer(&found.layer)? => {
            store.put_step(&with_size(environment, pending)?)?;
        }
        None => layer.pending = Some(Box::new(pending)),
    }
    Ok(Some(layer))
}

/// Records a step that another build made, whose layer is in the store now.
pub(super) fn settle(environment: &Environment<'_>, layer: &mut Layer) -> Result<(), SolveError> {
    if let Some(pending) = layer.pending.take() {
        let record = with_size(environment, *pending)?;
        environment.build.store.put_step(&record)?;
    }
    Ok(())
}

fn with_size(environment: &Environment<'_>, record: StepRecord) -> Result<StepRecord, SolveError> {
    let content_size = match &record.layer {
        Some(layer) => environment
            .build
            .store
            .layer(layer)?
            .map(|it| it.content_size),
        None => None,
    };
    Ok(StepRecord {
        content_size: content_size.unwrap_or_default(),
        ..record
    })
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
    let store = environment.build.store;
    let epoch = environment.epoch()?;
    let parent = missing.stacks.parent.as_slice();
    let turn = turn(environment, vertex, &missing.key)?;
    if turn.is_some()
        && let Some(layer) = recorded(environment, vertex, &missing.stacks, &missing.key)?
    {
        return Ok(layer);
    }
    let started = Instant::now();
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
        quick: missing.shortcut.as_ref().unwrap_or(&missing.key).digest,
        seconds: Some(started.elapsed().as_secs_f64()),
        pending: None,
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
    drop(turn);
    Ok(layer)
}

/// Waits until no other build makes the same step. A build that uses no cache waits for nobody.
fn turn(
    environment: &Environment<'_>,
    vertex: &Vertex,
    key: &Key,
) -> Result<Option<Turn>, SolveError> {
    if ignores_cache(environment, vertex) {
        return Ok(None);
    }
    let (store, key) = (environment.build.store, key.digest);
    loop {
        if let Some(turn) = store.try_turn(&key)? {
            return Ok(Some(turn));
        }
        let store = store.clone();
        environment.wait_for(move || store.wait_for_turn(&key))?;
    }
}

fn ignores_cache(environment: &Environment<'_>, vertex: &Vertex) -> bool {
    let uncached = &environment.options.uncached_stages;
    let is_stage = |name: &String| name.eq_ignore_ascii_case(&vertex.stage);
    environment.options.cache == CacheUse::Ignore || uncached.iter().any(is_stage)
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
