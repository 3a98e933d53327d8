//! Rules of our own about the order of instructions, which decides what a cache is good for.

use super::report::Findings;
use super::tools::{self, Index, IndexUse, Install, Need};
use super::{CheckOptions, Rule, commands};
use crate::{ArgDefinition, Dockerfile, Instruction, Run, Span, Spanned, Stage};

/// Names of arguments that have another value in each build.
const VOLATILE: [&str; 27] = [
    "BUILD_DATE",
    "BUILD_ID",
    "BUILD_NUMBER",
    "BUILD_TIME",
    "BUILD_TIMESTAMP",
    "BUILDDATE",
    "BUILDTIME",
    "CI_COMMIT_SHA",
    "CI_PIPELINE_ID",
    "COMMIT",
    "COMMIT_HASH",
    "COMMIT_SHA",
    "CREATED",
    "GITHUB_RUN_ID",
    "GITHUB_SHA",
    "GIT_COMMIT",
    "GIT_DESCRIBE",
    "GIT_HASH",
    "GIT_REF",
    "GIT_REV",
    "GIT_REVISION",
    "GIT_SHA",
    "REVISION",
    "SOURCE_COMMIT",
    "TIMESTAMP",
    "VCS_REF",
    "VCS_REVISION",
];

/// Names that are as volatile when the Dockerfile gives no value.
const VERSIONS: [&str; 4] = ["APP_VERSION", "BUILD_VERSION", "RELEASE", "VERSION"];

pub(super) fn check(dockerfile: &Dockerfile, options: &CheckOptions<'_>, findings: &mut Findings) {
    let context_is_chosen = options
        .ignore
        .is_some_and(|patterns| patterns.excludes_root());
    for stage in &dockerfile.stages {
        if !context_is_chosen {
            whole_context(stage, findings);
        }
        volatile_values(stage, findings);
        package_indexes(stage, findings);
    }
}

fn runs(instructions: &[Spanned<Instruction>]) -> impl Iterator<Item = (&Run, Span)> {
    instructions
        .iter()
        .filter_map(|instruction| match &instruction.value {
            Instruction::Run(run) => Some((run, instruction.span)),
            _ => None,
        })
}

/// Returns what a `RUN` installs, unless it keeps a cache of its own.
fn installs(run: &Run) -> Vec<Install> {
    if commands::has_cache(run) {
        return Vec::new();
    }
    let commands = commands::of(run);
    commands
        .iter()
        .filter_map(|words| tools::install(words))
        .collect()
}

/// `COPY . .` before an installation that needs less.
fn whole_context(stage: &Stage, findings: &mut Findings) {
    let mut before: Vec<String> = Vec::new();
    for (at, instruction) in stage.instructions.iter().enumerate() {
        if let Instruction::Run(run) = &instruction.value {
            before.extend(installs(run).into_iter().map(|install| install.shown));
        }
        if !copies_everything(&instruction.value) {
            continue;
        }
        let later = runs(&stage.instructions[at + 1..]);
        let mut later = later.flat_map(|(run, span)| {
            installs(run)
                .into_iter()
                .map(move |install| (install, span))
        });
        let Some((install, span)) = later.find(|(install, _)| !before.contains(&install.shown))
        else {
            return;
        };
        findings.with_comments(&instruction.comments, |findings| {
            let message = of_whole_context(&install, span);
            findings.add(Rule::ContextCopiedBeforeInstall, instruction.span, message);
        });
        return;
    }
}

fn copies_everything(instruction: &Instruction) -> bool {
    let sources = match instruction {
        Instruction::Copy(copy) if copy.from.is_none() => &copy.sources,
        Instruction::Add(add) => &add.sources,
        _ => return false,
    };
    let is_everything = |source: &String| matches!(source.as_str(), "." | "./" | "*" | "./*" | "/");
    sources.iter().any(is_everything)
}

fn of_whole_context(install: &Install, span: Span) -> String {
    let start = format!("`{}` on line {}", install.shown, span.start);
    match &install.need {
        Need::Nothing => format!(
            "{start} needs no file of the context, but runs again when any of them changes: move it above this instruction"
        ),
        Need::Manifests(files) => format!(
            "{start} runs again when any file of the context changes: copy {files} first, run it, and copy the rest behind it"
        ),
        Need::Everything { cache } => format!(
            "{start} fetches its dependencies again when any file of the context changes: keep them with `RUN --mount=type=cache,target={cache}`"
        ),
    }
}

