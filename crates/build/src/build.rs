//! The whole way from a Dockerfile to an image in the store.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use dockerfile::{Dockerfile, Span};
use oci::{ImageConfig, ImageId, Platform, Reference};
use serde_json::json;
use store::{BuildRecord, NewImage, Timestamp};

use crate::base::BaseImage;
use crate::context::{Context, Digests, read_patterns};
use crate::located::Located;
use crate::lower::{Graph, LowerError, PlannedHistory, lower};
use crate::plan::{Plan, PlanOptions, plan};
use crate::progress::Progress;
use crate::solve::{self, Environment, Failure, Outcome, result_layers};
use crate::vertex::{FilesFrom, Operation};
use crate::{BuildContext, BuildError, BuildOptions, Event, Location, SolveError};

/// What a build gave.
#[derive(Debug, Clone)]
pub struct Built {
    /// The image; it is in the store and carries the tags that were asked for.
    pub id: ImageId,
    /// Its configuration, byte for byte.
    pub config: Vec<u8>,
    /// Steps that made a layer.
    pub executed: usize,
    /// Steps whose layer was there already.
    pub cached: usize,
}

/// Builds an image from a Dockerfile and tags it. Nothing is tagged when a step fails; the
/// layers of the steps before it stay in the cache.
pub fn build(context: &BuildContext<'_>, options: &BuildOptions) -> Result<Built, BuildError> {
    let started = (Timestamp::now(), Instant::now());
    let progress = Progress::new(context.progress);
    let faults = Faults { options };
    let dockerfile = parse(&progress, &faults)?;
    let plan = plan(
        &dockerfile,
        &PlanOptions {
            target: options.target.as_deref(),
            build_args: &options.build_args,
            platform: &options.platform,
            build_platform: &Platform::host(),
        },
    )
    .map_err(|located| faults.located(located.map(SolveError::from)))?;
    let mut bases = Bases::default();
    bases.fetch(context, &plan, &progress, &faults)?;
    let mut images =
        |reference: &Reference, platform: &Platform| bases.get(context, reference, platform);
    let graph = lower(&plan, &options.build_args, &mut images)
        .map_err(|located| faults.located(located.map(SolveError::from)))?;
    let outcome = solve_graph(context, options, (&graph, &bases), &progress, &faults)?;
    let built = export(context, options, (&graph, outcome), &progress);
    let built = built.map_err(|error| faults.located(Located::nowhere(error)))?;
    let record = BuildRecord {
        name: options
            .tags
            .first()
            .map_or_else(|| built.id.to_string(), Reference::familiar),
        dockerfile: options.dockerfile_name.clone(),
        started: started.0,
        seconds: started.1.elapsed().as_secs_f64(),
        steps: json!({ "cached": built.cached, "executed": built.executed }),
    };
    let recorded = context.store.put_build(&record);
    recorded.map_err(|error| faults.located(Located::nowhere(error)))?;
    Ok(built)
}

fn parse(progress: &Progress<'_>, faults: &Faults<'_>) -> Result<Dockerfile, BuildError> {
    let options = faults.options;
    let name = format!(
        "[internal] load build definition from {}",
        options.dockerfile_name
    );
    let step = progress.start(&name);
    let size = format_size(options.dockerfile.len());
    step.status(format!("transferring dockerfile: {size}"), step.elapsed());
    let parsed = dockerfile::parse(&options.dockerfile);
    if let Ok(dockerfile) = &parsed {
        for warning in &dockerfile.warnings {
            progress.send(Event::Warning {
                rule: warning.rule.to_owned(),
                message: warning.message.clone(),
                line: usize::try_from(warning.span.start).unwrap_or_default(),
            });
        }
    }
    step.done();
    parsed.map_err(|error| faults.parse(error))
}

/// Base images that were asked for.
#[derive(Default)]
struct Bases(Vec<(Reference, Platform, BaseImage)>);

