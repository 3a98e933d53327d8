//! `strata history ls`, `logs`, `inspect` and `rm`: builds that have ended.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use build::Event;
use serde_json::{Value, json};
use store::{BuildRecord, BuildStatus, Store};
use strata::ops::build_log::{BuildLogError, read_build_log};
use strata::ops::build_record::{BuildAbout, Failure};

use super::background;
use super::command::{Arity, Command};
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::images::LIST_FORMAT_HELP;
use super::listing::{Field, Listing};
use super::progress::{BuildPlain, BuildRaw};
use super::session::Session;
use super::template::{Format, Purpose, Subject};
use super::units;

pub(crate) const LS: Command = Command {
    names: &["buildx history ls", "builder history ls", "history ls"],
    about: "List build records",
    flags: &[
        Flag::many(
            "filter",
            "stringArray",
            "Provide filter values (e.g., \"status=error\")",
        ),
        Flag::one("format", "string", LIST_FORMAT_HELP),
        Flag::switch("no-trunc", "Don't truncate output"),
    ],
    refused: &["builder", "local"],
    run: ls,
    ..Command::DEFAULT
};

pub(crate) const LOGS: Command = Command {
    names: &[
        "buildx history logs",
        "builder history logs",
        "history logs",
    ],
    usage: "[OPTIONS] [REF]",
    about: "Print the logs of a build record",
    notes: NAMES,
    flags: &[Flag::one(
        "progress",
        "string",
        "Set type of progress output (plain, rawjson) (default \"plain\")",
    )],
    refused: &["builder"],
    arity: Arity::AtMost(1),
    run: logs,
    ..Command::DEFAULT
};

pub(crate) const INSPECT: Command = Command {
    names: &[
        "buildx history inspect",
        "builder history inspect",
        "history inspect",
    ],
    usage: "[OPTIONS] [REF]",
    about: "Inspect a build record",
    notes: NAMES,
    flags: &[Flag::one(
        "format",
        "string",
        "Format the output: pretty, json, or a template (default \"pretty\")",
    )],
    refused: &["builder"],
    arity: Arity::AtMost(1),
    run: inspect,
    ..Command::DEFAULT
};

pub(crate) const RM: Command = Command {
    names: &["buildx history rm", "builder history rm", "history rm"],
    usage: "[OPTIONS] [REF...]",
    about: "Remove build records",
    flags: &[Flag::switch("all", "Remove all build records")],
    refused: &["builder"],
    arity: Arity::AtLeast(0),
    run: rm,
    ..Command::DEFAULT
};

const NAMES: &str = "A build is named by its id or the beginning of it, or by ^N: the Nth before the last one.\n\
                     Without a name it is the last one.";

/// docker lists this many.
const LISTED: usize = 50;
/// The width of NAME, as in docker.
const NAME_WIDTH: usize = 36;
/// As many lines of a failed step are shown.
const TAIL: usize = 16;

const FIELDS: &[Field] = &[
    Field::new("Ref", "BUILD ID"),
    Field::new("Name", "NAME"),
    Field::new("Status", "STATUS"),
    Field::new("CreatedAt", "CREATED AT"),
    Field::new("Duration", "DURATION"),
];

fn ls(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let filters = arguments.all("filter").map(Filter::parse);
    let filters = filters.collect::<Result<Vec<_>, _>>()?;
    let mut builds = session.store()?.builds()?;
    builds.retain(|build| filters.iter().all(|filter| filter.matches(build)));
    builds.truncate(LISTED);
    let format = arguments.text("format");
    if matches!(format, Some("json" | "{{json .}}")) {
        let lines = builds.iter().map(|build| format!("{}\n", row(build)));
        session.out.data(&lines.collect::<String>())?;
        return Ok(Exit::SUCCESS);
    }
    let now = units::now();
    let cells = |build: &BuildRecord| {
        let age = units::age(units::moment(build.started), now);
        let name = match arguments.is_on("no-trunc") {
            true => build.name.clone(),
            false => trim_beginning(&build.name),
        };
        vec![
            build.reference.clone(),
            name,
            status(build.status).to_owned(),
            format!("{age} ago"),
            duration(build.seconds),
        ]
    };
    let listing = Listing {
        fields: FIELDS,
        kind: "*history.lsContext",
        rows: builds.iter().map(cells).collect(),
    };
    let columns = ["Ref", "Name", "Status", "CreatedAt", "Duration"];
    session.out.data(&listing.render(format, &columns)?)?;
    Ok(Exit::SUCCESS)
}

