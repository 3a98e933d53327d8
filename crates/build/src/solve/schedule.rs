//! The order of steps: what is cached at once, what is missing in parallel.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use oci::{ChainId, DiffId};
use serde_json::{Value, json};
use store::Timestamp;

use super::Environment;
use super::files;
use super::step::{self, Layer, Lookup, Missing, Stacks};
use crate::emulation;
use crate::lower::{Graph, Lowered};
use crate::step_cache::CachedStep;
use crate::vertex::{Files, Operation, Origin, Vertex};
use crate::{BuiltStep, SolveError};

/// What solving gave.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    layers: BTreeMap<usize, Layer>,
}

impl Outcome {
    /// Returns the layer of a vertex and the epoch when it was made.
    pub(crate) fn layer(&self, vertex: usize) -> (DiffId, i64) {
        let layer = &self.layers[&vertex];
        (layer.diff_id, layer.created)
    }

    /// Returns when the layer of a vertex was made.
    pub(crate) fn made(&self, vertex: usize) -> Timestamp {
        self.layers[&vertex].made
    }

    /// Returns how many steps were made.
    pub(crate) fn executed(&self) -> usize {
        let made = |layer: &&Layer| layer.seconds.is_some();
        self.layers.values().filter(made).count()
    }

    /// Returns how many steps were there.
    pub(crate) fn cached(&self) -> usize {
        self.layers.len() - self.executed()
    }

    /// Returns the steps in the order of the Dockerfile.
    pub(crate) fn steps(&self, graph: &Graph) -> Vec<BuiltStep> {
        let places: Vec<usize> = self.layers.keys().copied().collect();
        let step = |(index, layer): (&usize, &Layer)| {
            let origin = &graph.vertices[*index].origin;
            let parent = match origin {
                Origin::Vertex(parent) => places.binary_search(parent).ok(),
                Origin::Layers(_) => None,
            };
            let below = stack(self, graph, origin);
            let below = below.expect("invariant: solving gave every layer that was needed");
            let seconds = layer.pending.as_ref().map(|record| record.seconds);
            let mut keys = vec![layer.quick];
            keys.extend((layer.key != layer.quick).then_some(layer.key));
            BuiltStep {
                keys,
                made: CachedStep {
                    layer: layer.diff_id,
                    parent_chain: ChainId::of(&below),
                    epoch: layer.created,
                    seconds: layer.seconds.or(seconds).unwrap_or_default(),
                    made: Some(layer.made),
                },
                parent,
            }
        };
        self.layers.iter().map(step).collect()
    }

    /// Returns what the record of the build keeps of its steps.
    pub(crate) fn report(&self, graph: &Graph) -> Value {
        let step = |(index, layer): (&usize, &Layer)| {
            let vertex = &graph.vertices[*index];
            json!({
                "name": vertex.name,
                "line": vertex.span.start,
                "key": layer.key.to_string(),
                "layer": layer.diff_id.to_string(),
                "cached": layer.seconds.is_none(),
                "seconds": layer.seconds.unwrap_or_default(),
            })
        };
        self.layers.iter().map(step).collect()
    }
}

/// A step that failed.
pub(crate) struct Failure {
    pub(crate) vertex: usize,
    pub(crate) error: SolveError,
}

/// What the first look at the cache found.
pub(crate) struct LookedUp(State);

impl LookedUp {
    /// Fails with the first step that has to run and that nothing here can run.
    pub(crate) fn without_foreign(mut self, graph: &Graph) -> Self {
        let State { ready, waiting, .. } = &self.0;
        let missing = ready.iter().map(|(index, _)| index).chain(waiting);
        let mut missing: Vec<usize> = missing.copied().collect();
        missing.sort_unstable();
        let failure = |vertex: usize| {
            let step = &graph.vertices[vertex];
            let is_run = matches!(step.operation, Operation::Run(_));
            let lacks = is_run.then(|| emulation::missing(&step.platform))??;
            let error = SolveError::NoEmulation(Box::new(lacks));
            Some(Failure { vertex, error })
        };
        if self.0.failure.is_none() {
            self.0.failure = missing.into_iter().find_map(failure);
        }
        self
    }
}

/// Looks up what can be, and fetches what it needs of the layers that other builds made. When one
/// of those cannot be had, its steps are not found and what follows is looked up again.
pub(crate) fn look_up(environment: &Environment<'_>, graph: &Graph) -> LookedUp {
    loop {
        let Some(mut state) = first_look(environment, graph) else {
            continue;
        };
        match fetch_needed(environment, graph, &mut state) {
            Ok(true) => {}
            Ok(false) => continue,
            Err((vertex, error)) => state.failure = Some(Failure { vertex, error }),
        }
        environment.imports.become_eager();
        return LookedUp(state);
    }
}

