//! The result of a build: its configuration, recorded and tagged.

use std::time::Duration;

use oci::{Digest, History, ImageConfig, ImageId};
use store::{NewImage, Timestamp};

use crate::lower::{Graph, Lowered, PlannedHistory};
use crate::progress::Progress;
use crate::solve::{Outcome, result_layers};
use crate::step_cache::StepCache;
use crate::{BuildContext, BuildOptions, Built, BuiltStep, InlineCache, ResultKind, SolveError};

/// Puts the image together, records and tags it.
pub(crate) fn export(
    context: &BuildContext<'_>,
    options: &BuildOptions,
    (graph, outcome): (&Graph, &Outcome),
    progress: &Progress<'_>,
) -> Result<Built, SolveError> {
    let assembled = assemble(graph, outcome, options);
    let steps = outcome.steps(graph);
    let config = match options.inline_cache {
        InlineCache::Leave => assembled.to_bytes(),
        InlineCache::Add => {
            // One key for each, so that it is the same image whatever else a store remembers.
            let first = |step: &BuiltStep| Some((*step.keys.first()?, step.made.clone()));
            let cache = StepCache {
                steps: steps.iter().filter_map(first).collect(),
                layers: Vec::new(),
            };
            cache.add_to_config(&assembled, &assembled.rootfs.diff_ids)
        }
    };
    let built = |id| Built {
        id,
        layers: assembled.rootfs.diff_ids.clone(),
        config: config.clone(),
        executed: outcome.executed(),
        cached: outcome.cached(),
        steps: steps.clone(),
        report: outcome.report(graph),
        bases: Vec::new(),
    };
    if options.result == ResultKind::Files {
        return Ok(built(ImageId(Digest::of(&config))));
    }
    let step = progress.start("exporting to image");
    let times = times(context, graph, outcome)?;
    step.status("exporting layers".to_owned(), Duration::ZERO);
    let image = NewImage {
        config: &config,
        manifest: None,
        parent: None,
        times: &times,
    };
    let id = context.store.put_named_image(&image, &options.tags)?;
    step.status(format!("writing image {id}"), Duration::ZERO);
    for tag in &options.tags {
        step.status(format!("naming to {tag}"), Duration::ZERO);
    }
    step.done();
    Ok(built(id))
}

/// Returns the configuration of the result: times as BuildKit sets them. An entry without a
/// layer has the time of the layer before it, or of the first new layer; the image has that of
/// its last entry.
fn assemble(graph: &Graph, outcome: &Outcome, options: &BuildOptions) -> ImageConfig {
    let result = &graph.result;
    let mut config = result.config.clone();
    config.rootfs.diff_ids = result_layers(outcome, graph);
    config.config.labels.extend(options.labels.clone());
    let rfc3339 = |seconds: i64| Timestamp(seconds.saturating_mul(1_000_000_000)).to_string();
    let own_time = |entry: &PlannedHistory| match entry {
        PlannedHistory::Base(history) => history.created.clone(),
        PlannedHistory::Metadata { .. } => None,
        PlannedHistory::Layer { vertex, .. } => Some(rfc3339(outcome.layer(*vertex).1)),
    };
    let last_known = result.history.iter().rev().find_map(own_time);
    let otherwise = last_known.or(options.given_epoch().map(rfc3339));
    let times = new_times(result, |vertex| rfc3339(outcome.layer(vertex).1), otherwise);
    let entries = result.history.iter().zip(times);
    let history: Vec<History> = entries.map(|(entry, time)| entry.entry(time)).collect();
    config.created = history.last().and_then(|entry| entry.created.clone());
    config.history = history;
    config
}

/// Returns the time of each entry if the build had made it: that of its layer or of the layer
/// before it, of the first one before that, or `otherwise`.
fn new_times<T: Clone>(
    result: &Lowered,
    time: impl Fn(usize) -> T,
    otherwise: Option<T>,
) -> Vec<Option<T>> {
    let own = |entry: &PlannedHistory| match entry {
        PlannedHistory::Layer { vertex, .. } => Some(time(*vertex)),
        PlannedHistory::Base(_) | PlannedHistory::Metadata { .. } => None,
    };
    let mut current = result.history.iter().find_map(own).or(otherwise);
    let entries = result.history.iter();
    let times = entries.map(|entry| {
        current = own(entry).or(current.take());
        current.clone()
    });
    times.collect()
}

/// Returns when the entries of the history were made, here or where the base image was.
fn times(
    context: &BuildContext<'_>,
    graph: &Graph,
    outcome: &Outcome,
) -> Result<Vec<Option<Timestamp>>, SolveError> {
    let result = &graph.result;
    let mut times = new_times(result, |vertex| outcome.made(vertex), None);
    let of_base = match &result.base {
        Some(base) => context.store.image_times(base)?,
        None => Vec::new(),
    };
    let entries = result.history.iter().zip(&mut times).enumerate();
    for (index, (entry, time)) in entries {
        if matches!(entry, PlannedHistory::Base(_)) {
            *time = of_base.get(index).copied().flatten();
        }
    }
    Ok(times)
}
