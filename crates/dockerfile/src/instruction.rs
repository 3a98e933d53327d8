//! Words to typed instructions.

use crate::error::ParseErrorKind;
use crate::flags::{Flags, Takes};
use crate::node::{Node, Words};
use crate::{
    Add, Arg, ArgDefinition, Command, Copy, Device, FileContent, Form, Healthcheck,
    HealthcheckTest, Heredoc, Instruction, KeyValue, MountFlag, Run, RunNetwork, RunSecurity,
    duration, heredoc, suggest,
};

/// All instructions, for suggestions.
const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

const MINIMUM_INTERVAL: i64 = 1_000_000;

/// `FROM`, or an instruction after it.
pub(crate) enum Statement {
    From(From),
    Instruction(Instruction),
}

/// The words of a `FROM`.
pub(crate) struct From {
    pub(crate) name: Option<String>,
    pub(crate) base: String,
    pub(crate) platform: Option<String>,
    pub(crate) description: Option<String>,
}

/// Gives the words of an instruction their meaning.
pub(crate) fn from_node(node: &Node) -> Result<Statement, ParseErrorKind> {
    let keyword = node.keyword.to_ascii_uppercase();
    let instruction = match keyword.as_str() {
        "FROM" => return from(node).map(Statement::From),
        "ADD" => Instruction::Add(add(node)?),
        "ARG" => Instruction::Arg(arg(node)?),
        "CMD" => {
            no_flags(node)?;
            Instruction::Cmd(command(node))
        }
        "COPY" => Instruction::Copy(copy(node)?),
        "ENTRYPOINT" => {
            no_flags(node)?;
            Instruction::Entrypoint(command(node))
        }
        "ENV" => Instruction::Env(pairs(node, "ENV")?),
        "EXPOSE" => {
            let mut ports = at_least_one(node, "EXPOSE")?.to_vec();
            ports.sort_unstable();
            Instruction::Expose(ports)
        }
        "HEALTHCHECK" => Instruction::Healthcheck(healthcheck(node)?),
        "LABEL" => Instruction::Label(pairs(node, "LABEL")?),
        "MAINTAINER" => Instruction::Maintainer(exactly_one(node, "MAINTAINER")?),
        "ONBUILD" => Instruction::OnBuild(on_build(node)?),
        "RUN" => Instruction::Run(run(node)?),
        "SHELL" => Instruction::Shell(shell(node)?),
        // docker takes any flag here and ignores it.
        "STOPSIGNAL" => match words(node) {
            [signal] => Instruction::StopSignal(signal.clone()),
            _ => return Err(ParseErrorKind::ExactlyOneArgument("STOPSIGNAL")),
        },
        "USER" => Instruction::User(exactly_one(node, "USER")?),
        "VOLUME" => Instruction::Volume(volume(node)?),
        "WORKDIR" => Instruction::Workdir(exactly_one(node, "WORKDIR")?),
        _ => return Err(unknown(&node.keyword, &keyword)),
    };
    Ok(Statement::Instruction(instruction))
}

fn unknown(name: &str, upper: &str) -> ParseErrorKind {
    let suggestion = suggest::nearest(upper, &NAMES).map(|nearest| {
        if name.chars().any(char::is_uppercase) {
            nearest.to_owned()
        } else {
            nearest.to_lowercase()
        }
    });
    ParseErrorKind::UnknownInstruction {
        name: name.to_owned(),
        suggestion,
    }
}

/// Returns the words of an instruction that has neither pairs nor an instruction in it.
fn words(node: &Node) -> &[String] {
    match &node.words {
        Words::Plain(words) | Words::Json(words) => words,
        Words::Pairs(_) | Words::Instruction(_) => &[],
    }
}

fn no_flags(node: &Node) -> Result<(), ParseErrorKind> {
    Flags::parse(&node.flags, &[]).map(|_| ())
}

