//! `strata build`.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::sync::Mutex;

use build::{BuildOptions, Built, CacheUse, InlineCache, Network, ResultKind, Sandbox};
use oci::{Digest, Platform, Reference, ReferenceError};
use runtime::{Limits, Ulimit};
use serde_json::{Value, json};
use strata::container::variables::label;
use strata::ops::base_images::PullPolicy;
use strata::ops::build_context::RemoteContext;
use strata::ops::build_record::BuildPlace;
use strata::ops::image_build::{ImageBuildError, Surroundings};
use strata::ops::push::{Wanted, push};

use super::background;
use super::build_cache::Caches;
use super::build_call::Call;
use super::build_display::{BuildDisplay, Ended, SOLVE_CANCELED, Style, watch};
use super::build_output::{Outputs, write_archives};
use super::build_secrets;
use super::build_source::{named_contexts, source};
use super::command::{Arity, Command};
use super::environment::variable;
use super::error::{CommandError, Exit, Voice, os_text};
use super::flags::{Arguments, Flag};
use super::name;
use super::output::Channel;
use super::progress::{Direction, Transfer};
use super::pull::show;
use super::session::Session;
use strata::describe;

pub(crate) const COMMAND: Command = Command {
    names: &["image build", "build", "buildx build", "builder build"],
    usage: "[OPTIONS] PATH | URL | -",
    about: "Build an image from a Dockerfile",
    flags: &[
        Flag::many(
            "add-host",
            "list",
            "Add a custom host-to-IP mapping (format: \"host:ip\")",
        ),
        Flag::many(
            "allow",
            "stringArray",
            "Only network.host, which steps have anyway",
        ),
        Flag::many("build-arg", "list", "Set build-time variables"),
        Flag::many(
            "build-context",
            "stringArray",
            "Additional build contexts (e.g., name=path)",
        ),
        Flag::one("builder", "string", "Only default: there is one builder"),
        Flag::many(
            "cache-from",
            "stringArray",
            "External cache sources (e.g., \"user/app:cache\", \"type=local,src=path/to/dir\")",
        ),
        Flag::many(
            "cache-to",
            "stringArray",
            "Cache export destinations (e.g., \"type=registry,ref=user/app:cache\", \"type=local,dest=path/to/dir\", \"type=inline\")",
        ),
        Flag::one(
            "call",
            "string",
            "Set method for evaluating build (\"check\", \"outline\", \"targets\") (default \"build\")",
        ),
        Flag::switch("check", "Shorthand for \"--call=check\""),
        Flag::switch("compress", "Ignored: the context is read where it is"),
        Flag::switch("debug", "Ignored: errors are always complete").short('D'),
        Flag::switched_on("disable-content-trust", "Skip image verification"),
        Flag::one(
            "file",
            "string",
            "Name of the Dockerfile (default \"PATH/Dockerfile\")",
        )
        .short('f'),
        Flag::switch("force-rm", "Ignored: steps leave no containers behind"),
        Flag::one("iidfile", "string", "Write the image ID to a file"),
        Flag::one(
            "jobs",
            "int",
            "How many steps run at a time (default: the number of processors, at least 4)",
        ),
        Flag::many("label", "list", "Set metadata for an image"),
        Flag::switch("load", "Put the image in the store too, with --output"),
        Flag::one(
            "metadata-file",
            "string",
            "Write build result metadata to a file",
        ),
        Flag::one(
            "network",
            "string",
            "Set the networking mode for the RUN instructions during build: host or none (default \"host\")",
        ),
        Flag::switch("no-cache", "Do not use cache when building the image"),
        Flag::many(
            "output",
            "stringArray",
            "Output destination (format: \"type=local,dest=path\")",
        )
        .short('o'),
        Flag::many(
            "no-cache-filter",
            "stringArray",
            "Do not cache specified stages",
        ),
        Flag::many(
            "platform",
            "stringArray",
            "Set target platform for build; several make an index",
        ),
        Flag::one(
            "progress",
            "string",
            "Set type of progress output (\"auto\", \"none\", \"plain\", \"quiet\", \"rawjson\", \"tty\") (default \"auto\")",
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
        Flag::switch("push", "Push the image to its registries"),
        Flag::switch(
            "quiet",
            "Suppress the build output and print image ID on success",
        )
        .short('q'),
        Flag::switched_on("rm", "Ignored: steps leave no containers behind"),
        Flag::many(
            "secret",
            "stringArray",
            "Secret to expose to the build (format: \"id=mysecret[,src=/local/secret]\")",
        ),
        Flag::one("sbom", "string", "Only false: images get no attestation"),
        Flag::one(
            "shm-size",
            "bytes",
            "Shared memory size for build containers",
        ),
        Flag::many(
            "ssh",
            "stringArray",
            "SSH agent socket to expose to the build (format: \"default|<id>[=<socket>]\")",
        ),
        Flag::many(
            "tag",
            "list",
            "Name and optionally a tag (format: \"name:tag\")",
        )
        .short('t'),
        Flag::one("target", "string", "Set the target build stage to build"),
        Flag::many("ulimit", "ulimit", "Ulimit options (default [])"),
    ],
    refused: &[
        "annotation",
        "attest",
        "cgroup-parent",
        "cpu-period",
        "cpu-quota",
        "cpu-shares",
        "cpuset-cpus",
        "cpuset-mems",
        "isolation",
        "memory",
        "memory-swap",
        "security-opt",
        "squash",
    ],
    arity: Arity::Exactly(1),
    voice: Voice::Build,
    run,
    ..Command::DEFAULT
};

/// How many steps run at a time on the smallest machine: many wait for a network or a clock.
const JOBS: usize = 4;

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    refuse_attestations(arguments)?;
    refuse_others(arguments)?;
    let style = style(arguments, session)?;
    let cache = Caches::read(arguments)?;
    let mut outputs = Outputs::read(arguments)?;
    let (mut options, fetched) = options(arguments, session)?;
    for name in &outputs.names {
        options.tags.push(parse_tag(name)?);
    }
    if !outputs.keeps_image {
        options.result = ResultKind::Files;
    }
    options.inline_cache = cache.inline;
    check_several(&options, &outputs)?;
    if outputs.is_pushed && options.tags.is_empty() {
        return Err(failed("tag is needed when pushing to registry"));
    }
    let pull = match arguments.text("pull") {
        Some("never") => PullPolicy::Never,
        Some("always") => PullPolicy::Always,
        _ if arguments.is_on("pull") => PullPolicy::Always,
        _ => PullPolicy::Missing,
    };
    if let Some(call) = Call::read(arguments)? {
        return call.answer(&options, pull, session);
    }
    let mut display = BuildDisplay::new(style);
    let mut surroundings = Surroundings {
        pull,
        outputs: std::mem::take(&mut outputs.files),
        caches: cache.sources,
        exports: cache.targets,
        place: place(arguments),
    };
    let result = watch(session.engine()?, &options, &mut surroundings, &mut display)?;
    drop(fetched);
    match result {
        Ended::Built(built) => {
            display.succeed();
            let index = built.index.as_ref();
            let id = index.map_or(built.id.to_string(), |index| index.digest.to_string());
            let names: Vec<String> = options.tags.iter().map(Reference::to_string).collect();
            let targets = match names.is_empty() {
                true => vec![id.clone()],
                false => names.clone(),
            };
            write_archives(&outputs, session.store()?, &targets)?;
            let pushed = match outputs.is_pushed {
                true => push_all(&options.tags, style, session)?,
                false => None,
            };
            if let Some(path) = arguments.text("metadata-file") {
                let metadata = metadata(&built, pushed, &names.join(","));
                fs::write(path, format!("{metadata:#}"))
                    .map_err(|error| failed(&open_error(path, &error)))?;
            }
            if let Some(path) = arguments.text("iidfile") {
                fs::write(path, &id).map_err(|error| failed(&open_error(path, &error)))?;
            }
            let is_kept = options.result == ResultKind::Image;
            if prints_id(arguments, style) && is_kept && !outputs.uses_stdout {
                session.out.line(&id)?;
            }
            background::tidy(session);
            Ok(Exit::SUCCESS)
        }
        Ended::Canceled => {
            display.cancel();
            background::tidy(session);
            Err(failed(SOLVE_CANCELED).exit(Exit::CANCELED))
        }
        Ended::Failed(error) => {
            if let ImageBuildError::Build(error) = &error {
                display.fail(error);
            }
            background::tidy(session);
            let text = format!("failed to solve: {}", describe(&error));
            Err(failed(&text).caused_by(&error))
        }
    }
}

