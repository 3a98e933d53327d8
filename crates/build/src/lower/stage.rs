//! Stages to vertices.

use std::collections::{BTreeMap, HashMap};

use dockerfile::{Instruction, Span, Spanned};
use oci::{History, ImageConfig, ImageId, Platform, Reference};

use super::instruction::Step;
use super::{LowerError, metadata};
use crate::located::Located;
use crate::plan::{CopyFrom, Plan, StageBase};
use crate::variables::Variables;
use crate::vertex::{Files, FilesFrom, Operation, Origin, Vertex};
use crate::{BaseImage, BaseImageError};

/// The comment of history entries that a build makes.
const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";
/// The comment of history entries for layers that a base image does not explain.
const FILLER_COMMENT: &str = "buildkit.exporter.image.v0";

/// The vertices of a build, parents before children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// The vertices that the target needs, and perhaps more: those of its stages.
    pub vertices: Vec<Vertex>,
    /// The names of the `FROM` steps, as docker shows them.
    pub bases: Vec<String>,
    /// The stage that gives the result, for the first platform.
    pub result: Lowered,
    /// The same for other platforms, in their order.
    pub other_results: Vec<Lowered>,
}

impl Graph {
    /// Returns the results for all platforms.
    pub fn results(&self) -> impl Iterator<Item = &Lowered> {
        std::iter::once(&self.result).chain(&self.other_results)
    }
}

/// The end of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lowered {
    /// Its content.
    pub origin: Origin,
    /// The image that it starts from, if any.
    pub base: Option<ImageId>,
    /// Its configuration, without layers and history.
    pub config: ImageConfig,
    /// Its history, bottom first.
    pub history: Vec<PlannedHistory>,
    pub(super) env: Variables,
    pub(super) build_args: Vec<(String, String)>,
}

/// A history entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlannedHistory {
    /// An entry of the base image.
    Base(History),
    /// A change of the configuration.
    Metadata {
        /// Its text.
        created_by: String,
    },
    /// The layer of a vertex.
    Layer {
        /// Its text.
        created_by: String,
        /// The index of the vertex.
        vertex: usize,
    },
}

impl PlannedHistory {
    /// Returns the entry with `created` as its time.
    pub(crate) fn entry(&self, created: Option<String>) -> History {
        let entry = |created_by: &str, empty_layer| History {
            created: created.clone(),
            created_by: created_by.to_owned(),
            comment: HISTORY_COMMENT.to_owned(),
            empty_layer,
            ..History::default()
        };
        match self {
            Self::Base(history) => History {
                created: history.created.clone().or(created),
                ..history.clone()
            },
            Self::Metadata { created_by } => entry(created_by, true),
            Self::Layer { created_by, .. } => entry(created_by, false),
        }
    }
}

/// Gives a base image.
pub type Images<'a> = dyn FnMut(&Reference, &Platform) -> Result<BaseImage, BaseImageError> + 'a;

/// Lowers the stages that the target needs, asking `images` for each base.
pub fn lower(
    plan: &Plan,
    build_args: &BTreeMap<String, String>,
    images: &mut Images<'_>,
) -> Result<Graph, Located<LowerError>> {
    lower_all((plan, &[]), build_args, images)
}

/// Lowers the stages for several platforms into one graph: what is the same for two of them is
/// one vertex.
pub(crate) fn lower_all(
    (plan, others): (&Plan, &[Plan]),
    build_args: &BTreeMap<String, String>,
    images: &mut Images<'_>,
) -> Result<Graph, Located<LowerError>> {
    let mut lowering = Lowering {
        plan,
        is_one_of_several: !others.is_empty(),
        build_args,
        images,
        vertices: Vec::new(),
        known: HashMap::new(),
        bases: Vec::new(),
        stages: vec![None; plan.stages.len()],
    };
    let result = lowering.stage(plan.target)?;
    let mut other_results = Vec::with_capacity(others.len());
    for plan in others {
        lowering.plan = plan;
        lowering.stages = vec![None; plan.stages.len()];
        other_results.push(lowering.stage(plan.target)?);
    }
    Ok(Graph {
        vertices: lowering.vertices,
        bases: lowering.bases,
        result,
        other_results,
    })
}