fn exactly_one(node: &Node, name: &'static str) -> Result<String, ParseErrorKind> {
    let [word] = words(node) else {
        return Err(ParseErrorKind::ExactlyOneArgument(name));
    };
    no_flags(node)?;
    Ok(word.clone())
}

fn at_least_one<'a>(node: &'a Node, name: &'static str) -> Result<&'a [String], ParseErrorKind> {
    let words = words(node);
    if words.is_empty() {
        return Err(ParseErrorKind::AtLeastOneArgument(name));
    }
    no_flags(node)?;
    Ok(words)
}

fn command(node: &Node) -> Command {
    match &node.words {
        Words::Json(words) => Command::Exec(words.clone()),
        Words::Plain(words) => Command::Shell(words.join(" ")),
        Words::Pairs(_) | Words::Instruction(_) => Command::Shell(String::new()),
    }
}

fn from(node: &Node) -> Result<From, ParseErrorKind> {
    let (base, name) = match words(node) {
        [base] => (base, None),
        [base, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
            (base, Some(stage_name(name)?))
        }
        _ => return Err(ParseErrorKind::FromArguments),
    };
    let flags = Flags::parse(&node.flags, &[("platform", Takes::Value)])?;
    let description = name.as_deref().and_then(|name| description(node, name));
    Ok(From {
        description,
        name,
        base: base.clone(),
        platform: flags.value("platform"),
    })
}

fn stage_name(text: &str) -> Result<String, ParseErrorKind> {
    let name = text.to_lowercase();
    let valid = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
    if valid {
        Ok(name)
    } else {
        Err(ParseErrorKind::StageName(text.to_owned()))
    }
}

fn description(node: &Node, name: &str) -> Option<String> {
    let text = |comment: &String| Some(comment.strip_prefix(name)?.strip_prefix(' ')?.to_owned());
    node.comments.iter().find_map(text)
}

fn pairs(node: &Node, name: &'static str) -> Result<Vec<KeyValue>, ParseErrorKind> {
    no_flags(node)?;
    let Words::Pairs(pairs) = &node.words else {
        return Err(ParseErrorKind::AtLeastOneArgument(name));
    };
    if pairs.iter().any(|(key, _, _)| key.is_empty()) {
        return Err(ParseErrorKind::BlankName(name));
    }
    let pair = |(key, value, assigned): &(String, String, bool)| KeyValue {
        key: key.clone(),
        value: value.clone(),
        form: if *assigned {
            Form::Assignment
        } else {
            Form::Legacy
        },
    };
    Ok(pairs.iter().map(pair).collect())
}

fn arg(node: &Node) -> Result<Arg, ParseErrorKind> {
    let words = words(node);
    if words.is_empty() {
        return Err(ParseErrorKind::AtLeastOneArgument("ARG"));
    }
    let mut definitions = Vec::with_capacity(words.len());
    for word in words {
        let (name, default) = match word.split_once('=') {
            Some(("", _)) => return Err(ParseErrorKind::BlankName("ARG")),
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (word.as_str(), None),
        };
        definitions.push(ArgDefinition {
            name: name.to_owned(),
            default,
            description: description(node, name),
        });
    }
    Ok(Arg { definitions })
}

fn run(node: &Node) -> Result<Run, ParseErrorKind> {
    let flags = Flags::parse(
        &node.flags,
        &[
            ("mount", Takes::Values),
            ("network", Takes::Value),
            ("security", Takes::Value),
            ("device", Takes::Values),
        ],
    )?;
    let mounts = flags.values("mount");
    let mounts = mounts.iter().map(|text| MountFlag::parse(text));
    let devices = flags.values("device");
    let devices = devices.iter().map(|text| Device::parse(text));
    let network = match flags.raw("network") {
        None | Some("default") => RunNetwork::Default,
        Some("none") => RunNetwork::None,
        Some("host") => RunNetwork::Host,
        Some(other) => return Err(ParseErrorKind::Network(other.to_owned())),
    };
    let security = match flags.raw("security") {
        None | Some("sandbox") => RunSecurity::Sandbox,
        Some("insecure") => RunSecurity::Insecure,
        Some(other) => return Err(ParseErrorKind::Security(other.to_owned())),
    };
    Ok(Run {
        command: command(node),
        heredocs: node.heredocs.clone(),
        mounts: mounts
            .collect::<Result<_, _>>()
            .map_err(ParseErrorKind::Mount)?,
        network,
        security,
        devices: devices
            .collect::<Result<_, _>>()
            .map_err(ParseErrorKind::Device)?,
    })
}

