//! `--check` and `--call` of a build.

use std::fmt::Write as _;

use build::{BuildOptions, TargetInfo};
use strata::describe;
use strata::ops::base_images::PullPolicy;
use strata::ops::image_build::{ImageBuildError, ask};

use super::build::failed;
use super::build_display::BuildDisplay;
use super::error::{CommandError, Exit};
use super::flags::Arguments;
use super::session::Session;
use super::table::align_with;

/// What is asked instead of building.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Check,
    Outline,
    Targets,
}

impl Call {
    /// Reads the flags; `None` is a build.
    pub(super) fn read(arguments: &Arguments) -> Result<Option<Self>, CommandError> {
        let check = arguments.is_on("check").then_some("check");
        Ok(match arguments.text("call").or(check) {
            None | Some("" | "build") => None,
            Some("check" | "lint") => Some(Self::Check),
            Some("outline") => Some(Self::Outline),
            Some("targets") => Some(Self::Targets),
            Some(other) => {
                return Err(failed(&format!(
                    "invalid call {other:?}: expected build, check, outline or targets"
                )));
            }
        })
    }

    /// Asks, and prints the answer. Checks that find something end with 1.
    pub(super) fn answer(
        self,
        options: &BuildOptions,
        pull: PullPolicy,
        session: &mut Session,
    ) -> Result<Exit, CommandError> {
        let (text, exit) = {
            let engine = session.engine()?;
            let answer = match self {
                Self::Check => ask(engine, pull, |context| {
                    let found = build::check(context, options)?;
                    let exit = match found.iter().all(|(warning, _)| warning.rule.is_advice()) {
                        true => Exit::SUCCESS,
                        false => Exit::FAILURE,
                    };
                    Ok((checks(&found), exit))
                }),
                Self::Targets => ask(engine, pull, |context| {
                    Ok((targets(&build::targets(context, options)?), Exit::SUCCESS))
                }),
                Self::Outline => ask(engine, pull, |context| {
                    Ok((outline(&build::outline(context, options)?), Exit::SUCCESS))
                }),
            };
            answer.map_err(|error| {
                if let ImageBuildError::Build(error) = &error {
                    BuildDisplay::Quiet.fail(error);
                }
                failed(&format!("failed to solve: {}", describe(&error)))
            })?
        };
        session.out.data(&text)?;
        Ok(exit)
    }
}

/// What BuildKit's rules found is told as docker tells it; our own advice follows, and does not
/// count as a warning.
fn checks(found: &[(dockerfile::Warning, String)]) -> String {
    let (advice, warnings): (Vec<_>, Vec<_>) = found
        .iter()
        .partition(|(warning, _)| warning.rule.is_advice());
    let mut text = match warnings.len() {
        0 => "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, one warning has been found!\n".to_owned(),
        many => format!("Check complete, {many} warnings have been found!\n"),
    };
    for (kind, found) in [("WARNING", warnings), ("ADVICE", advice)] {
        for (warning, excerpt) in found {
            let (rule, message) = (warning.rule, &warning.message);
            let (name, url) = (rule.name(), rule.url());
            writeln!(text, "\n{kind}: {name} - {url}\n{message}").expect("a string takes all text");
            text.push_str(excerpt);
        }
    }
    text
}

fn shown(target: &TargetInfo) -> String {
    match (target.name.as_str(), target.is_default) {
        ("", true) => "(default)".to_owned(),
        (name, true) => format!("{name} (default)"),
        (name, false) => name.to_owned(),
    }
}

fn targets(targets: &[TargetInfo]) -> String {
    let mut table = "TARGET\tDESCRIPTION\n".to_owned();
    for target in targets {
        table.push_str(&format!("{}\t{}\n", shown(target), target.description));
    }
    align_with(&table, 0, 1)
}

fn outline(outline: &build::Outline) -> String {
    let mut text = String::new();
    let mut add = |table: String, padding| {
        text.push_str(&align_with(&table, 0, padding));
        text.push('\n');
    };
    let target = &outline.target;
    if !(target.name.is_empty() && target.description.is_empty()) {
        let name = match target.name.as_str() {
            "" => "(default)",
            name => name,
        };
        let description = match target.description.as_str() {
            "" => String::new(),
            description => format!("DESCRIPTION:\t{description}\n"),
        };
        add(format!("TARGET:\t{name}\n{description}"), 1);
    }
    let args = outline.args.iter();
    let args = args.map(|arg| format!("{}\t{}\t{}", arg.name, arg.value, arg.description));
    let required = |(id, required): &(String, bool)| match required {
        true => format!("{id}\ttrue"),
        false => format!("{id}\t"),
    };
    for (title, rows) in [
        ("BUILD ARG\tVALUE\tDESCRIPTION", args.collect::<Vec<_>>()),
        (
            "SECRET\tREQUIRED",
            outline.secrets.iter().map(required).collect(),
        ),
        (
            "SSH\tREQUIRED",
            outline.agents.iter().map(required).collect(),
        ),
    ] {
        if !rows.is_empty() {
            add(format!("{title}\n{}\n", rows.join("\n")), 3);
        }
    }
    text
}
