//! Stages: what each starts from, and which ones the target needs.

use std::collections::BTreeMap;

use dockerfile::{Arg, Dockerfile, Instruction, Span, Spanned, Stage};
use oci::{Platform, Reference};

use super::PlanError;
use crate::located::Located;
use crate::variables::{self, Variables};
use crate::{BuildOptions, NamedContext};

/// What a plan depends on besides the Dockerfile.
#[derive(Debug, Clone, Copy)]
pub struct PlanOptions<'a> {
    /// `--target`: a stage by name or number; the last one without it.
    pub target: Option<&'a str>,
    /// `--build-arg`, by name.
    pub build_args: &'a BTreeMap<String, String>,
    /// `--build-context`, by name.
    pub contexts: &'a BTreeMap<String, NamedContext>,
    /// What to build for.
    pub platform: &'a Platform,
    /// What the build runs on.
    pub build_platform: &'a Platform,
}

impl<'a> PlanOptions<'a> {
    /// Takes them from those of a build.
    pub(crate) fn of(options: &'a BuildOptions, build_platform: &'a Platform) -> Self {
        Self {
            target: options.target.as_deref(),
            build_args: &options.build_args,
            contexts: &options.contexts,
            platform: &options.platform,
            build_platform,
        }
    }

    /// Returns the same for another platform.
    pub(crate) fn on(self, platform: &'a Platform) -> Self {
        Self { platform, ..self }
    }
}

/// The stages of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// All stages, in the order of the Dockerfile.
    pub stages: Vec<PlannedStage>,
    /// The index of the stage that gives the result.
    pub target: usize,
    /// The escape character of the Dockerfile.
    pub escape: char,
    /// What to build for.
    pub platform: Platform,
    pub(crate) globals: Variables,
    /// What the names of contexts stand for.
    contexts: BTreeMap<String, StageBase>,
}

/// One stage, with its `FROM` expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStage {
    /// The name after `AS`.
    pub name: Option<String>,
    /// What it starts from.
    pub base: StageBase,
    /// The platform of its base.
    pub platform: Platform,
    /// Its instructions, unexpanded.
    pub instructions: Vec<Spanned<Instruction>>,
    /// The lines of its `FROM`.
    pub span: Span,
    /// Its base as `FROM` names it, expanded.
    pub base_name: String,
    /// Whether the target needs it, as far as the Dockerfile tells; a trigger of a base image
    /// may need more.
    pub needed: bool,
}

/// An image that a build needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedImage {
    /// Its name in full.
    pub reference: Reference,
    /// For which platform.
    pub platform: Platform,
    /// Its name as the Dockerfile has it, expanded.
    pub name: String,
    /// The instruction that names it first.
    pub span: Span,
}

/// What a stage starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageBase {
    /// Nothing.
    Scratch,
    /// The stage with this index.
    Stage(usize),
    /// An image.
    Image(Reference),
    /// The directory of the context with this name.
    Context(String),
}

/// What `--from` of `COPY`, or `from` of a mount, reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyFrom {
    /// The stage with this index.
    Stage(usize),
    /// An image.
    Image(Reference),
    /// The directory of the context with this name.
    Context(String),
    /// `scratch`: nothing.
    Scratch,
}

impl From<StageBase> for CopyFrom {
    fn from(base: StageBase) -> Self {
        match base {
            StageBase::Scratch => Self::Scratch,
            StageBase::Stage(index) => Self::Stage(index),
            StageBase::Image(reference) => Self::Image(reference),
            StageBase::Context(name) => Self::Context(name),
        }
    }
}

/// Returns the name under which a context is found: that of an image, without docker's registry
/// and without `latest`; `None` when it cannot be one.
pub fn context_name(text: &str) -> Option<String> {
    let name = Reference::parse(text).ok()?.familiar();
    Some(match name.strip_suffix(":latest") {
        Some(short) => short.to_owned(),
        None => name,
    })
}

/// Finds the stages of a Dockerfile, what each starts from, and which ones the target needs.
pub fn plan(
    dockerfile: &Dockerfile,
    options: &PlanOptions<'_>,
) -> Result<Plan, Located<PlanError>> {
    let escape = dockerfile.directives.escape;
    let last = dockerfile.stages.last();
    let target_name = options
        .target
        .or_else(|| last.and_then(|stage| stage.name.as_deref()))
        .unwrap_or("default");
    let mut globals = variables::automatic(options.platform, options.build_platform, target_name);
    for (name, value) in options.build_args {
        if globals.get(name).is_some() {
            globals.set(name, value);
        }
    }
    for arg in &dockerfile.global_args {
        declare_global(&mut globals, arg, options.build_args, escape)?;
    }
    let mut plan = Plan {
        target: 0,
        stages: Vec::new(),
        escape,
        platform: options.platform.clone(),
        globals,
        contexts: contexts(options.contexts),
    };
    for stage in &dockerfile.stages {
        let planned = plan.plan_stage(stage)?;
        plan.stages.push(planned);
    }
    plan.target = find_target(&plan.stages, options.target)?;
    plan.mark_needed()?;
    Ok(plan)
}