/// Fetches the layers of other builds that the result is made of, or that steps read which are
/// not cached. Returns false when some cannot be had.
fn fetch_needed(
    environment: &Environment<'_>,
    graph: &Graph,
    state: &mut State,
) -> Result<bool, (usize, SolveError)> {
    let layers = &state.outcome.layers;
    if layers.values().all(|layer| layer.pending.is_none()) {
        return Ok(true);
    }
    let ready = state.ready.iter().map(|(index, _)| index);
    let mut origins: Vec<&Origin> = graph.results().map(|result| &result.origin).collect();
    for index in ready.chain(&state.waiting) {
        let vertex = &graph.vertices[*index];
        origins.push(&vertex.origin);
        origins.extend(vertex.sources());
    }
    let mut needed = BTreeSet::new();
    for mut origin in origins {
        while let Origin::Vertex(index) = origin {
            if layers
                .get(index)
                .is_some_and(|layer| layer.pending.is_some())
            {
                needed.insert(*index);
            }
            origin = &graph.vertices[*index].origin;
        }
    }
    let Some(first) = needed.first().copied() else {
        return Ok(true);
    };
    let wanted: Vec<DiffId> = needed.iter().map(|index| layers[index].diff_id).collect();
    let has_all = environment.fetch(&wanted).map_err(|error| (first, error))?;
    for index in needed.into_iter().filter(|_| has_all) {
        let layer = state.outcome.layers.get_mut(&index);
        let layer = layer.expect("invariant: what is needed was found");
        step::settle(environment, layer).map_err(|error| (index, error))?;
    }
    Ok(has_all)
}

/// Looks up what can be, without a thread: a step that the cache lacks ends it for those that
/// read its layer. `None` when it must be done again.
fn first_look(environment: &Environment<'_>, graph: &Graph) -> Option<State> {
    let mut state = State::default();
    for index in needed(graph) {
        let vertex = &graph.vertices[index];
        let Some(stacks) = stacks(&state.outcome, graph, vertex) else {
            state.waiting.push(index);
            continue;
        };
        match step::look_up(environment, vertex, stacks) {
            Ok(Lookup::Hit(layer)) => {
                state.outcome.layers.insert(index, layer);
            }
            Ok(Lookup::Miss(missing)) => state.ready.push_back((index, Some(missing))),
            Ok(Lookup::Lost) => return None,
            Err(error) => {
                let vertex = index;
                state.failure = Some(Failure { vertex, error });
                break;
            }
        }
    }
    Some(state)
}

/// Tells what was found, and makes what the cache lacks, on up to `jobs` threads, a vertex as soon as what it reads is
/// there. The first failure ends the others.
pub(crate) fn make(
    environment: &Environment<'_>,
    graph: &Graph,
    LookedUp(state): LookedUp,
) -> Result<Outcome, Failure> {
    for index in state.outcome.layers.keys() {
        let name = &graph.vertices[*index].name;
        environment.progress.start(name).cached();
    }
    if let Some(failure) = state.failure {
        let name = &graph.vertices[failure.vertex].name;
        let message = failure.error.step_message();
        environment.progress.start(name).failed(message);
        return Err(failure);
    }
    if state.ready.is_empty() {
        return Ok(state.outcome);
    }
    let jobs = environment.options.jobs.max(1);
    let threads = jobs.min(state.ready.len() + state.waiting.len());
    let later = context_files(graph, &state.waiting);
    let pool = Pool {
        environment,
        graph,
        state: Mutex::new(state),
        changed: Condvar::new(),
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| pool.work());
        }
        if !later.is_empty() {
            scope.spawn(|| {
                for files in later {
                    // The step tells what failed, when its turn comes.
                    files::read_ahead(environment, files).unwrap_or_default();
                }
            });
        }
        pool.work();
    });
    let state = pool
        .state
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    match state.failure {
        Some(failure) => Err(failure),
        None => Ok(state.outcome),
    }
}

#[derive(Default)]
struct State {
    outcome: Outcome,
    ready: VecDeque<(usize, Option<Box<Missing>>)>,
    /// What reads layers that are not there yet.
    waiting: Vec<usize>,
    running: usize,
    failure: Option<Failure>,
}

struct Pool<'a> {
    environment: &'a Environment<'a>,
    graph: &'a Graph,
    state: Mutex<State>,
    changed: Condvar,
}

