//! The whole way from a Dockerfile to an image in the store.

use dockerfile::check::{self, CheckOptions, Coverage, Report, Settings};
use dockerfile::ignore::Patterns;
use dockerfile::{Dockerfile, Span};
use oci::{Descriptor, DiffId, Digest, ImageId, Platform, Reference};
use serde_json::Value;

use crate::bases::Bases;
use crate::context::read_patterns;
use crate::contexts;
use crate::export::export;
use crate::fault::Faults;
use crate::located::Located;
use crate::lower::{Graph, lower_all};
use crate::plan::{Plan, PlanOptions, plan};
use crate::progress::Progress;
use crate::size::format_size;
use crate::solve::{self, Environment, Imports, Outcome};
use crate::step_cache::CachedStep;
use crate::{BuildContext, BuildError, BuildOptions, Event, SolveError, variables};

/// What a build gave.
#[derive(Debug, Clone)]
pub struct Built {
    /// The image. When one was asked for, it is in the store and carries its tags.
    pub id: ImageId,
    /// Its layers, bottom first. The caller's lock keeps them.
    pub layers: Vec<DiffId>,
    /// Its configuration, byte for byte.
    pub config: Vec<u8>,
    /// The images, when there are several: that one is for the first platform.
    pub images: Vec<PlatformImage>,
    /// The index of the images, when there are several and they are wanted. The tags lead to it.
    pub index: Option<Descriptor>,
    /// Steps that made a layer.
    pub executed: usize,
    /// Steps whose layer was there already.
    pub cached: usize,
    /// The steps that its layers come of, and what they read, parents first.
    pub steps: Vec<BuiltStep>,
    /// For the record of the build, of each step: `name`, `line`, `key`, `layer`, `cached`,
    /// `seconds`.
    pub report: Value,
    /// The images that it was made of.
    pub bases: Vec<(Reference, Platform, ImageId)>,
}

/// The image for one of several platforms.
#[derive(Debug, Clone)]
pub struct PlatformImage {
    /// What it is for.
    pub platform: Platform,
    /// The image.
    pub id: ImageId,
    /// Its layers, bottom first. The caller's lock keeps them.
    pub layers: Vec<DiffId>,
}

/// A step as a build made or found it.
#[derive(Debug, Clone, PartialEq)]
pub struct BuiltStep {
    /// Keys under which it is found. The first is the one that every build of it knows, without
    /// reading files of other stages.
    pub keys: Vec<Digest>,
    /// What it made. The store has the layer unless another build made it and nothing needed it.
    pub made: CachedStep,
    /// The step that it builds on, as an index of [`Built::steps`].
    pub parent: Option<usize>,
}

/// Reading the Dockerfile, `.dockerignore` and the context, and the export.
const INTERNAL_STEPS: usize = 4;

/// Builds an image from a Dockerfile and tags it. Nothing is tagged when a step fails; the
/// layers of the steps before it stay in the cache.
pub fn build(context: &BuildContext<'_>, options: &BuildOptions) -> Result<Built, BuildError> {
    let progress = Progress::new(context.progress);
    let faults = Faults { options };
    let build_platform = Platform::host();
    let plan_options = PlanOptions::of(options, &build_platform);
    let (dockerfile, plan) = read(&progress, &faults, &plan_options)?;
    let others = options.other_platforms.iter();
    let others = others.map(|platform| plan_of(&dockerfile, &plan_options.on(platform), &faults));
    let others = others.collect::<Result<Vec<_>, _>>()?;
    let plans = (&plan, others.as_slice());
    let bases = Bases::fetch(context, plans, &progress, &faults)?;
    let patterns = load_patterns(options, &progress, |patterns| {
        lint(&dockerfile, &plan_options, (&bases, patterns), &progress)
    })?;
    let mut images = |reference: &Reference, platform: &Platform| {
        bases.get(context, options, (reference, platform))
    };
    let graph = lower_all(plans, &options.build_args, &mut images)
        .map_err(|located| faults.located(located.map(SolveError::from)))?;
    progress.send(Event::Planned {
        steps: bases.len() + graph.bases.len() + graph.vertices.len() + INTERNAL_STEPS,
    });
    let contexts = contexts::open(context, options, (patterns, &graph), &progress)?;
    let mut environment = Environment::new(context, options, contexts, &progress);
    environment.base_created = bases.created();
    environment.imports = Imports::load(context, options, &progress);
    let outcome = solve_graph(&environment, &graph, &faults);
    for (_, digests) in environment.contexts() {
        digests.save();
    }
    let outcome = outcome?;
    let mut built = export(context, options, (&graph, &outcome), &progress)?;
    built.bases = bases.list();
    export_caches(context, &built, &progress)?;
    Ok(built)
}

/// Writes the cache where it is wanted. The first failure that counts ends the build.
fn export_caches(
    context: &BuildContext<'_>,
    built: &Built,
    progress: &Progress<'_>,
) -> Result<(), BuildError> {
    for export in context.exports {
        let name = export.name();
        let step = progress.start(&name);
        match export.export(built, &|text| step.status(text, step.elapsed())) {
            Ok(()) => step.done(),
            Err(error) => {
                step.failed(error.to_string());
                if !export.may_fail() {
                    return Err(BuildError {
                        step: Some(name),
                        ..SolveError::CacheExport(error).into()
                    });
                }
            }
        }
    }
    Ok(())
}