/// A value that is another one in each build, before installations that do not use it.
fn volatile_values(stage: &Stage, findings: &mut Findings) {
    let mut volatile: Vec<String> = Vec::new();
    for (at, instruction) in stage.instructions.iter().enumerate() {
        let names: Vec<String> = match &instruction.value {
            Instruction::Arg(arg) => arg
                .definitions
                .iter()
                .filter(|definition| is_volatile(definition))
                .map(|definition| definition.name.clone())
                .collect(),
            Instruction::Env(pairs) => pairs
                .iter()
                .filter(|pair| volatile.iter().any(|name| mentions(&pair.value, name)))
                .map(|pair| pair.key.clone())
                .collect(),
            _ => continue,
        };
        for name in &names {
            let Some(message) = of_volatile_value(name, &stage.instructions[at + 1..]) else {
                continue;
            };
            findings.with_comments(&instruction.comments, |findings| {
                findings.add(Rule::VolatileValueBeforeInstall, instruction.span, message);
            });
            break;
        }
        volatile.extend(names);
    }
}

fn is_volatile(definition: &ArgDefinition) -> bool {
    let name = definition.name.to_ascii_uppercase();
    let has_value = definition
        .default
        .as_ref()
        .is_some_and(|value| !value.is_empty());
    VOLATILE.contains(&name.as_str()) || (!has_value && VERSIONS.contains(&name.as_str()))
}

fn of_volatile_value(name: &str, later: &[Spanned<Instruction>]) -> Option<String> {
    let uses = |instruction: &Spanned<Instruction>| {
        let heredocs = match &instruction.value {
            Instruction::Run(run) => run.heredocs.as_slice(),
            _ => &[],
        };
        let in_heredoc = heredocs
            .iter()
            .any(|heredoc| mentions(&heredoc.content, name));
        in_heredoc || mentions(&instruction.text, name)
    };
    let use_at = later.iter().position(uses);
    let unused = &later[..use_at.unwrap_or(later.len())];
    let (install, span) = runs(unused).find_map(|(run, span)| {
        let install = installs(run).into_iter().next()?;
        Some((install, span))
    })?;
    let place = match use_at {
        Some(at) => format!("right above line {}, which uses it", later[at].span.start),
        None => "to the end of the stage".to_owned(),
    };
    Some(format!(
        "`{}` on line {} does not use {name}, but runs again for each of its values: move {name} {place}",
        install.shown, span.start
    ))
}

/// Tells whether `name` stands in `text` as a word of its own.
fn mentions(text: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        !text[..at].ends_with(is_part) && !text[at + name.len()..].starts_with(is_part)
    })
}

/// An installation that uses the package index of an earlier layer.
fn package_indexes(stage: &Stage, findings: &mut Findings) {
    let mut kept: Vec<(Index, u32)> = Vec::new();
    for instruction in &stage.instructions {
        let Instruction::Run(run) = &instruction.value else {
            continue;
        };
        if commands::has_cache(run) {
            continue;
        }
        let mut here: Vec<Index> = Vec::new();
        for words in commands::of(run) {
            match tools::index_use(&words) {
                Some(IndexUse::Update(index)) => here.push(index),
                Some(IndexUse::Remove(index)) => {
                    here.retain(|other| *other != index);
                    kept.retain(|(other, _)| *other != index);
                }
                Some(IndexUse::Install(index, shown)) if !here.contains(&index) => {
                    let Some((_, line)) = kept.iter().find(|(other, _)| *other == index) else {
                        continue;
                    };
                    let update = shown.split(' ').next().unwrap_or_default();
                    let message = format!(
                        "`{shown}` uses the package index of line {line}, which stays in the cache while its packages change and go: write `{update} update && {shown}` in one RUN"
                    );
                    findings.with_comments(&instruction.comments, |findings| {
                        findings.add(Rule::PackageIndexInOtherLayer, instruction.span, message);
                    });
                    kept.retain(|(other, _)| *other != index);
                }
                Some(IndexUse::Install(..)) | None => {}
            }
        }
        for index in here {
            kept.retain(|(other, _)| *other != index);
            kept.push((index, instruction.span.start));
        }
    }
}

#[cfg(test)]
mod tests;
