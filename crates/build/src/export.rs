//! The result of a build: its configuration, recorded and tagged.

use std::time::{Duration, Instant};

use oci::{Descriptor, Digest, History, ImageConfig, ImageId, Reference};
use store::{NewImage, Timestamp};

use crate::lower::{Graph, Lowered, PlannedHistory};
use crate::progress::Progress;
use crate::solve::{Outcome, result_layers};
use crate::step_cache::StepCache;
use crate::{
    BuildContext, BuildOptions, Built, BuiltStep, InlineCache, PlatformImage, ResultKind,
    SolveError, index,
};

/// Puts the images together, records and tags them.
pub(crate) fn export(
    context: &BuildContext<'_>,
    options: &BuildOptions,
    (graph, outcome): (&Graph, &Outcome),
    progress: &Progress<'_>,
) -> Result<Built, SolveError> {
    let steps = outcome.steps(graph);
    let results = options.platforms().zip(graph.results());
    let images: Vec<Assembled<'_>> = results
        .map(|(platform, result)| {
            let config = assemble((graph, result), outcome, options);
            let layers = config.rootfs.diff_ids.clone();
            let config = config_bytes(&config, options.inline_cache, &steps);
            let id = ImageId(Digest::of(&config));
            let image = PlatformImage {
                platform: platform.clone(),
                id,
                layers,
            };
            Assembled {
                result,
                image,
                config,
            }
        })
        .collect();
    let index = match options.result {
        ResultKind::Files => None,
        ResultKind::Image => record(context, options, (&images, outcome), progress)?,
    };
    let others = images.iter().map(|assembled| assembled.image.clone());
    let others = others.filter(|_| images.len() > 1).collect();
    let first = images.into_iter().next();
    let first = first.expect("invariant: there is a result for each platform");
    Ok(Built {
        id: first.image.id,
        layers: first.image.layers,
        config: first.config,
        images: others,
        index,
        executed: outcome.executed(),
        cached: outcome.cached(),
        steps,
        report: outcome.report(graph),
        bases: Vec::new(),
    })
}

/// An image, not recorded yet.
pub(crate) struct Assembled<'g> {
    result: &'g Lowered,
    pub(crate) image: PlatformImage,
    config: Vec<u8>,
}

/// Records the images; several get an index, which is returned.
fn record(
    context: &BuildContext<'_>,
    options: &BuildOptions,
    (images, outcome): (&[Assembled<'_>], &Outcome),
    progress: &Progress<'_>,
) -> Result<Option<Descriptor>, SolveError> {
    let step = progress.start("exporting to image");
    let put = |assembled: &Assembled<'_>, names: &[Reference]| {
        let times = times(context, assembled.result, outcome)?;
        let image = NewImage {
            config: &assembled.config,
            manifest: None,
            parent: None,
            times: &times,
        };
        Ok(context.store.put_named_image(&image, names)?)
    };
    let exporting = Instant::now();
    let index = match images {
        [only] => {
            step.status("exporting layers".to_owned(), Duration::ZERO);
            let id = put(only, &options.tags)?;
            step.status(format!("writing image {id}"), Duration::ZERO);
            None
        }
        several => {
            let status = |text| step.status(text, exporting.elapsed());
            match index::put(context.store, &options.tags, (several, &put), &status) {
                Ok(index) => Some(index),
                Err(error) => {
                    step.failed(error.step_message());
                    return Err(error);
                }
            }
        }
    };
    for tag in &options.tags {
        step.status(format!("naming to {tag}"), Duration::ZERO);
    }
    step.done();
    Ok(index)
}

fn config_bytes(config: &ImageConfig, inline: InlineCache, steps: &[BuiltStep]) -> Vec<u8> {
    match inline {
        InlineCache::Leave => config.to_bytes(),
        InlineCache::Add => {
            // One key for each, so that it is the same image whatever else a store remembers.
            let first = |step: &BuiltStep| Some((*step.keys.first()?, step.made.clone()));
            let cache = StepCache {
                steps: steps.iter().filter_map(first).collect(),
                layers: Vec::new(),
            };
            cache.add_to_config(config, &config.rootfs.diff_ids)
        }
    }
}

/// Returns the configuration of the result: times as BuildKit sets them. An entry without a
/// layer has the time of the layer before it, or of the first new layer; the image has that of
/// its last entry.
fn assemble(
    (graph, result): (&Graph, &Lowered),
    outcome: &Outcome,
    options: &BuildOptions,
) -> ImageConfig {
    let mut config = result.config.clone();
    config.rootfs.diff_ids = result_layers(outcome, graph, result);
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
    result: &Lowered,
    outcome: &Outcome,
) -> Result<Vec<Option<Timestamp>>, SolveError> {
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