/// The work in progress.
pub(super) struct Lowering<'a> {
    pub(super) plan: &'a Plan,
    /// Whether steps are named with their platforms.
    is_one_of_several: bool,
    pub(super) build_args: &'a BTreeMap<String, String>,
    images: &'a mut Images<'a>,
    vertices: Vec<Vertex>,
    /// Vertices by what they do, so that identical ones are one.
    known: HashMap<(Origin, Operation), usize>,
    bases: Vec<String>,
    stages: Vec<Option<Lowered>>,
}

/// A stage while its instructions are lowered.
pub(super) struct StageState {
    pub(super) index: usize,
    pub(super) lowered: Lowered,
    pub(super) cmd: metadata::CmdOrigin,
    label: String,
    /// Its platform, where steps are named with it.
    platform: Option<Platform>,
    steps: usize,
    next_step: usize,
}

/// An instruction, and whether a trigger of the base put it there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Here,
    OnBuild,
}

impl Lowering<'_> {
    fn stage(&mut self, index: usize) -> Result<Lowered, Located<LowerError>> {
        if let Some(lowered) = &self.stages[index] {
            return Ok(lowered.clone());
        }
        let plan = self.plan;
        let stage = &plan.stages[index];
        let mut lowered = self.base(index)?;
        let triggers = parse_triggers(&mut lowered.config, stage.span)?;
        let makes_layer = |instruction: &&Spanned<Instruction>| {
            matches!(
                instruction.value,
                Instruction::Copy(_)
                    | Instruction::Add(_)
                    | Instruction::Run(_)
                    | Instruction::Workdir(_)
            )
        };
        let has_base = matches!(stage.base, StageBase::Image(_) | StageBase::Context(_));
        let own_steps = stage.instructions.iter().filter(makes_layer).count();
        let mut state = StageState {
            index,
            lowered,
            cmd: metadata::CmdOrigin::Inherited,
            label: plan.label(index),
            platform: self.is_one_of_several.then(|| stage.platform.clone()),
            steps: usize::from(has_base) + own_steps + triggers.len(),
            next_step: 1,
        };
        if let StageBase::Image(reference) = &stage.base {
            let name = state.step_name(&format!("FROM {reference}"), Written::Here);
            // Stages of the machine's platform are there for each of the targets.
            if !self.bases.contains(&name) {
                self.bases.push(name);
            }
        }
        if let StageBase::Context(name) = &stage.base {
            let created_by = format!("FROM {name} # context");
            let step = (all_of_context(name), created_by, format!("FROM {name}"));
            self.add_step(&mut state, step, (stage.span, Written::Here));
        }
        for instruction in &triggers {
            self.instruction(&mut state, instruction, Written::OnBuild)?;
        }
        for instruction in &stage.instructions {
            self.instruction(&mut state, instruction, Written::Here)?;
        }
        self.stages[index] = Some(state.lowered.clone());
        Ok(state.lowered)
    }

    fn base(&mut self, index: usize) -> Result<Lowered, Located<LowerError>> {
        let plan = self.plan;
        let stage = &plan.stages[index];
        match &stage.base {
            StageBase::Stage(base) => {
                let mut lowered = self.stage(*base)?;
                // What hid the environment there, an `ARG`, does not hide it here.
                lowered.env.inherit(&lowered.config.config.env);
                Ok(lowered)
            }
            StageBase::Scratch | StageBase::Context(_) => {
                let mut config = ImageConfig::scratch(&plan.platform);
                "/".clone_into(&mut config.config.working_dir);
                Ok(start(config, None))
            }
            StageBase::Image(reference) => {
                let image = self
                    .image(reference, &stage.platform, &stage.base_name)
                    .map_err(|error| Located::at(stage.span, error))?;
                Ok(start(image.config, Some(image.id)))
            }
        }
    }

    fn image(
        &mut self,
        reference: &Reference,
        platform: &Platform,
        name: &str,
    ) -> Result<BaseImage, LowerError> {
        (self.images)(reference, platform).map_err(|source| LowerError::BaseImage {
            name: name.to_owned(),
            suggestion: self.plan.suggest_base(name),
            reference: reference.to_string(),
            source,
        })
    }

    /// Returns where `--from` reads.
    pub(super) fn files_from(
        &mut self,
        state: &StageState,
        from: &str,
        span: Span,
    ) -> Result<FilesFrom, Located<LowerError>> {
        let name = from;
        let from = self
            .plan
            .resolve_from(name, state.index, span)
            .map_err(|located| located.map(LowerError::from))?;
        let origin = match from {
            CopyFrom::Context(name) => return Ok(FilesFrom::Context(Some(name))),
            CopyFrom::Scratch => Origin::Layers(Vec::new()),
            CopyFrom::Stage(index) => self.stage(index)?.origin,
            CopyFrom::Image(reference) => {
                let platform = self.plan.platform.clone();
                let image = self
                    .image(&reference, &platform, name)
                    .map_err(|error| Located::at(span, error))?;
                Origin::Layers(image.config.rootfs.diff_ids)
            }
        };
        Ok(FilesFrom::Origin(origin))
    }

    fn instruction(
        &mut self,
        state: &mut StageState,
        instruction: &Spanned<Instruction>,
        written: Written,
    ) -> Result<(), Located<LowerError>> {
        let lowered = self.lower_instruction(state, instruction)?;
        if let Some(step) = lowered {
            self.add_step(state, step, (instruction.span, written));
        }
        Ok(())
    }

    fn add_step(
        &mut self,
        state: &mut StageState,
        (operation, created_by, name): Step,
        (span, written): (Span, Written),
    ) {
        let name = state.step_name(&name, written);
        let stage = &self.plan.stages[state.index];
        let vertex = self.vertex(Vertex {
            origin: state.lowered.origin.clone(),
            operation,
            name,
            span,
            instruction: created_by.clone(),
            platform: state.lowered.config.platform(),
            stage: stage.name.clone().unwrap_or_default(),
        });
        state.lowered.origin = Origin::Vertex(vertex);
        let entry = PlannedHistory::Layer { created_by, vertex };
        state.lowered.history.push(entry);
    }

    /// Returns the content of a context as one layer.
    pub(super) fn layer_of_context(&mut self, name: &str, span: Span) -> Origin {
        Origin::Vertex(self.vertex(Vertex {
            origin: Origin::Layers(Vec::new()),
            operation: all_of_context(name),
            name: format!("[context {name}] copy to a layer"),
            span,
            instruction: format!("FROM {name} # context"),
            platform: self.plan.platform.clone(),
            stage: String::new(),
        }))
    }

    /// Returns the index of a vertex, which is added unless one does the same.
    fn vertex(&mut self, vertex: Vertex) -> usize {
        let key = (vertex.origin.clone(), vertex.operation.clone());
        *self.known.entry(key).or_insert_with(|| {
            self.vertices.push(vertex);
            self.vertices.len() - 1
        })
    }
}

