//! Stages to vertices.

use std::collections::{BTreeMap, HashMap};

use dockerfile::{Instruction, Span, Spanned};
use oci::{History, ImageConfig, ImageId, Platform, Reference};

use super::{LowerError, metadata};
use crate::located::Located;
use crate::plan::{CopyFrom, Plan, StageBase};
use crate::variables::Variables;
use crate::vertex::{Operation, Origin, Vertex};
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
    /// The stage that gives the result.
    pub result: Lowered,
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
    let mut lowering = Lowering {
        plan,
        build_args,
        images,
        vertices: Vec::new(),
        known: HashMap::new(),
        bases: Vec::new(),
        stages: vec![None; plan.stages.len()],
    };
    let result = lowering.stage(plan.target)?;
    Ok(Graph {
        vertices: lowering.vertices,
        bases: lowering.bases,
        result,
    })
}

/// The work in progress.
pub(super) struct Lowering<'a> {
    pub(super) plan: &'a Plan,
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
        let is_image = matches!(stage.base, StageBase::Image(_));
        let own_steps = stage.instructions.iter().filter(makes_layer).count();
        let mut state = StageState {
            index,
            lowered,
            cmd: metadata::CmdOrigin::Inherited,
            label: plan.label(index),
            steps: usize::from(is_image) + own_steps + triggers.len(),
            next_step: 1,
        };
        if let StageBase::Image(reference) = &stage.base {
            let name = state.step_name(&format!("FROM {reference}"), Written::Here);
            self.bases.push(name);
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
            StageBase::Scratch => {
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

    /// Returns the content that `--from` names.
    pub(super) fn source(
        &mut self,
        state: &StageState,
        from: &str,
        span: Span,
    ) -> Result<Origin, Located<LowerError>> {
        let name = from;
        let from = self
            .plan
            .resolve_from(name, state.index, span)
            .map_err(|located| located.map(LowerError::from))?;
        match from {
            CopyFrom::Scratch => Ok(Origin::Layers(Vec::new())),
            CopyFrom::Stage(index) => Ok(self.stage(index)?.origin),
            CopyFrom::Image(reference) => {
                let platform = self.plan.platform.clone();
                let image = self
                    .image(&reference, &platform, name)
                    .map_err(|error| Located::at(span, error))?;
                Ok(Origin::Layers(image.config.rootfs.diff_ids))
            }
        }
    }

    fn instruction(
        &mut self,
        state: &mut StageState,
        instruction: &Spanned<Instruction>,
        written: Written,
    ) -> Result<(), Located<LowerError>> {
        let lowered = self.lower_instruction(state, instruction)?;
        let Some((operation, created_by, name)) = lowered else {
            return Ok(());
        };
        let key = (state.lowered.origin.clone(), operation);
        let name = state.step_name(&name, written);
        let vertex = match self.known.get(&key) {
            Some(vertex) => *vertex,
            None => {
                self.vertices.push(Vertex {
                    origin: key.0.clone(),
                    operation: key.1.clone(),
                    name,
                    span: instruction.span,
                    instruction: created_by.clone(),
                    stage: self.plan.stages[state.index]
                        .name
                        .clone()
                        .unwrap_or_default(),
                });
                self.known.insert(key, self.vertices.len() - 1);
                self.vertices.len() - 1
            }
        };
        state.lowered.origin = Origin::Vertex(vertex);
        let entry = PlannedHistory::Layer { created_by, vertex };
        state.lowered.history.push(entry);
        Ok(())
    }
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
        let trigger = match written {
            Written::Here => "",
            Written::OnBuild => "ONBUILD ",
        };
        format!("[{label}{number:width$}/{total}] {trigger}{text}")
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