impl Plan {
    /// Returns what to call a stage in messages: its name or `stage-1`; nothing when it is the
    /// only one.
    pub fn label(&self, index: usize) -> String {
        match &self.stages[index].name {
            _ if self.stages.len() == 1 => String::new(),
            Some(name) => name.clone(),
            None => format!("stage-{index}"),
        }
    }

    /// Returns the images that needed stages start from or copy from, each once, in order.
    pub fn images(&self) -> Vec<PlannedImage> {
        let mut images: Vec<PlannedImage> = Vec::new();
        let mut add = |image: PlannedImage| {
            let is_same = |other: &PlannedImage| {
                other.reference == image.reference && other.platform == image.platform
            };
            if !images.iter().any(is_same) {
                images.push(image);
            }
        };
        for (index, stage) in self.stages.iter().enumerate().filter(|(_, s)| s.needed) {
            if let StageBase::Image(reference) = &stage.base {
                add(PlannedImage {
                    reference: reference.clone(),
                    platform: stage.platform.clone(),
                    name: stage.base_name.clone(),
                    span: stage.span,
                });
            }
            for instruction in &stage.instructions {
                for from in sources(&instruction.value) {
                    if let Ok(CopyFrom::Image(reference)) =
                        self.resolve_from(&from, index, instruction.span)
                    {
                        add(PlannedImage {
                            reference,
                            platform: self.platform.clone(),
                            name: from,
                            span: instruction.span,
                        });
                    }
                }
            }
        }
        images
    }

    /// Returns what was probably meant by the name of an image that cannot be had: a stage, or
    /// one of the images that docker knows by heart.
    pub(crate) fn suggest_base(&self, name: &str) -> Option<String> {
        let stages = self.stages.iter().filter_map(|stage| stage.name.as_deref());
        let options: Vec<&str> = stages.chain(COMMON_IMAGES).collect();
        dockerfile::nearest(name, &options).map(str::to_owned)
    }

    /// Finds what `--from=` in stage `index` names.
    pub fn resolve_from(
        &self,
        from: &str,
        index: usize,
        span: Span,
    ) -> Result<CopyFrom, Located<PlanError>> {
        let fault = |error| Located::at_word(span, from, error);
        if Variables::default().expand(from, self.escape).as_deref() != Ok(from) {
            return Err(fault(PlanError::VariableInFrom));
        }
        let stage = match from.parse::<usize>() {
            Ok(number) if number < self.stages.len() => Some(number),
            Ok(_) => {
                return Err(fault(PlanError::InvalidStageIndex {
                    index: from.to_owned(),
                    earlier: index,
                }));
            }
            Err(_) => find_stage(&self.stages, from),
        };
        match stage {
            Some(stage) if stage < index => Ok(CopyFrom::Stage(stage)),
            Some(_) => Err(fault(PlanError::LaterStage {
                from: from.to_owned(),
                stage: self.label(index),
            })),
            None => self.elsewhere(from).map(CopyFrom::from).map_err(fault),
        }
    }

    /// Finds what a name stands for that is no stage.
    fn elsewhere(&self, name: &str) -> Result<StageBase, PlanError> {
        if name == SCRATCH {
            return Ok(StageBase::Scratch);
        }
        match self.context(name) {
            Some(base) => Ok(base),
            None => image(name).map(StageBase::Image),
        }
    }

    fn context(&self, name: &str) -> Option<StageBase> {
        self.contexts.get(&context_name(name)?).cloned()
    }

    fn plan_stage(&self, stage: &Stage) -> Result<PlannedStage, Located<PlanError>> {
        let at = |error| Located::at_word(stage.span, &stage.base, error);
        let (globals, escape) = (&self.globals, self.escape);
        let base = globals
            .expand(&stage.base, escape)
            .map_err(|error| at(error.into()))?;
        if base.is_empty() {
            return Err(at(PlanError::BlankBase(stage.base.clone())));
        }
        let base_name = base.clone();
        // A context takes the place of the whole stage that has its name.
        let replaced = stage.name.as_deref().and_then(|name| self.context(name));
        let instructions = match replaced {
            Some(_) => Vec::new(),
            None => stage.instructions.clone(),
        };
        let base = match (replaced, find_base_stage(&self.stages, &base)) {
            (Some(replaced), _) => replaced,
            (None, Some(index)) => StageBase::Stage(index),
            (None, None) => self.elsewhere(&base).map_err(at)?,
        };
        let platform = match (&stage.platform, &base) {
            (Some(expression), _) => parse_platform(expression, globals, escape)
                .map_err(|error| Located::at_word(stage.span, expression, error))?,
            (None, StageBase::Stage(index)) => self.stages[*index].platform.clone(),
            (None, _) => self.platform.clone(),
        };
        Ok(PlannedStage {
            name: stage.name.clone(),
            base,
            platform,
            instructions,
            span: stage.span,
            base_name,
            needed: false,
        })
    }