/// The copy that makes a stage of a context.
fn all_of_context(name: &str) -> Operation {
    let from = FilesFrom::Context(Some(name.to_owned()));
    Operation::Files(Files::to_root(from, "/".to_owned()))
}

impl StageState {
    /// Adds a history entry without a layer.
    pub(super) fn note(&mut self, created_by: String) {
        let entry = PlannedHistory::Metadata { created_by };
        self.lowered.history.push(entry);
    }

    /// Returns the name of the next step: `[build 2/4] RUN …`.
    fn step_name(&mut self, text: &str, written: Written) -> String {
        let (number, total) = (self.next_step, self.steps);
        self.next_step += 1;
        let width = total.to_string().len();
        let label = match self.label.as_str() {
            "" => String::new(),
            label => format!("{label} "),
        };
        let label = match &self.platform {
            Some(platform) => {
                let target = for_target(platform, &self.lowered.env);
                format!("{platform}{target} {label}")
            }
            None => label,
        };
        let trigger = match written {
            Written::Here => "",
            Written::OnBuild => "ONBUILD ",
        };
        format!("[{label}{number:width$}/{total}] {trigger}{text}")
    }
}

/// Returns what a step's name says of the platform that it is for, when that is another than the
/// stage's and the step can see it: `->arm64`.
fn for_target(stage: &Platform, env: &Variables) -> String {
    let mut target = stage.clone();
    if let Some(Ok(platform)) = env.get("TARGETPLATFORM").map(str::parse::<Platform>) {
        target = platform;
    } else {
        if let Some(os) = env.get("TARGETOS") {
            os.clone_into(&mut target.os);
        }
        if let Some(architecture) = env.get("TARGETARCH") {
            architecture.clone_into(&mut target.architecture);
            target.variant = env.get("TARGETVARIANT").map(str::to_owned);
        }
    }
    target.variant = target.variant.filter(|variant| !variant.is_empty());
    let variant = target.variant.as_deref();
    let same = (
        target.os == stage.os,
        target.architecture == stage.architecture,
    );
    match (same, variant) {
        ((false, _), _) => format!("->{target}"),
        ((true, false), Some(variant)) => format!("->{}/{variant}", target.architecture),
        ((true, false), None) => format!("->{}", target.architecture),
        ((true, true), Some(variant)) if stage.variant.as_deref() != Some(variant) => {
            format!("->{variant}")
        }
        ((true, true), _) => String::new(),
    }
}