/// docker tells the id of an image where nothing else is told, but for `--progress=none`.
fn prints_id(arguments: &Arguments, style: Style) -> bool {
    style == Style::Quiet
        && (arguments.is_on("quiet") || arguments.text("progress") != Some("none"))
}

/// Returns what the user calls what is built.
fn place(arguments: &Arguments) -> BuildPlace {
    let pair = |text: &str| {
        let (name, value) = text.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    BuildPlace {
        context: arguments.positional[0].clone(),
        named_contexts: arguments.all("build-context").filter_map(pair).collect(),
    }
}

/// Returns what `--metadata-file` is to hold.
fn metadata(built: &Built, pushed: Option<Digest>, names: &str) -> Value {
    match &built.index {
        Some(index) => json!({
            "containerimage.descriptor": index,
            "containerimage.digest": index.digest,
            "image.name": names,
        }),
        None => json!({
            "containerimage.config.digest": built.id.to_string(),
            "containerimage.digest": pushed.unwrap_or(*built.id.digest()),
            "image.name": names,
        }),
    }
}

/// Refuses what several platforms cannot become.
fn check_several(options: &BuildOptions, outputs: &Outputs) -> Result<(), CommandError> {
    if options.other_platforms.is_empty() {
        return Ok(());
    }
    if outputs.has_docker_archive {
        return Err(failed(
            "docker exporter does not support exporting manifest lists, use the oci exporter instead",
        ));
    }
    if !outputs.archives.is_empty() && options.tags.is_empty() {
        return Err(failed(
            "an archive of several platforms needs a name: give one with --tag",
        ));
    }
    Ok(())
}

/// Pushes the image under each of its names; returns the digest of its manifest.
fn push_all(
    names: &[Reference],
    style: Style,
    session: &Session,
) -> Result<Option<Digest>, CommandError> {
    let mut digest = None;
    for name in names {
        let columns = Channel::Stderr.columns();
        let transfer = Mutex::new(Transfer::new(Direction::Push, None, columns));
        let pushed = push(session.engine()?, name, None, Wanted::Any, &|event| {
            if style != Style::Quiet {
                show(&transfer, &event, Channel::Stderr);
            }
        });
        let pushed = pushed.map_err(|error| {
            failed(&format!(
                "failed to solve: failed to push {name}: {}",
                describe(&error)
            ))
        })?;
        digest = Some(pushed.digest);
    }
    Ok(digest)
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
        Some("quiet" | "none") => Ok(Style::Quiet),
        Some("rawjson") => Ok(Style::Raw),
        Some(other) => Err(failed(&format!(
            "invalid progress mode {other}: expected auto, none, plain, quiet, rawjson or tty"
        ))),
    }
}