/// The sources and the destination of `COPY` and `ADD`.
struct Paths {
    sources: Vec<String>,
    contents: Vec<FileContent>,
    destination: String,
}

fn paths(node: &Node, name: &'static str) -> Result<Paths, ParseErrorKind> {
    let Some((destination, sources)) = words(node).split_last() else {
        return Err(ParseErrorKind::NoDestination(name));
    };
    if heredoc::is_heredoc(destination) {
        return Err(ParseErrorKind::HeredocDestination(name));
    }
    let mut paths = Paths {
        sources: Vec::new(),
        contents: Vec::new(),
        destination: destination.clone(),
    };
    for source in sources {
        match heredoc::from_word(source) {
            Ok(Some(heredoc)) => paths.contents.push(content(node, &heredoc)),
            _ => paths.sources.push(source.clone()),
        }
    }
    Ok(paths)
}

fn content(node: &Node, heredoc: &Heredoc) -> FileContent {
    // When two heredocs have one name, docker takes the last one.
    let named = node
        .heredocs
        .iter()
        .rfind(|named| named.name == heredoc.name);
    FileContent {
        path: heredoc.name.clone(),
        data: named.map(Heredoc::text).unwrap_or_default(),
        expand: heredoc.expand,
    }
}

fn copy(node: &Node) -> Result<Copy, ParseErrorKind> {
    if words(node).len() < 2 {
        return Err(ParseErrorKind::NoDestination("COPY"));
    }
    let flags = Flags::parse(
        &node.flags,
        &[
            ("chown", Takes::Value),
            ("from", Takes::Value),
            ("chmod", Takes::Value),
            ("link", Takes::Switch),
            ("exclude", Takes::Values),
            ("parents", Takes::Switch),
        ],
    )?;
    let paths = paths(node, "COPY")?;
    Ok(Copy {
        sources: paths.sources,
        contents: paths.contents,
        destination: paths.destination,
        from: flags.value("from"),
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.switch("link").unwrap_or_default(),
        parents: flags.switch("parents").unwrap_or_default(),
        exclude: flags.values("exclude"),
    })
}

fn add(node: &Node) -> Result<Add, ParseErrorKind> {
    if words(node).len() < 2 {
        return Err(ParseErrorKind::NoDestination("ADD"));
    }
    let flags = Flags::parse(
        &node.flags,
        &[
            ("chown", Takes::Value),
            ("chmod", Takes::Value),
            ("link", Takes::Switch),
            ("keep-git-dir", Takes::Switch),
            ("checksum", Takes::Value),
            ("unpack", Takes::Switch),
            ("exclude", Takes::Values),
        ],
    )?;
    let paths = paths(node, "ADD")?;
    Ok(Add {
        sources: paths.sources,
        contents: paths.contents,
        destination: paths.destination,
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.switch("link").unwrap_or_default(),
        exclude: flags.values("exclude"),
        checksum: flags.value("checksum"),
        keep_git_dir: flags.switch("keep-git-dir"),
        unpack: flags.switch("unpack"),
    })
}

fn volume(node: &Node) -> Result<Vec<String>, ParseErrorKind> {
    let volumes = at_least_one(node, "VOLUME")?
        .iter()
        .map(|volume| volume.trim());
    let volumes: Vec<String> = volumes.map(str::to_owned).collect();
    if volumes.iter().any(String::is_empty) {
        return Err(ParseErrorKind::EmptyVolume);
    }
    Ok(volumes)
}