impl Bases {
    /// Asks for all images that the plan names, at the same time.
    fn fetch(
        &mut self,
        context: &BuildContext<'_>,
        plan: &Plan,
        progress: &Progress<'_>,
        faults: &Faults<'_>,
    ) -> Result<(), BuildError> {
        let images = plan.images();
        let fetch = |(reference, platform, span): &(Reference, Platform, Span)| {
            let name = format!("[internal] load metadata for {reference}");
            let step = progress.start(&name);
            match context.base_images.base_image(reference, platform) {
                Ok(image) => {
                    step.done();
                    Ok((reference.clone(), platform.clone(), image))
                }
                Err(source) => {
                    step.failed(source.to_string());
                    let error = LowerError::BaseImage {
                        name: reference.familiar(),
                        reference: reference.to_string(),
                        source,
                    };
                    let located = Located::at_word(*span, "", SolveError::from(error));
                    let error = faults.located(located);
                    Err(BuildError {
                        step: Some(name),
                        ..error
                    })
                }
            }
        };
        if let [only] = images.as_slice() {
            self.0.push(fetch(only)?);
            return Ok(());
        }
        let results = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for image in &images {
                scope.spawn(|| {
                    let result = fetch(image);
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.push(result);
                });
            }
        });
        for result in results.into_inner().unwrap_or_else(PoisonError::into_inner) {
            self.0.push(result?);
        }
        Ok(())
    }

    fn get(
        &self,
        context: &BuildContext<'_>,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ImageConfig, crate::BaseImageError> {
        let known = self
            .0
            .iter()
            .find(|(r, p, _)| r == reference && p == platform);
        match known {
            Some((_, _, image)) => Ok(image.config.clone()),
            // A trigger of a base image names it.
            None => Ok(context.base_images.base_image(reference, platform)?.config),
        }
    }

    /// Returns when the newest of them was made.
    fn created(&self) -> Option<layer::Timestamp> {
        let created = |(_, _, image): &(_, _, BaseImage)| {
            let text = image.config.created.as_deref()?;
            let time = Timestamp::parse(text)?;
            Some(layer::Timestamp {
                seconds: time.0.div_euclid(1_000_000_000),
                nanoseconds: 0,
            })
        };
        self.0.iter().filter_map(created).max()
    }
}

fn solve_graph(
    context: &BuildContext<'_>,
    options: &BuildOptions,
    (graph, bases): (&Graph, &Bases),
    progress: &Progress<'_>,
    faults: &Faults<'_>,
) -> Result<Outcome, BuildError> {
    let nowhere = |error: SolveError| faults.located(Located::nowhere(error));
    let ignore = progress.start("[internal] load .dockerignore");
    let root = options.context.as_deref();
    let patterns = read_patterns(options.dockerfile_path.as_deref(), root)
        .map_err(|error| nowhere(error.into()))?;
    ignore.done();
    for base in &graph.bases {
        progress.start(base).done();
    }
    let directory = Context::open(root, patterns).map_err(|error| nowhere(error.into()))?;
    let cache = root.unwrap_or(std::path::Path::new(""));
    let digests = Digests::new(&directory, context.store.stat_cache_path(cache));
    let mut environment = Environment::new(context, options, (&directory, &digests), progress);
    environment.base_created = bases.created();
    let reads_context = graph.vertices.iter().any(|vertex| {
        matches!(&vertex.operation, Operation::Files(files) if files.from == FilesFrom::Context)
    });
    let loading = reads_context.then(|| progress.start("[internal] load build context"));
    let loaded = Mutex::new(loading);
    let finish_loading = || {
        let mut loading = loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(step) = loading.take() {
            let size = format_size(usize::try_from(digests.hashed()).unwrap_or(usize::MAX));
            step.status(format!("transferring context: {size}"), step.elapsed());
            step.done();
        }
    };
    let finish = |failure: Failure| {
        finish_loading();
        faults.failure(graph, failure)
    };
    let outcome = solve::solve(&environment, graph, &finish);
    finish_loading();
    digests.save();
    outcome
}