/// Returns a stage that starts from an image with `config`.
fn start(mut config: ImageConfig, base: Option<ImageId>) -> Lowered {
    let layers = std::mem::take(&mut config.rootfs.diff_ids);
    let history = base_history(std::mem::take(&mut config.history), layers.len());
    config.created = None;
    // BuildKit's configuration has no place for these.
    config.docker_version.clear();
    config.comment.clear();
    config.config.hostname.clear();
    config.config.domainname.clear();
    let run = &mut config.config;
    if !run.env.iter().any(|variable| variable.starts_with("PATH=")) {
        run.env.push(format!("PATH={}", runtime::DEFAULT_PATH));
    }
    if !run.working_dir.is_empty() {
        run.working_dir = metadata::configured_directory("/", &run.working_dir);
    }
    let mut env = Variables::default();
    env.inherit(&run.env);
    Lowered {
        origin: Origin::Layers(layers),
        base,
        config,
        history,
        env,
        build_args: Vec::new(),
    }
}

/// Returns the history of a base image, made to explain exactly `layers` layers.
fn base_history(history: Vec<History>, layers: usize) -> Vec<PlannedHistory> {
    let mut explained = 0;
    let mut entries: Vec<PlannedHistory> = Vec::with_capacity(history.len());
    for mut entry in history {
        if !entry.empty_layer {
            entry.empty_layer = explained >= layers;
            explained += usize::from(!entry.empty_layer);
        }
        entries.push(PlannedHistory::Base(entry));
    }
    let filler = History {
        comment: FILLER_COMMENT.to_owned(),
        ..History::default()
    };
    entries.extend((explained..layers).map(|_| PlannedHistory::Base(filler.clone())));
    entries
}

/// Takes the triggers out of a configuration and parses them; they stand at `span`.
fn parse_triggers(
    config: &mut ImageConfig,
    span: Span,
) -> Result<Vec<Spanned<Instruction>>, Located<LowerError>> {
    let triggers = std::mem::take(&mut config.config.on_build);
    let parse = |text: &String| {
        let parsed = dockerfile::parse_trigger(text).map_err(|error| Located::at(span, error))?;
        Ok(Spanned { span, ..parsed })
    };
    triggers.iter().map(parse).collect()
}