/// Builders and entitlements that are not there were asked for.
fn refuse_others(arguments: &Arguments) -> Result<(), CommandError> {
    let builder = arguments.text("builder").unwrap_or_default();
    if !["", "default"].contains(&builder) {
        return Err(failed(&format!(
            "no builder {builder:?} found: there is only default"
        )));
    }
    let allowed = arguments.all("allow").flat_map(|list| list.split(','));
    for entitlement in allowed {
        if entitlement != "network.host" {
            return Err(failed(&format!(
                "entitlement {entitlement:?} cannot be allowed: only network.host can"
            )));
        }
    }
    Ok(())
}

/// How many steps run at a time.
fn jobs(arguments: &Arguments) -> Result<usize, CommandError> {
    match arguments.text("jobs") {
        None => Ok(std::thread::available_parallelism().map_or(JOBS, |it| it.get().max(JOBS))),
        Some(text) => match text.parse() {
            Ok(jobs @ 1..) => Ok(jobs),
            _ => Err(arguments
                .invalid("jobs", text, "expected a number from 1")
                .into()),
        },
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

/// Returns what is to be built, and the contexts that had to be fetched.
fn options(
    arguments: &Arguments,
    session: &Session,
) -> Result<(BuildOptions, Vec<RemoteContext>), CommandError> {
    let tags = arguments
        .all("tag")
        .map(parse_tag)
        .collect::<Result<Vec<_>, _>>()?;
    let mut build_args = BTreeMap::new();
    for argument in arguments.all("build-arg") {
        match argument.split_once('=') {
            Some((name, value)) => drop(build_args.insert(name.to_owned(), value.to_owned())),
            None => build_args.extend(variable(argument).map(|v| (argument.to_owned(), v))),
        }
    }
    let mut platforms = platforms(arguments, session)?.into_iter();
    let epoch = match &session.environment.source_date_epoch {
        None => None,
        Some(text) => Some(
            text.parse()
                .map_err(|_| failed(&format!("invalid SOURCE_DATE_EPOCH: {text}")))?,
        ),
    };
    let secrets = build_secrets::secrets(arguments)?;
    let agents = build_secrets::agents(arguments)?;
    let sandbox = sandbox(arguments)?;
    // Last: what is fetched is fetched for a command that is right.
    let context = arguments.positional[0].as_str();
    let (contexts, mut fetched) = named_contexts(arguments, session)?;
    let source = source(context, arguments, session)?;
    fetched.extend(source.remote);
    let options = BuildOptions {
        dockerfile: source.dockerfile,
        dockerfile_name: source.name,
        dockerfile_place: source.place,
        context: source.context,
        contexts,
        result: ResultKind::Image,
        tags,
        build_args,
        target: arguments
            .text("target")
            .filter(|t| !t.is_empty())
            .map(str::to_owned),
        platform: platforms.next().unwrap_or_else(Platform::host),
        other_platforms: platforms.collect(),
        uncached_stages: arguments
            .all("no-cache-filter")
            .flat_map(|names| names.split(','))
            .map(str::to_owned)
            .collect(),
        inline_cache: InlineCache::Leave,
        cache: match arguments.is_on("no-cache") {
            true => CacheUse::Ignore,
            false => CacheUse::Use,
        },
        labels: arguments.all("label").map(label).collect(),
        epoch,
        sandbox,
        jobs: jobs(arguments)?,
        secrets,
        agents,
    };
    Ok((options, fetched))
}

/// Returns the platforms, each once, in the order in which they are given.
fn platforms(arguments: &Arguments, session: &Session) -> Result<Vec<Platform>, CommandError> {
    let mut platforms = Vec::new();
    let mut add = |text: Option<&str>| {
        let platform = match text {
            Some("local") => Some(Platform::host()),
            text => name::platform(text, session)?,
        };
        if let Some(platform) = platform.filter(|platform| !platforms.contains(platform)) {
            platforms.push(platform);
        }
        Ok::<_, CommandError>(())
    };
    let given = arguments.all("platform").flat_map(|list| list.split(','));
    let given: Vec<&str> = given
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .collect();
    if given.is_empty() {
        add(None)?;
    }
    for text in given {
        add(Some(text))?;
    }
    Ok(platforms)
}

fn sandbox(arguments: &Arguments) -> Result<Sandbox, CommandError> {
    let mut limits = Limits::default();
    if let Some(text) = arguments.text("shm-size") {
        limits.shm_size = dockerfile::parse_size(text)
            .ok_or_else(|| arguments.invalid("shm-size", text, "invalid size"))?;
    }
    for text in arguments.all("ulimit") {
        let limit = text.parse::<Ulimit>();
        let limit = limit.map_err(|error| arguments.invalid("ulimit", text, &error.to_string()))?;
        limits.ulimits.push(limit);
    }
    Ok(Sandbox {
        network: network(arguments)?,
        hosts: arguments
            .all("add-host")
            .map(host)
            .collect::<Result<_, _>>()?,
        limits,
    })
}

/// Reads `name:address` or `name=address`; a v6 address may be in brackets.
fn host(text: &str) -> Result<(String, IpAddr), CommandError> {
    let Some((name, address)) = text.split_once(['=', ':']) else {
        return Err(failed(&format!("bad format for add-host: {text:?}")));
    };
    let bare = address
        .strip_prefix('[')
        .and_then(|it| it.strip_suffix(']'));
    let parsed = bare.unwrap_or(address).parse();
    match parsed {
        Ok(address) if !name.is_empty() && !name.contains(char::is_whitespace) => {
            Ok((name.to_owned(), address))
        }
        Ok(_) => Err(failed(&format!("bad format for add-host: {text:?}"))),
        Err(_) => Err(failed(&format!(
            "invalid IP address in add-host: {address:?}"
        ))),
    }
}

fn network(arguments: &Arguments) -> Result<Network, CommandError> {
    match arguments.text("network") {
        None | Some("" | "default" | "host") => Ok(Network::Host),
        Some("none") => Ok(Network::None),
        Some(other) => Err(failed(&format!(
            "network mode {other:?} not supported: use host or none"
        ))),
    }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Each flag that docs/build-flags.md tells of, and whether it is refused.
    fn told() -> BTreeMap<String, bool> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/build-flags.md");
        let text = fs::read_to_string(path).expect("docs/build-flags.md");
        let row = |line: &str| {
            let mut cells = line.strip_prefix("| `--")?.split(" | ");
            let flag = cells.next()?.strip_suffix('`')?.to_owned();
            Some((flag, cells.next()? == "refused"))
        };
        text.lines().filter_map(row).collect()
    }

    #[test]
    fn the_table_of_flags_is_what_the_command_takes() {
        let taken = COMMAND
            .flags
            .iter()
            .map(|flag| (flag.long.to_owned(), false));
        let refused = COMMAND
            .refused
            .iter()
            .map(|flag| ((*flag).to_owned(), true));
        assert_eq!(told(), taken.chain(refused).collect());
    }
}
