//! What a Dockerfile says of itself, without building it: `--call`.

use dockerfile::check::Report;
use dockerfile::{Instruction, Warning};
use oci::Platform;

use crate::bases::Bases;
use crate::build::{findings, load_patterns, parse, read};
use crate::fault::Faults;
use crate::plan::{Plan, PlanOptions};
use crate::progress::Progress;
use crate::{BuildContext, BuildError, BuildOptions, variables};

/// A stage that can be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetInfo {
    /// Its name; empty when it has none.
    pub name: String,
    /// What a comment above its `FROM` says.
    pub description: String,
    /// Whether it is built when no target is named.
    pub is_default: bool,
}

/// What a target takes from the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The target.
    pub target: TargetInfo,
    /// Its arguments, in the order of the Dockerfile.
    pub args: Vec<ArgInfo>,
    /// Its secrets, by name, and whether they must be given.
    pub secrets: Vec<(String, bool)>,
    /// Its agents, by name, and whether they must be given.
    pub agents: Vec<(String, bool)>,
}

/// An argument of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgInfo {
    /// Its name.
    pub name: String,
    /// What it is worth in this build.
    pub value: String,
    /// What a comment above it says.
    pub description: String,
}

/// Returns what should be written otherwise, each with docker's box around its lines: BuildKit's
/// warnings, then our own advice.
pub fn check(
    context: &BuildContext<'_>,
    options: &BuildOptions,
) -> Result<Vec<(Warning, String)>, BuildError> {
    let progress = Progress::new(context.progress);
    let faults = Faults { options };
    let build_platform = Platform::host();
    let plan_options = PlanOptions::of(options, &build_platform);
    let (dockerfile, plan) = read(&progress, &faults, &plan_options)?;
    let bases = Bases::fetch(context, (&plan, &[]), &progress, &faults)?;
    let mut report = None;
    load_patterns(options, &progress, |patterns| {
        report = Some(findings(&dockerfile, &plan_options, (&bases, patterns))?);
        Ok(())
    })?;
    let Report {
        warnings, advice, ..
    } = report.unwrap_or_default();
    let boxed = |warning: Warning| {
        let (name, text) = (&options.dockerfile_name, &options.dockerfile);
        let excerpt = dockerfile::excerpt(name, text, warning.span);
        (warning, excerpt)
    };
    Ok(warnings.into_iter().chain(advice).map(boxed).collect())
}

/// Returns the stages that can be built.
pub fn targets(
    context: &BuildContext<'_>,
    options: &BuildOptions,
) -> Result<Vec<TargetInfo>, BuildError> {
    let progress = Progress::new(context.progress);
    let dockerfile = parse(&progress, &Faults { options })?;
    let last = dockerfile.stages.len().saturating_sub(1);
    let stages = dockerfile.stages.into_iter().enumerate();
    let target = |(index, stage): (usize, dockerfile::Stage)| TargetInfo {
        name: stage.name.unwrap_or_default(),
        description: stage.description.unwrap_or_default(),
        is_default: index == last,
    };
    Ok(stages.map(target).collect())
}

/// Returns what the target takes.
pub fn outline(context: &BuildContext<'_>, options: &BuildOptions) -> Result<Outline, BuildError> {
    let progress = Progress::new(context.progress);
    let build_platform = Platform::host();
    let plan_options = PlanOptions::of(options, &build_platform);
    let (dockerfile, plan) = read(&progress, &Faults { options }, &plan_options)?;
    let stage = &dockerfile.stages[plan.target];
    let mut outline = Outline {
        target: TargetInfo {
            name: stage.name.clone().unwrap_or_default(),
            description: stage.description.clone().unwrap_or_default(),
            is_default: plan.target + 1 == plan.stages.len(),
        },
        args: Vec::new(),
        secrets: Vec::new(),
        agents: Vec::new(),
    };
    for global in &dockerfile.global_args {
        let used = |name: &str| is_in_base(&plan, &dockerfile, name);
        for definition in &global.value.definitions {
            if used(&definition.name) {
                let value = plan.globals.get(&definition.name).unwrap_or_default();
                outline.add_arg(&definition.name, value, definition.description.as_deref());
            }
        }
    }
    for planned in plan.stages.iter().filter(|stage| stage.needed) {
        outline.add_stage(&plan, options, &planned.instructions);
    }
    Ok(outline)
}

/// Tells whether the `FROM` of a stage that is built names the argument.
fn is_in_base(plan: &Plan, dockerfile: &dockerfile::Dockerfile, name: &str) -> bool {
    let needed = dockerfile.stages.iter().zip(&plan.stages);
    let mut needed = needed.filter(|(_, planned)| planned.needed);
    needed.any(|(stage, _)| {
        let words = [Some(&stage.base), stage.platform.as_ref()];
        let asked = std::cell::Cell::new(false);
        let variable = |asked_for: &str| {
            asked.set(asked.get() || asked_for == name);
            plan.globals.get(asked_for).map(str::to_owned)
        };
        for word in words.into_iter().flatten() {
            // What does not expand has failed before.
            drop(dockerfile::expand::word(word, &variable, plan.escape));
        }
        asked.get()
    })
}

impl Outline {
    fn add_arg(&mut self, name: &str, value: &str, description: Option<&str>) {
        if self.args.iter().all(|arg| arg.name != name) {
            self.args.push(ArgInfo {
                name: name.to_owned(),
                value: value.to_owned(),
                description: description.unwrap_or_default().to_owned(),
            });
        }
    }

    fn add_stage(
        &mut self,
        plan: &Plan,
        options: &BuildOptions,
        instructions: &[dockerfile::Spanned<Instruction>],
    ) {
        let mut scope = variables::Variables::default();
        for instruction in instructions {
            match &instruction.value {
                Instruction::Arg(arg) => {
                    for definition in &arg.definitions {
                        let name = &definition.name;
                        let default = definition.default.as_ref();
                        let default = default.and_then(|text| scope.expand(text, plan.escape).ok());
                        let given = options.build_args.get(name).cloned();
                        let global = || plan.globals.get(name).map(str::to_owned);
                        let value = given.or(default).or_else(global).unwrap_or_default();
                        scope.set(name, &value);
                        self.add_arg(name, &value, definition.description.as_deref());
                    }
                }
                Instruction::Run(run) => {
                    let variable = |name: &str| scope.get(name).map(str::to_owned);
                    for flag in &run.mounts {
                        if let Ok(mount) = flag.resolve(&variable, plan.escape) {
                            self.add_mount(mount.kind);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn add_mount(&mut self, kind: dockerfile::MountKind) {
        let (list, id, required) = match kind {
            dockerfile::MountKind::Secret { id, required, .. } => (&mut self.secrets, id, required),
            dockerfile::MountKind::Ssh { id, required, .. } => (&mut self.agents, id, required),
            _ => return,
        };
        match list.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) => *known |= required,
            None => list.push((id, required)),
        }
    }
}