    fn mark_needed(&mut self) -> Result<(), Located<PlanError>> {
        let mut open = vec![self.target];
        while let Some(index) = open.pop() {
            if std::mem::replace(&mut self.stages[index].needed, true) {
                continue;
            }
            let stage = &self.stages[index];
            if let StageBase::Stage(base) = stage.base {
                open.push(base);
            }
            for instruction in &stage.instructions {
                for from in sources(&instruction.value) {
                    if let CopyFrom::Stage(source) =
                        self.resolve_from(&from, index, instruction.span)?
                    {
                        open.push(source);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The images that docker suggests for names that are nearly theirs.
const COMMON_IMAGES: [&str; 7] = [
    "alpine", "busybox", "centos", "debian", "fedora", "golang", "ubuntu",
];

/// The base of a stage that starts from nothing.
const SCRATCH: &str = "scratch";

fn sources(instruction: &Instruction) -> Vec<String> {
    match instruction {
        Instruction::Copy(copy) => copy.from.iter().cloned().collect(),
        Instruction::Run(run) => {
            let from = run.mounts.iter().filter_map(|mount| mount.from());
            from.map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

fn declare_global(
    globals: &mut Variables,
    arg: &Spanned<Arg>,
    build_args: &BTreeMap<String, String>,
    escape: char,
) -> Result<(), Located<PlanError>> {
    for definition in &arg.value.definitions {
        let value = match (build_args.get(&definition.name), &definition.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => {
                let expanded = globals.expand(default, escape);
                Some(expanded.map_err(|error| Located::at(arg.span, error))?)
            }
            (None, None) => None,
        };
        if let Some(value) = value {
            globals.set(&definition.name, &value);
        }
    }
    Ok(())
}

fn parse_platform(
    expression: &str,
    globals: &Variables,
    escape: char,
) -> Result<Platform, PlanError> {
    let text = globals.expand(expression, escape)?;
    if text.is_empty() {
        return Err(PlanError::EmptyPlatform(expression.to_owned()));
    }
    text.parse().map_err(|source| PlanError::InvalidPlatform {
        expression: expression.to_owned(),
        source,
    })
}

fn image(text: &str) -> Result<Reference, PlanError> {
    let invalid = |source| PlanError::InvalidBase {
        base: text.to_owned(),
        source,
    };
    Ok(Reference::parse(text).map_err(invalid)?.or_latest())
}

/// Returns what the names of contexts stand for.
fn contexts(contexts: &BTreeMap<String, NamedContext>) -> BTreeMap<String, StageBase> {
    let base = |(name, context): (&String, &NamedContext)| {
        let base = match context {
            NamedContext::Directory(_) => StageBase::Context(name.clone()),
            NamedContext::Image(reference) => StageBase::Image(reference.clone()),
            // It goes by its name until it is loaded.
            NamedContext::Layout(..) => StageBase::Image(image(name).ok()?),
            NamedContext::Scratch => StageBase::Scratch,
        };
        Some((name.clone(), base))
    };
    contexts.iter().filter_map(base).collect()
}

/// Finds the stage that `FROM` names. Names of stages are kept in lower case, and BuildKit takes
/// what `FROM` says as it stands: with capitals it can only be an image, which is refused.
fn find_base_stage(stages: &[PlannedStage], name: &str) -> Option<usize> {
    let is_named = |stage: &PlannedStage| stage.name.as_deref() == Some(name);
    stages.iter().rposition(is_named)
}

/// Finds a stage by name, as `COPY --from` and `--target` give it; when several have it, the last one.
fn find_stage(stages: &[PlannedStage], name: &str) -> Option<usize> {
    stages.iter().rposition(|stage| {
        let own = stage.name.as_deref();
        own.is_some_and(|own| own.eq_ignore_ascii_case(name))
    })
}

fn find_target(stages: &[PlannedStage], target: Option<&str>) -> Result<usize, Located<PlanError>> {
    let Some(target) = target else {
        return Ok(stages.len().saturating_sub(1));
    };
    let number = || target.parse().ok().filter(|index| *index < stages.len());
    find_stage(stages, target).or_else(number).ok_or_else(|| {
        let names: Vec<&str> = stages
            .iter()
            .filter_map(|stage| stage.name.as_deref())
            .collect();
        Located::nowhere(PlanError::TargetNotFound {
            target: target.to_owned(),
            suggestion: dockerfile::nearest(target, &names).map(str::to_owned),
            names: names.into_iter().map(str::to_owned).collect(),
        })
    })
}