/// Puts the image together, records and tags it.
fn export(
    context: &BuildContext<'_>,
    options: &BuildOptions,
    (graph, outcome): (&Graph, Outcome),
    progress: &Progress<'_>,
) -> Result<Built, SolveError> {
    let step = progress.start("exporting to image");
    let config = assemble(graph, &outcome, options).to_bytes();
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
        executed: outcome.executed,
        cached: outcome.cached,
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
    let mut current = first_new.or(last_known).or(options.epoch.map(rfc3339));
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

/// Turns errors into build errors with a place in the Dockerfile.
struct Faults<'a> {
    options: &'a BuildOptions,
}

impl Faults<'_> {
    fn parse(&self, error: dockerfile::ParseError) -> BuildError {
        let (span, line, column) = (error.span, error.line, error.column);
        let location = span.map(|span| Location {
            line: usize::try_from(line).unwrap_or_default(),
            column: usize::try_from(column).unwrap_or_default(),
            ..self.location(span, None)
        });
        BuildError {
            error: Box::new(error.into()),
            location,
            step: None,
        }
    }

    fn located(&self, located: Located<SolveError>) -> BuildError {
        let word = located.word.as_deref();
        BuildError {
            location: located.span.map(|span| self.location(span, word)),
            error: Box::new(located.error),
            step: None,
        }
    }

    fn failure(&self, graph: &Graph, failure: Failure) -> BuildError {
        let vertex = &graph.vertices[failure.vertex];
        let word = match &failure.error {
            SolveError::Copy(crate::CopyError::NotFound { path, .. }) => {
                Some(path.trim_start_matches('/').to_owned())
            }
            _ => None,
        };
        BuildError {
            location: Some(self.location(vertex.span, word.as_deref())),
            error: Box::new(failure.error),
            step: Some(vertex.name.clone()),
        }
    }

    /// Returns the place of a word in the lines of `span`, or of the instruction.
    fn location(&self, span: Span, word: Option<&str>) -> Location {
        let text = String::from_utf8_lossy(&self.options.dockerfile);
        let number = |line: u32| usize::try_from(line).unwrap_or_default();
        let (first, last) = (number(span.start), number(span.end));
        let lines = text.lines().enumerate().map(|(at, text)| (at + 1, text));
        let mut lines = lines.filter(|(line, _)| (first..=last).contains(line));
        let word = word.filter(|word| !word.is_empty());
        let found = word.and_then(|word| {
            lines.find_map(|(line, text)| {
                let at = text.find(word)?;
                Some((line, text[..at].chars().count() + 1))
            })
        });
        let (line, column) = found.unwrap_or((first, 1));
        Location {
            file: self.options.dockerfile_name.clone(),
            line,
            column,
            excerpt: dockerfile::excerpt(
                &self.options.dockerfile_name,
                &self.options.dockerfile,
                span,
            ),
        }
    }
}

/// Returns a size as docker writes it: `2B`, `1.05kB`.
fn format_size(bytes: usize) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut thousandths = u128::try_from(bytes)
        .unwrap_or(u128::MAX)
        .saturating_mul(1000);
    let mut unit = 0;
    while thousandths >= 1_000_000 && unit + 1 < UNITS.len() {
        thousandths /= 1000;
        unit += 1;
    }
    let (whole, fraction) = (thousandths / 1000, thousandths % 1000);
    // Four significant digits are Go's `%.4g`; docker trims to what is shown here.
    let digits = match whole {
        0..=9 => 2,
        10..=99 => 2,
        _ => 1,
    };
    let fraction = format!("{fraction:03}");
    let fraction = fraction[..digits].trim_end_matches('0');
    match (unit, fraction) {
        (0, _) | (_, "") => format!("{whole}{}", UNITS[unit]),
        (_, fraction) => format!("{whole}.{fraction}{}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_dockers() {
        for (bytes, expected) in [
            (0, "0B"),
            (2, "2B"),
            (616, "616B"),
            (1_050, "1.05kB"),
            (200_000_000, "200MB"),
        ] {
            assert_eq!(format_size(bytes), expected);
        }
    }
}
