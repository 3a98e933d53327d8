//! The result of a build: its configuration, recorded and tagged.

use std::time::Duration;

use oci::ImageConfig;
use store::{NewImage, Timestamp};

use crate::lower::{Graph, PlannedHistory};
use crate::progress::Progress;
use crate::solve::{Outcome, result_layers};
use crate::{BuildContext, BuildOptions, Built, SolveError};

/// Puts the image together, records and tags it.
pub(crate) fn export(
    context: &BuildContext<'_>,
    options: &BuildOptions,
    (graph, outcome): (&Graph, &Outcome),
    progress: &Progress<'_>,
) -> Result<Built, SolveError> {
    let step = progress.start("exporting to image");
    let config = assemble(graph, outcome, options).to_bytes();
    step.status("exporting layers".to_owned(), Duration::ZERO);
    let id = context.store.put_image(&NewImage {
        config: &config,
        manifest: None,
        parent: None,
    })?;
    step.status(format!("writing image {id}"), Duration::ZERO);
    for tag in &options.tags {
        context.store.tag(tag, &id, None)?;
        step.status(format!("naming to {tag}"), Duration::ZERO);
    }
    step.done();
    Ok(Built {
        id,
        config,
        executed: outcome.executed(),
        cached: outcome.cached(),
    })
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
    let first_new = result.history.iter().find_map(|entry| match entry {
        PlannedHistory::Layer { .. } => own_time(entry),
        PlannedHistory::Base(_) | PlannedHistory::Metadata { .. } => None,
    });
    let last_known = result.history.iter().rev().find_map(own_time);
    let mut current = first_new
        .or(last_known)
        .or(options.given_epoch().map(rfc3339));
    let mut history = Vec::with_capacity(result.history.len());
    for entry in &result.history {
        if let (PlannedHistory::Layer { .. }, Some(time)) = (entry, own_time(entry)) {
            current = Some(time);
        }
        history.push(entry.entry(current.clone()));
    }
    config.created = history.last().and_then(|entry| entry.created.clone());
    config.history = history;
    config
}