/// A value of `--filter`: `status=error`, `ref=…`.
struct Filter {
    is_ref: bool,
    is_equal: bool,
    value: String,
}

impl Filter {
    fn parse(text: &str) -> Result<Self, CommandError> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| invalid(text, "expected status=VALUE or ref=VALUE"))?;
        let (name, is_equal) = match name.strip_suffix('!') {
            Some(name) => (name, false),
            None => (name, true),
        };
        let is_ref = match name {
            "ref" => true,
            "status" => {
                if !["completed", "error", "canceled"].contains(&value) {
                    return Err(invalid(text, "a status is completed, error or canceled"));
                }
                false
            }
            _ => return Err(invalid(text, "expected status=VALUE or ref=VALUE")),
        };
        Ok(Self {
            is_ref,
            is_equal,
            value: value.to_owned(),
        })
    }

    fn matches(&self, build: &BuildRecord) -> bool {
        let is_match = match self.is_ref {
            true => build.reference == self.value,
            false => status(build.status).eq_ignore_ascii_case(&self.value),
        };
        is_match == self.is_equal
    }
}

fn invalid(filter: &str, reason: &str) -> CommandError {
    CommandError::client(format!("invalid filter {filter:?}: {reason}"))
}

fn row(build: &BuildRecord) -> Value {
    let steps = BuildAbout::of(build).steps;
    json!({
        "cached_steps": steps.cached,
        "completed_at": completed(build).to_string(),
        "completed_steps": steps.completed,
        "created_at": build.started.to_string(),
        "name": build.name,
        "ref": build.reference,
        "status": status(build.status),
        "total_steps": steps.total,
    })
}

fn status(status: BuildStatus) -> &'static str {
    match status {
        BuildStatus::Completed => "Completed",
        BuildStatus::Failed => "Error",
        BuildStatus::Canceled => "Canceled",
    }
}

fn completed(build: &BuildRecord) -> store::Timestamp {
    let took = i64::try_from(took(build).as_nanos()).unwrap_or(i64::MAX);
    store::Timestamp(build.started.0.saturating_add(took))
}

fn took(build: &BuildRecord) -> Duration {
    Duration::try_from_secs_f64(build.seconds).unwrap_or_default()
}

fn duration(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds)
        .unwrap_or_default()
        .as_secs();
    match whole {
        0..60 => format!("{seconds:.1}s"),
        _ => format!("{}m {:2}s", whole / 60, whole % 60),
    }
}

/// Keeps the end of a long name, as docker does.
fn trim_beginning(name: &str) -> String {
    let length = name.chars().count();
    match length <= NAME_WIDTH {
        true => name.to_owned(),
        false => {
            let end: String = name.chars().skip(length - NAME_WIDTH + 2).collect();
            format!("..{end}")
        }
    }
}

/// Finds the build that an argument names.
fn find(store: &Store, name: Option<&str>) -> Result<BuildRecord, CommandError> {
    let mut builds = store.builds()?;
    let index = match name {
        None => Some(0),
        Some("") => None,
        Some(name) => match name.strip_prefix('^') {
            Some(number) => Some(number.parse().map_err(|_| {
                CommandError::client(format!("invalid offset {name:?}: expected ^ and a number"))
            })?),
            None => {
                let reference = name.rsplit('/').next().unwrap_or_default();
                let is_named = |build: &BuildRecord| build.reference.starts_with(reference);
                let named = builds.iter().filter(|build| is_named(build)).count();
                let exact = builds.iter().position(|build| build.reference == reference);
                match (exact, named) {
                    (Some(exact), _) => Some(exact),
                    (None, 0 | 1) => builds.iter().position(is_named),
                    (None, _) => {
                        let message = format!("several builds begin with {name:?}");
                        return Err(CommandError::client(message));
                    }
                }
            }
        },
    };
    match (index.filter(|index| *index < builds.len()), name) {
        (Some(index), _) => Ok(builds.swap_remove(index)),
        (None, None) => Err(CommandError::client("no records found")),
        (None, Some(name)) => Err(CommandError::client(format!(
            "no record found for ref {name:?}"
        ))),
    }
}