fn shell(node: &Node) -> Result<Vec<String>, ParseErrorKind> {
    no_flags(node)?;
    match &node.words {
        Words::Json(words) | Words::Plain(words) if words.is_empty() => {
            Err(ParseErrorKind::AtLeastOneArgument("SHELL"))
        }
        Words::Json(words) => Ok(words.clone()),
        Words::Plain(_) | Words::Pairs(_) | Words::Instruction(_) => Err(ParseErrorKind::ShellForm),
    }
}

fn healthcheck(node: &Node) -> Result<Healthcheck, ParseErrorKind> {
    let Some((kind, arguments)) = words(node).split_first() else {
        return Err(ParseErrorKind::AtLeastOneArgument("HEALTHCHECK"));
    };
    let kind = kind.to_uppercase();
    if kind == "NONE" {
        if !arguments.is_empty() {
            return Err(ParseErrorKind::HealthcheckNone);
        }
        return Ok(Healthcheck {
            test: HealthcheckTest::None,
            interval: 0,
            timeout: 0,
            start_period: 0,
            start_interval: 0,
            retries: 0,
        });
    }
    let flags = Flags::parse(
        &node.flags,
        &[
            ("interval", Takes::Value),
            ("timeout", Takes::Value),
            ("start-period", Takes::Value),
            ("start-interval", Takes::Value),
            ("retries", Takes::Value),
        ],
    )?;
    if kind != "CMD" {
        return Err(ParseErrorKind::HealthcheckType(kind));
    }
    if arguments.is_empty() {
        return Err(ParseErrorKind::HealthcheckCommand);
    }
    let command = match node.words {
        Words::Json(_) => Command::Exec(arguments.to_vec()),
        _ => Command::Shell(arguments.join(" ")),
    };
    Ok(Healthcheck {
        test: HealthcheckTest::Cmd(command),
        interval: interval(&flags, "interval")?,
        timeout: interval(&flags, "timeout")?,
        start_period: interval(&flags, "start-period")?,
        start_interval: interval(&flags, "start-interval")?,
        retries: retries(&flags)?,
    })
}

fn interval(flags: &Flags, name: &'static str) -> Result<i64, ParseErrorKind> {
    let Some(text) = flags.value(name) else {
        return Ok(0);
    };
    let nanoseconds = duration::parse(&text).map_err(ParseErrorKind::Duration)?;
    if nanoseconds != 0 && nanoseconds < MINIMUM_INTERVAL {
        return Err(ParseErrorKind::Interval(name));
    }
    Ok(nanoseconds)
}

fn retries(flags: &Flags) -> Result<i64, ParseErrorKind> {
    let Some(text) = flags.value("retries") else {
        return Ok(0);
    };
    let number: i32 = match text.parse() {
        Ok(number) => number,
        Err(fault) => return Err(ParseErrorKind::Retries { text, fault }),
    };
    if number < 0 {
        return Err(ParseErrorKind::NegativeRetries(number));
    }
    Ok(i64::from(number))
}

fn on_build(node: &Node) -> Result<String, ParseErrorKind> {
    let Words::Instruction(trigger) = &node.words else {
        return Err(ParseErrorKind::AtLeastOneArgument("ONBUILD"));
    };
    no_flags(node)?;
    let keyword = trigger.keyword.to_uppercase();
    match keyword.as_str() {
        "ONBUILD" => return Err(ParseErrorKind::OnBuildChain),
        "MAINTAINER" | "FROM" => return Err(ParseErrorKind::OnBuildTrigger(keyword)),
        _ => {}
    }
    let line = node.line.trim_start();
    let mut text = line[node.keyword.len()..].trim_start().to_owned();
    for heredoc in &node.heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    Ok(text)
}
