//! Rules about how things are written, in all stages.

use std::collections::BTreeSet;

use super::Rule;
use super::report::Findings;
use crate::{Dockerfile, Instruction, Span, Stage};

const RESERVED_STAGES: [&str; 2] = ["context", "scratch"];

pub(super) fn check(dockerfile: &Dockerfile, findings: &mut Findings) {
    for arg in &dockerfile.global_args {
        let names: Vec<&str> = arg
            .value
            .definitions
            .iter()
            .map(|d| d.name.as_str())
            .collect();
        findings.with_comments(&arg.comments, |findings| {
            description("ARG", &names, &arg.comments, arg.span, findings);
        });
    }
    for stage in &dockerfile.stages {
        findings.with_comments(&stage.comments, |findings| from(stage, findings));
        for instruction in &stage.instructions {
            let (span, comments) = (instruction.span, &instruction.comments);
            findings.with_comments(comments, |findings| match &instruction.value {
                Instruction::Maintainer(_) => findings.add(
                    Rule::MaintainerDeprecated,
                    span,
                    "Maintainer instruction is deprecated in favor of using label".to_owned(),
                ),
                Instruction::Arg(arg) => {
                    let names: Vec<&str> =
                        arg.definitions.iter().map(|d| d.name.as_str()).collect();
                    description("ARG", &names, comments, span, findings);
                }
                _ => {}
            });
        }
    }
    stage_names(&dockerfile.stages, findings);
    casing(&dockerfile.stages, findings);
}

fn from(stage: &Stage, findings: &mut Findings) {
    let Some(name) = &stage.name else {
        return;
    };
    let words: Vec<&str> = stage.text.split_whitespace().collect();
    if let [keyword, .., sign, written] = words.as_slice() {
        if *written != written.to_lowercase() {
            let message = format!("Stage name '{written}' should be lowercase");
            findings.add(Rule::StageNameCasing, stage.span, message);
        }
        let agree = match (is_lower(keyword), is_upper(keyword)) {
            (true, _) => is_lower(sign),
            (_, true) => is_upper(sign),
            _ => true,
        };
        if !agree {
            let message = format!("'{sign}' and '{keyword}' keywords' casing do not match");
            findings.add(Rule::FromAsCasing, stage.span, message);
        }
    }
    description(
        "FROM",
        &[name.as_str()],
        &stage.comments,
        stage.span,
        findings,
    );
}

fn description(
    instruction: &str,
    names: &[&str],
    comments: &[String],
    span: Span,
    findings: &mut Findings,
) {
    let Some(last) = comments.last() else {
        return;
    };
    if last
        .split(' ')
        .next()
        .is_some_and(|word| names.contains(&word))
    {
        return;
    }
    let example = match names {
        [name] => name,
        _ => "<arg_key>",
    };
    let message =
        format!("Comment for {instruction} should follow the format: `# {example} <description>`");
    findings.add(Rule::InvalidDefinitionDescription, span, message);
}

fn stage_names(stages: &[Stage], findings: &mut Findings) {
    let mut names = BTreeSet::new();
    for stage in stages {
        let Some(name) = stage.name.as_deref() else {
            continue;
        };
        if RESERVED_STAGES.contains(&name) {
            let message =
                format!("Stage name should not use the same name as reserved stage {name:?}");
            findings.add(Rule::ReservedStageName, stage.span, message);
        }
        if !names.insert(name) {
            let message = format!("Duplicate stage name {name:?}, stage names should be unique");
            findings.add(Rule::DuplicateStageName, stage.span, message);
        }
    }
}

/// Returns the instruction's name as it was written.
pub(super) fn keyword(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

fn casing(stages: &[Stage], findings: &mut Findings) {
    let keywords = || {
        stages.iter().flat_map(|stage| {
            let instructions = stage.instructions.iter();
            let instructions = instructions.map(|i| (keyword(&i.text), i.span));
            std::iter::once((keyword(&stage.text), stage.span)).chain(instructions)
        })
    };
    let lower = keywords().filter(|(keyword, _)| is_lower(keyword)).count();
    let upper = keywords().filter(|(keyword, _)| is_upper(keyword)).count();
    let (majority, conforms): (_, fn(&str) -> bool) = if lower > upper {
        ("lowercase", is_lower)
    } else {
        ("uppercase", is_upper)
    };
    for (keyword, span) in keywords().filter(|(keyword, _)| !conforms(keyword)) {
        let message = format!(
            "Command '{keyword}' should match the case of the command majority ({majority})"
        );
        findings.add(Rule::ConsistentInstructionCasing, span, message);
    }
}

fn is_lower(text: &str) -> bool {
    text == text.to_lowercase()
}

fn is_upper(text: &str) -> bool {
    text == text.to_uppercase()
}