impl Pool<'_> {
    fn work(&self) {
        while let Some((index, missing)) = self.take() {
            let vertex = &self.graph.vertices[index];
            let result = self.step(vertex, missing);
            let mut state = self.lock();
            state.running -= 1;
            match result {
                Ok(layer) => {
                    state.outcome.layers.insert(index, layer);
                    self.release(&mut state);
                }
                Err(error) => {
                    self.environment.fail();
                    let is_first = state.failure.is_none();
                    if is_first {
                        state.failure = Some(Failure {
                            vertex: index,
                            error,
                        });
                    }
                }
            }
            self.changed.notify_all();
        }
    }

    /// Waits for a vertex that can start; `None` when there will be none.
    fn take(&self) -> Option<(usize, Option<Box<Missing>>)> {
        let mut state = self.lock();
        loop {
            if state.failure.is_some() {
                return None;
            }
            if let Some(next) = state.ready.pop_front() {
                state.running += 1;
                return Some(next);
            }
            if state.running == 0 {
                return None;
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn step(&self, vertex: &Vertex, missing: Option<Box<Missing>>) -> Result<Layer, SolveError> {
        let step = self.environment.progress.start(&vertex.name);
        let result = match self.find_or_make(vertex, missing, &step) {
            Err(_) if self.environment.is_canceled() => Err(SolveError::Canceled),
            result => result,
        };
        match &result {
            Ok(layer) if layer.seconds.is_none() => step.cached(),
            Ok(_) => step.done(),
            Err(error) => step.failed(error.step_message()),
        }
        result
    }

    fn find_or_make(
        &self,
        vertex: &Vertex,
        missing: Option<Box<Missing>>,
        step: &crate::progress::Step<'_>,
    ) -> Result<Layer, SolveError> {
        if self.environment.is_canceled() {
            return Err(SolveError::Canceled);
        }
        let missing = match missing {
            Some(missing) => missing,
            None => loop {
                let stacks = stacks(&self.lock().outcome, self.graph, vertex)
                    .expect("invariant: a vertex is ready when what it reads is there");
                match step::look_up(self.environment, vertex, stacks)? {
                    Lookup::Hit(layer) => return Ok(layer),
                    Lookup::Miss(missing) => break missing,
                    // What is lost once is not waited for again.
                    Lookup::Lost => {}
                }
            },
        };
        step::make(self.environment, vertex, *missing, step)
    }

    /// Moves vertices that can start now.
    fn release(&self, state: &mut State) {
        let waiting = std::mem::take(&mut state.waiting);
        for index in waiting {
            let vertex = &self.graph.vertices[index];
            match stacks(&state.outcome, self.graph, vertex) {
                Some(_) => state.ready.push_back((index, None)),
                None => state.waiting.push(index),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the vertices that the result is made of, and what they read, parents first.
fn needed(graph: &Graph) -> Vec<usize> {
    let mut marked = vec![false; graph.vertices.len()];
    let mut open: Vec<&Origin> = graph.results().map(|result| &result.origin).collect();
    while let Some(origin) = open.pop() {
        let Origin::Vertex(index) = origin else {
            continue;
        };
        if std::mem::replace(&mut marked[*index], true) {
            continue;
        }
        let vertex = &graph.vertices[*index];
        open.push(&vertex.origin);
        open.extend(vertex.sources());
    }
    (0..marked.len()).filter(|index| marked[*index]).collect()
}

/// Returns those of the vertices that copy from the context.
fn context_files<'g>(graph: &'g Graph, vertices: &[usize]) -> Vec<&'g Files> {
    let of = |index: &usize| match &graph.vertices[*index].operation {
        Operation::Files(files) if files.from.origin().is_none() => Some(files),
        Operation::Files(_) | Operation::Run(_) | Operation::Workdir(_) => None,
    };
    vertices.iter().filter_map(of).collect()
}

/// Returns the layers that a vertex builds on and reads, when they are all there.
fn stacks(outcome: &Outcome, graph: &Graph, vertex: &Vertex) -> Option<Stacks> {
    let sources = vertex.sources();
    let sources = sources.iter().map(|origin| stack(outcome, graph, origin));
    Some(Stacks {
        parent: stack(outcome, graph, &vertex.origin)?,
        sources: sources.collect::<Option<_>>()?,
    })
}

/// Returns the layers of an origin, bottom first.
fn stack(outcome: &Outcome, graph: &Graph, origin: &Origin) -> Option<Vec<DiffId>> {
    let mut above = Vec::new();
    let mut origin = origin;
    let mut layers = loop {
        match origin {
            Origin::Layers(layers) => break layers.clone(),
            Origin::Vertex(index) => {
                above.push(outcome.layers.get(index)?.diff_id);
                origin = &graph.vertices[*index].origin;
            }
        }
    };
    layers.extend(above.into_iter().rev());
    Some(layers)
}

/// Returns the layers of a result, bottom first.
pub(crate) fn result_layers(outcome: &Outcome, graph: &Graph, result: &Lowered) -> Vec<DiffId> {
    stack(outcome, graph, &result.origin)
        .expect("invariant: solving gave every layer of the result")
}