fn logs(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let is_raw = match arguments.text("progress") {
        None | Some("" | "auto" | "plain") => false,
        Some("rawjson") => true,
        Some(other) => {
            let message = format!("invalid progress mode {other}: expected plain or rawjson");
            return Err(CommandError::client(message));
        }
    };
    let store = session.store()?.clone();
    let build = find(&store, arguments.positional.first().map(String::as_str))?;
    let (mut plain, mut raw) = (BuildPlain::default(), BuildRaw::default());
    let mut failed = Ok(());
    let mut is_first = true;
    read_build_log(&store, build.log.as_ref(), &mut |at, event| {
        let text = match is_raw {
            true => raw.line(at, event),
            false => plain.lines(event),
        };
        // Lines of a new step follow an empty one.
        let text = match is_first {
            true => text.trim_start_matches('\n'),
            false => &text,
        };
        is_first &= text.is_empty();
        if failed.is_ok() {
            failed = session.out.data(text);
        }
    })?;
    failed?;
    if let (false, Some(failure)) = (is_raw, BuildAbout::of(&build).failure) {
        let mut text = String::new();
        if !failure.step.is_empty() {
            text = plain.failure(&failure.step);
        }
        session.out.data(&format!("{text}{}", failure.excerpt))?;
    }
    Ok(Exit::SUCCESS)
}

fn rm(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let store = session.store()?.clone();
    let references = match (arguments.is_on("all"), arguments.positional.as_slice()) {
        (true, []) => None,
        (true, _) => {
            return Err(CommandError::client(
                "cannot remove all and specific refs at the same time",
            ));
        }
        (false, []) => {
            return Err(CommandError::client("name builds to remove, or give --all"));
        }
        (false, names) => {
            let found = names.iter().map(|name| find(&store, Some(name)));
            let found = found.collect::<Result<Vec<_>, _>>()?;
            Some(found.into_iter().map(|it| it.reference).collect::<Vec<_>>())
        }
    };
    store.remove_builds(references.as_deref())?;
    background::tidy(session);
    Ok(Exit::SUCCESS)
}

fn inspect(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let name = arguments.positional.first().map(String::as_str);
    let store = session.store()?.clone();
    let build = find(&store, name)?;
    let about = BuildAbout::of(&build);
    let tail = match &about.failure {
        Some(failure) => tail(&store, &build, failure)?,
        None => Vec::new(),
    };
    let text = match arguments.text("format") {
        None | Some("" | "pretty") => pretty(&build, &about, (&tail, name, session.program)),
        Some("json" | "{{json .}}") => {
            let object = object(&build, &about, &tail);
            format!("{object:#}\n")
        }
        Some(template) => {
            let format = Format::parse(template, Purpose::Data, Subject::Object)?;
            let object = gotmpl::to_value(&object(&build, &about, &tail))?;
            format.execute(&object)? + "\n"
        }
    };
    session.out.data(&text)?;
    Ok(Exit::SUCCESS)
}

/// Returns what the step that failed said last.
fn tail(
    store: &Store,
    build: &BuildRecord,
    failure: &Failure,
) -> Result<Vec<String>, CommandError> {
    let mut failed = None;
    let mut lines = VecDeque::new();
    let read = read_build_log(store, build.log.as_ref(), &mut |_, event| match event {
        Event::StepStarted { step, name } if *name == failure.step => failed = Some(*step),
        Event::Log { step, line, .. } if failed == Some(*step) => {
            if lines.len() == TAIL {
                lines.pop_front();
            }
            lines.push_back(line.clone());
        }
        _ => {}
    });
    match read {
        Ok(()) | Err(BuildLogError::Gone) => Ok(lines.into()),
        Err(error) => Err(error.into()),
    }
}

