//! `strata build`.

use std::collections::BTreeMap;
use std::fs;

use build::{BuildOptions, CacheUse, Network};
use oci::{Platform, Reference, ReferenceError};
use strata::container::variables::label;
use strata::ops::base_images::PullPolicy;
use strata::ops::image_build::ImageBuildError;

use super::background;
use super::build_display::{BuildDisplay, Style, watch};
use super::build_source::source;
use super::command::{Arity, Command};
use super::environment::variable;
use super::error::{CommandError, Exit, Voice, os_text};
use super::flags::{Arguments, Flag};
use super::name;
use super::session::Session;
use strata::describe;

pub(crate) const COMMAND: Command = Command {
    names: &["image build", "build", "buildx build", "builder build"],
    usage: "[OPTIONS] PATH | -",
    about: "Build an image from a Dockerfile",
    flags: &[
        Flag::many("build-arg", "list", "Set build-time variables"),
        Flag::switch("compress", "Ignored: the context is read where it is"),
        Flag::switched_on("disable-content-trust", "Skip image verification"),
        Flag::one(
            "file",
            "string",
            "Name of the Dockerfile (default \"PATH/Dockerfile\")",
        )
        .short('f'),
        Flag::switch("force-rm", "Ignored: steps leave no containers behind"),
        Flag::one("iidfile", "string", "Write the image ID to a file"),
        Flag::many("label", "list", "Set metadata for an image"),
        Flag::switch("load", "Ignored: the image is always put in the store"),
        Flag::one(
            "network",
            "string",
            "Set the networking mode for the RUN instructions during build: host or none (default \"host\")",
        ),
        Flag::switch("no-cache", "Do not use cache when building the image"),
        Flag::one("platform", "string", "Set target platform for build"),
        Flag::one(
            "progress",
            "string",
            "Set type of progress output (\"auto\", \"quiet\", \"plain\", \"tty\") (default \"auto\")",
        ),
        Flag::one(
            "provenance",
            "string",
            "Only false: images get no attestation",
        ),
        Flag::switch_or(
            "pull",
            &["always", "missing", "never"],
            "Always attempt to pull all referenced images; with =never, none",
        ),
        Flag::switch(
            "quiet",
            "Suppress the build output and print image ID on success",
        )
        .short('q'),
        Flag::switched_on("rm", "Ignored: steps leave no containers behind"),
        Flag::one("sbom", "string", "Only false: images get no attestation"),
        Flag::many(
            "tag",
            "list",
            "Name and optionally a tag (format: \"name:tag\")",
        )
        .short('t'),
        Flag::one("target", "string", "Set the target build stage to build"),
    ],
    refused: &[
        "add-host",
        "allow",
        "annotation",
        "attest",
        "build-context",
        "builder",
        "cache-from",
        "cache-to",
        "call",
        "cgroup-parent",
        "check",
        "cpu-period",
        "cpu-quota",
        "cpu-shares",
        "cpuset-cpus",
        "cpuset-mems",
        "isolation",
        "memory",
        "memory-swap",
        "metadata-file",
        "no-cache-filter",
        "output",
        "push",
        "secret",
        "security-opt",
        "shm-size",
        "squash",
        "ssh",
        "ulimit",
    ],
    arity: Arity::Exactly(1),
    voice: Voice::Build,
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    refuse_attestations(arguments)?;
    let style = style(arguments, session)?;
    let options = options(arguments, session)?;
    let pull = match arguments.text("pull") {
        Some("never") => PullPolicy::Never,
        Some("always") => PullPolicy::Always,
        _ if arguments.is_on("pull") => PullPolicy::Always,
        _ => PullPolicy::Missing,
    };
    let mut display = BuildDisplay::new(style);
    let result = watch(session.engine()?, &options, pull, &mut display)?;
    match result {
        Ok(built) => {
            display.succeed();
            let id = built.id.to_string();
            if let Some(path) = arguments.text("iidfile") {
                fs::write(path, &id).map_err(|error| failed(&open_error(path, &error)))?;
            }
            if style == Style::Quiet {
                session.out.line(&id)?;
            }
            background::tidy(session);
            Ok(Exit::SUCCESS)
        }
        Err(error) => {
            if let ImageBuildError::Build(error) = &error {
                display.fail(error);
            }
            background::tidy(session);
            let text = format!("failed to solve: {}", describe(&error));
            Err(failed(&text).caused_by(&error))
        }
    }
}

