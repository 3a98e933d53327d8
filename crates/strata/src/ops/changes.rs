//! `--change` of `import` and `commit`: Dockerfile instructions that only touch the
//! configuration.

use std::collections::BTreeMap;

use build::{BaseImage, PlanOptions, lower, plan};
use dockerfile::{Instruction, ParseError};
use oci::{Digest, ImageConfig, ImageId, Platform, RunConfig};

/// Why changes cannot be applied. `Display` is docker's own text.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The instruction does more than change the configuration.
    #[error("{0} is not a valid change command")]
    NotAllowed(String),
    /// It is no instruction.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// Its stages cannot be planned.
    #[error(transparent)]
    Plan(Box<build::PlanError>),
    /// Its arguments are invalid.
    #[error(transparent)]
    Lower(Box<build::LowerError>),
}

/// Returns `config` with `changes` applied in order.
pub fn apply(config: &RunConfig, changes: &[String]) -> Result<RunConfig, ChangeError> {
    if changes.is_empty() {
        return Ok(config.clone());
    }
    let text = format!("FROM base\n{}\n", changes.join("\n"));
    let parsed = dockerfile::parse(text.as_bytes())?;
    for stage in &parsed.stages {
        for instruction in &stage.instructions {
            if !is_allowed(&instruction.value) {
                let words = changes.join("\n");
                let name = instruction_name(&words, &instruction.value);
                return Err(ChangeError::NotAllowed(name));
            }
        }
    }
    let platform = Platform::host();
    let none = BTreeMap::new();
    let planned = plan(
        &parsed,
        &PlanOptions {
            target: None,
            build_args: &none,
            contexts: &BTreeMap::new(),
            platform: &platform,
            build_platform: &platform,
        },
    )
    .map_err(|located| ChangeError::Plan(located.error))?;
    // Triggers of the base are kept, not run: nothing is built here.
    let base = ImageConfig {
        config: RunConfig {
            on_build: Vec::new(),
            ..config.clone()
        },
        ..ImageConfig::scratch(&platform)
    };
    let base = BaseImage {
        id: ImageId(Digest::of(&base.to_bytes())),
        config: base,
    };
    let graph = lower(&planned, &none, &mut |_, _| Ok(base.clone()))
        .map_err(|located| ChangeError::Lower(located.error))?;
    let mut changed = graph.result.config.config;
    // A build gives every image a search path; a change that names none does not.
    let has_path = |env: &[String]| env.iter().any(|variable| variable.starts_with("PATH="));
    if !has_path(&config.env) && !changes.iter().any(|change| change.contains("PATH")) {
        let default = format!("PATH={}", runtime::DEFAULT_PATH);
        changed.env.retain(|variable| *variable != default);
    }
    let mut triggers = config.on_build.clone();
    triggers.append(&mut changed.on_build);
    changed.on_build = triggers;
    changed.args_escaped = config.args_escaped;
    Ok(changed)
}

fn is_allowed(instruction: &Instruction) -> bool {
    matches!(
        instruction,
        Instruction::Cmd(_)
            | Instruction::Entrypoint(_)
            | Instruction::Healthcheck(_)
            | Instruction::Env(_)
            | Instruction::Expose(_)
            | Instruction::Label(_)
            | Instruction::OnBuild(_)
            | Instruction::StopSignal(_)
            | Instruction::User(_)
            | Instruction::Volume(_)
            | Instruction::Workdir(_)
    )
}

fn instruction_name(changes: &str, instruction: &Instruction) -> String {
    match instruction {
        Instruction::Run(_) => "RUN".to_owned(),
        Instruction::Copy(_) => "COPY".to_owned(),
        Instruction::Add(_) => "ADD".to_owned(),
        Instruction::Arg(_) => "ARG".to_owned(),
        Instruction::Shell(_) => "SHELL".to_owned(),
        Instruction::Maintainer(_) => "MAINTAINER".to_owned(),
        _ => changes
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_apply_in_order_and_nothing_else_is_allowed() {
        let changes = [
            "ENV A=1",
            "CMD [\"x\"]",
            "LABEL l=v",
            "WORKDIR /w",
            "USER u",
        ];
        let config = apply(&RunConfig::default(), &changes.map(str::to_owned)).expect("valid");
        assert_eq!(config.env, ["A=1"]);
        assert_eq!(config.cmd, Some(vec!["x".to_owned()]));
        assert_eq!(config.working_dir, "/w");
        assert_eq!(config.user, "u");
        let error = apply(&config, &["RUN x".to_owned()]).expect_err("not allowed");
        assert_eq!(error.to_string(), "RUN is not a valid change command");
    }
}