/// Returns docker's object; fields that are not set are left out.
fn object(build: &BuildRecord, about: &BuildAbout, tail: &[String]) -> Value {
    let pairs = |pairs: &BTreeMap<String, String>| -> Value {
        let pair = |(name, value)| json!({ "Name": name, "Value": value });
        pairs.iter().map(pair).collect()
    };
    let failure = about.failure.as_ref();
    let materials = about.materials.iter();
    let attachments = match about.image.as_str() {
        "" => json!([]),
        image => json!([{ "Digest": image, "Type": oci::MediaType::DOCKER_CONFIG }]),
    };
    let mut object = json!({
        "Name": build.name,
        "Ref": build.reference,
        "Context": about.context,
        "Dockerfile": build.dockerfile,
        "Target": about.target,
        "Platform": about.platforms,
        "NamedContexts": pairs(&about.named_contexts),
        "Tags": about.tags,
        "StartedAt": build.started.to_string(),
        "CompletedAt": completed(build).to_string(),
        "Duration": u64::try_from(took(build).as_nanos()).unwrap_or(u64::MAX),
        "Status": build.status.word(),
        "Error": failure.map(|failure| prune(json!({
            "Message": failure.message,
            "Name": failure.step,
            "Logs": tail,
            "Sources": STANDARD.encode(&failure.excerpt),
        }))),
        "BuildArgs": pairs(&about.args),
        "Labels": pairs(&about.labels),
        "Materials": materials
            .map(|(uri, digest)| json!({ "URI": uri, "Digests": [digest] }))
            .collect::<Value>(),
        "Attachments": attachments,
        "Steps": build.steps,
    });
    object = prune(object);
    object["NumCompletedSteps"] = json!(about.steps.completed);
    object["NumTotalSteps"] = json!(about.steps.total);
    object["NumCachedSteps"] = json!(about.steps.cached);
    object["Config"] = prune(json!({
        "Network": about.network,
        "ExtraHosts": about.hosts,
        "NoCache": about.no_cache,
        "NoCacheFilter": about.uncached_stages,
        "ShmSize": match about.shm_size { 0 => String::new(), size => size.to_string() },
        "Ulimit": about.ulimits.join(","),
        "SourceDateEpoch": about.epoch.map(|epoch| epoch.to_string()),
    }));
    object
}

/// Leaves out what is not set.
fn prune(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Bool(true) | Value::Number(_) | Value::Object(_) => true,
        });
    }
    object
}

fn pretty(
    build: &BuildRecord,
    about: &BuildAbout,
    (tail, name, program): (&[String], Option<&str>, &str),
) -> String {
    let reference = match name {
        None => build.reference.as_str(),
        Some(_) => "",
    };
    let blocks = [
        fields(&[
            ("Name", &build.name),
            ("Ref", reference),
            ("Context", &about.context),
            ("Dockerfile", &build.dockerfile),
            ("Target", &about.target),
            ("Platforms", &about.platforms.join(", ")),
            ("Tags", &about.tags.join(", ")),
        ]),
        pairs("NAMED CONTEXT", &about.named_contexts),
        ending(build, about),
        settings(about),
        pairs("BUILD ARG", &about.args),
        pairs("LABEL", &about.labels),
        steps(build),
        materials(about),
        about
            .failure
            .as_ref()
            .map(|it| it.excerpt.clone())
            .unwrap_or_default(),
        last_words(about, tail),
    ];
    let mut text = String::new();
    for block in blocks.iter().filter(|block| !block.is_empty()) {
        text.push_str(block);
        text.push('\n');
    }
    let reference = &build.reference;
    text + &format!("Print build logs: {program} buildx history logs {reference}\n")
}

fn pairs(title: &str, pairs: &BTreeMap<String, String>) -> String {
    let mut rows = vec![vec![title.to_owned(), "VALUE".to_owned()]];
    rows.extend(
        pairs
            .iter()
            .map(|(name, value)| vec![name.clone(), value.clone()]),
    );
    match pairs.is_empty() {
        true => String::new(),
        false => tabbed(&rows),
    }
}

fn ending(build: &BuildRecord, about: &BuildAbout) -> String {
    let started = units::moment(build.started).strftime("%Y-%m-%d %H:%M:%S");
    let counts = &about.steps;
    let share = match counts.total {
        0 => 0,
        total => (counts.cached * 200 + total) / (2 * total),
    };
    let failure = about
        .failure
        .as_ref()
        .map_or("", |failure| &failure.message);
    let (error, status) = match build.status {
        BuildStatus::Completed => ("", ""),
        BuildStatus::Failed => (failure, ""),
        BuildStatus::Canceled => ("", "Canceled"),
    };
    let counts = format!("{}/{} ({share}% cached)", counts.completed, counts.total);
    fields(&[
        ("Started", &started.to_string()),
        ("Duration", &duration(build.seconds)),
        ("Error", error),
        ("Status", status),
        ("Build Steps", &counts),
    ])
}