pub(super) fn failed(text: &str) -> CommandError {
    CommandError::client(format!("failed to build: {text}"))
}

pub(super) fn open_error(path: &str, error: &std::io::Error) -> String {
    format!("open {path}: {}", os_text(error))
}

fn style(arguments: &Arguments, session: &Session) -> Result<Style, CommandError> {
    if arguments.is_on("quiet") {
        return Ok(Style::Quiet);
    }
    let environment = session.environment.build_progress.as_deref();
    match arguments.text("progress").or(environment) {
        None | Some("auto" | "") => Ok(Style::auto(session.environment.no_color)),
        Some("plain") => Ok(Style::Plain),
        Some("tty") => Ok(Style::terminal(session.environment.no_color)),
        Some("quiet") => Ok(Style::Quiet),
        Some(other) => Err(failed(&format!(
            "invalid progress mode {other}: expected auto, quiet, plain or tty"
        ))),
    }
}

/// Attestations were asked for, and an image without them is not what was meant.
fn refuse_attestations(arguments: &Arguments) -> Result<(), CommandError> {
    for flag in ["provenance", "sbom"] {
        if arguments.text(flag).is_some_and(|value| value != "false") {
            return Err(failed(&format!(
                "attestations are not supported yet: give --{flag}=false"
            )));
        }
    }
    Ok(())
}

fn options(arguments: &Arguments, session: &Session) -> Result<BuildOptions, CommandError> {
    let tags = arguments
        .all("tag")
        .map(parse_tag)
        .collect::<Result<Vec<_>, _>>()?;
    let context = arguments.positional[0].as_str();
    let source = source(context, arguments.text("file"))?;
    let mut build_args = BTreeMap::new();
    for argument in arguments.all("build-arg") {
        match argument.split_once('=') {
            Some((name, value)) => drop(build_args.insert(name.to_owned(), value.to_owned())),
            None => build_args.extend(variable(argument).map(|v| (argument.to_owned(), v))),
        }
    }
    let platform = name::platform(arguments.text("platform"), session)?;
    let epoch = match &session.environment.source_date_epoch {
        None => None,
        Some(text) => Some(
            text.parse()
                .map_err(|_| failed(&format!("invalid SOURCE_DATE_EPOCH: {text}")))?,
        ),
    };
    Ok(BuildOptions {
        dockerfile: source.dockerfile,
        dockerfile_name: source.name,
        dockerfile_path: source.path,
        context: source.context,
        tags,
        build_args,
        target: arguments
            .text("target")
            .filter(|t| !t.is_empty())
            .map(str::to_owned),
        platform: platform.unwrap_or_else(Platform::host),
        cache: match arguments.is_on("no-cache") {
            true => CacheUse::Ignore,
            false => CacheUse::Use,
        },
        labels: arguments.all("label").map(label).collect(),
        epoch,
        network: match arguments.text("network") {
            None | Some("" | "default" | "host") => Network::Host,
            Some("none") => Network::None,
            Some(other) => {
                return Err(failed(&format!(
                    "network mode {other:?} not supported: use host or none"
                )));
            }
        },
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
    })
}

fn parse_tag(text: &str) -> Result<Reference, CommandError> {
    let invalid = |reason: &str| {
        let message = format!("failed to build: invalid tag {text:?}: {reason}");
        CommandError::reference_in(message, text)
    };
    let name = Reference::parse(text).map_err(|error| match error {
        ReferenceError::UpperCase(_) => invalid("repository name must be lowercase"),
        other => invalid(&other.to_string()),
    })?;
    if name.digest().is_some() {
        return Err(invalid("a digest cannot be given to an image"));
    }
    Ok(name.or_latest())
}