/// Reads the Dockerfile, and finds its stages.
pub(crate) fn read(
    progress: &Progress<'_>,
    faults: &Faults<'_>,
    options: &PlanOptions<'_>,
) -> Result<(Dockerfile, Plan), BuildError> {
    let dockerfile = parse(progress, faults)?;
    let plan = plan_of(&dockerfile, options, faults)?;
    Ok((dockerfile, plan))
}

fn plan_of(
    dockerfile: &Dockerfile,
    options: &PlanOptions<'_>,
    faults: &Faults<'_>,
) -> Result<Plan, BuildError> {
    let planned = plan(dockerfile, options);
    planned.map_err(|located| faults.located(located.map(SolveError::from)))
}

pub(crate) fn parse(
    progress: &Progress<'_>,
    faults: &Faults<'_>,
) -> Result<Dockerfile, BuildError> {
    let options = faults.options;
    let name = &options.dockerfile_name;
    let step = progress.start(&format!("[internal] load build definition from {name}"));
    let size = format_size(options.dockerfile.len());
    step.status(format!("transferring dockerfile: {size}"), step.elapsed());
    let parsed = dockerfile::parse(&options.dockerfile);
    step.done();
    let dockerfile = parsed.map_err(|error| faults.parse(error))?;
    check_settings(&dockerfile).map_err(|located| faults.located(located))?;
    Ok(dockerfile)
}

fn check_settings(dockerfile: &Dockerfile) -> Result<(), Located<SolveError>> {
    let text = dockerfile.directives.check.as_deref().unwrap_or_default();
    let line = dockerfile.directives.check_line;
    let span = Span {
        start: line,
        end: line,
    };
    Settings::parse(text)
        .map(|_| ())
        .map_err(|error| Located::at_word(span, text, SolveError::CheckDirective(error)))
}

/// Reads `.dockerignore`, and lets `check` look at it while the step lasts.
pub(crate) fn load_patterns(
    options: &BuildOptions,
    progress: &Progress<'_>,
    check: impl FnOnce(&Patterns) -> Result<(), SolveError>,
) -> Result<Patterns, SolveError> {
    let step = progress.start("[internal] load .dockerignore");
    let place = &options.dockerfile_place;
    let patterns = match read_patterns(place, options.context.as_deref()) {
        Ok(patterns) => patterns,
        Err(error) => {
            step.failed(error.to_string());
            return Err(error.into());
        }
    };
    let checked = check(&patterns);
    step.done();
    checked.map(|()| patterns)
}

/// Tells what could be written better, and fails when the Dockerfile wants that.
fn lint(
    dockerfile: &Dockerfile,
    options: &PlanOptions<'_>,
    known: (&Bases, &Patterns),
    progress: &Progress<'_>,
) -> Result<(), SolveError> {
    let report = findings(dockerfile, options, known)?;
    for warning in report.warnings {
        progress.send(Event::Warning {
            rule: warning.rule.name().to_owned(),
            message: warning.message,
            line: usize::try_from(warning.span.start).unwrap_or_default(),
            url: warning.rule.url(),
        });
    }
    match report.error {
        Some(message) => Err(SolveError::Check(message)),
        None => Ok(()),
    }
}

/// Returns what could be written better.
pub(crate) fn findings(
    dockerfile: &Dockerfile,
    options: &PlanOptions<'_>,
    (bases, patterns): (&Bases, &Patterns),
) -> Result<Report, SolveError> {
    let stage = options.target.unwrap_or_default();
    let automatic = variables::automatic(options.platform, options.build_platform, stage);
    check::check(
        dockerfile,
        &CheckOptions {
            build_args: options.build_args,
            platform_args: &automatic.to_map(),
            coverage: Coverage::Target(options.target),
            ignore: Some(patterns),
            settings: None,
            base: &|name| bases.describe(name),
            is_image_name: &|name| Reference::parse(name).is_ok(),
        },
    )
    .map_err(SolveError::CheckDirective)
}

fn solve_graph(
    environment: &Environment<'_>,
    graph: &Graph,
    faults: &Faults<'_>,
) -> Result<Outcome, BuildError> {
    let progress = environment.progress;
    for base in &graph.bases {
        progress.start(base).done();
    }
    let read = contexts::read(graph);
    let load = |(name, digests)| {
        let text = match name {
            None => "[internal] load build context".to_owned(),
            Some(name) => format!("[context {name}] load from client"),
        };
        (progress.start(&text), digests)
    };
    let used = environment
        .contexts()
        .filter(|(name, _)| read.contains(name));
    let loading: Vec<_> = used.map(load).collect();
    let looked_up = solve::look_up(environment, graph);
    for (step, digests) in loading {
        let size = format_size(usize::try_from(digests.hashed()).unwrap_or(usize::MAX));
        step.status(format!("transferring context: {size}"), step.elapsed());
        step.done();
    }
    let outcome = solve::make(environment, graph, looked_up.without_foreign(graph));
    outcome.map_err(|failure| faults.failure(graph, failure))
}
