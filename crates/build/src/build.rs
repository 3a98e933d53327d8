//! The whole way from a Dockerfile to an image in the store.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use dockerfile::Dockerfile;
use oci::{ImageId, Platform, Reference};
use serde_json::json;
use store::{BuildRecord, Timestamp};

use crate::bases::Bases;
use crate::context::{Context, Digests, read_patterns};
use crate::export::export;
use crate::fault::Faults;
use crate::located::Located;
use crate::lower::{Graph, lower};
use crate::plan::{PlanOptions, plan};
use crate::progress::Progress;
use crate::size::format_size;
use crate::solve::{self, Environment, Failure, Outcome};
use crate::vertex::{FilesFrom, Operation};
use crate::{BuildContext, BuildError, BuildOptions, Event, SolveError};

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

/// Reading the Dockerfile, `.dockerignore` and the context, and the export.
const INTERNAL_STEPS: usize = 4;

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
    let internal = bases.len() + graph.bases.len() + INTERNAL_STEPS;
    progress.send(Event::Planned {
        steps: internal + graph.vertices.len(),
    });
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
                rule: warning.rule.name().to_owned(),
                message: warning.message.clone(),
                line: usize::try_from(warning.span.start).unwrap_or_default(),
            });
        }
    }
    step.done();
    parsed.map_err(|error| faults.parse(error))
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
    let cache = root.unwrap_or(Path::new(""));
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