fn settings(about: &BuildAbout) -> String {
    let size = match about.shm_size {
        0 => String::new(),
        size => size.to_string(),
    };
    let epoch = about.epoch.map(|epoch| epoch.to_string());
    fields(&[
        ("Network", &about.network),
        ("Extra Hosts", &about.hosts.join(", ")),
        ("No Cache", if about.no_cache { "true" } else { "" }),
        ("No Cache Filter", &about.uncached_stages.join(", ")),
        ("Shm Size", &size),
        ("Resource Limits", &about.ulimits.join(",")),
        ("Source Date Epoch", &epoch.unwrap_or_default()),
    ])
}

/// Returns what the image was made of, and the image.
fn materials(about: &BuildAbout) -> String {
    let mut text = String::new();
    if !about.materials.is_empty() {
        let mut rows = vec![vec!["URI".to_owned(), "DIGEST".to_owned()]];
        let materials = about.materials.iter();
        rows.extend(materials.map(|(uri, digest)| vec![uri.clone(), digest.clone()]));
        text.push_str(&format!("Materials:\n{}", tabbed(&rows)));
    }
    if !about.image.is_empty() {
        let header = ["DIGEST", "PLATFORM", "TYPE"].map(str::to_owned).to_vec();
        let media_type = oci::MediaType::DOCKER_CONFIG.to_owned();
        let image = vec![about.image.clone(), String::new(), media_type];
        let empty = if text.is_empty() { "" } else { "\n" };
        text.push_str(&format!(
            "{empty}Attachments:\n{}",
            tabbed(&[header, image])
        ));
    }
    text
}

/// Returns what the step that failed said last.
fn last_words(about: &BuildAbout, tail: &[String]) -> String {
    let Some(failure) = about.failure.as_ref().filter(|_| !tail.is_empty()) else {
        return String::new();
    };
    let mut text = format!("Logs:\n> => {}:\n", failure.step);
    for line in tail {
        text.push_str(&format!("> {line}\n"));
    }
    text
}

/// Returns the steps that make layers, with the time that each took.
fn steps(build: &BuildRecord) -> String {
    let header = ["TIME", "LINE", "STEP"].map(str::to_owned).to_vec();
    let mut rows = vec![header];
    for step in build.steps.as_array().into_iter().flatten() {
        let text = |name: &str| step[name].as_str().unwrap_or_default().to_owned();
        let result = match step["cached"].as_bool() {
            Some(true) => "cached".to_owned(),
            _ => duration(step["seconds"].as_f64().unwrap_or_default()),
        };
        rows.push(vec![result, step["line"].to_string(), text("name")]);
    }
    match rows.len() {
        1 => String::new(),
        _ => tabbed(&rows),
    }
}

/// Returns lines of a name and a value each, without those that have none.
fn fields(fields: &[(&str, &str)]) -> String {
    let given = fields.iter().filter(|(_, value)| !value.is_empty());
    let row = |(name, value): &(&str, &str)| vec![format!("{name}:"), (*value).to_owned()];
    tabbed(&given.map(row).collect::<Vec<_>>())
}

/// Aligns columns with tabs, as docker does here.
fn tabbed(rows: &[Vec<String>]) -> String {
    const STOP: usize = 8;
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let longest = cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default();
        (longest / STOP + 1) * STOP
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                let missing = widths[column] - cell.chars().count();
                text.push_str(&"\t".repeat(missing.div_ceil(STOP)));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_with_tabs_as_docker_aligns_them() {
        let rows = [["BUILD ARG", "VALUE"], ["V", "2"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(tabbed(&rows), "BUILD ARG\tVALUE\nV\t\t2\n");
        let text = fields(&[("Name", "hc"), ("Dockerfile", "Bad"), ("Target", "")]);
        assert_eq!(text, "Name:\t\thc\nDockerfile:\tBad\n");
    }

    #[test]
    fn durations_and_names_are_cut_as_docker_cuts_them() {
        assert_eq!(duration(0.24), "0.2s");
        assert_eq!(duration(62.0), "1m  2s");
        let long = "a".repeat(40);
        assert_eq!(trim_beginning(&long), format!("..{}", "a".repeat(34)));
        assert_eq!(trim_beginning("short"), "short");
    }
}
