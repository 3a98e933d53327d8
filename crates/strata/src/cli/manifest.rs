//! `strata manifest`.

use std::sync::Mutex;

use oci::{Descriptor, ManifestOrIndex, Platform, Reference};
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::PrettyFormatter;
use strata::ops::manifest_list::{
    Annotations, Found, ListError, annotate, create, entry, find, index, push, remove,
};

use super::command::{Arity, Command};
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::name;
use super::output::Channel;
use super::progress::{Direction, Transfer};
use super::pull::show;
use super::session::Session;

pub(crate) const CREATE: Command = Command {
    names: &["manifest create"],
    usage: "MANIFEST_LIST MANIFEST [MANIFEST...]",
    about: "Create a local manifest list for annotating and pushing to a registry",
    flags: &[Flag::switch("amend", "Amend an existing manifest list").short('a')],
    refused: &["insecure"],
    arity: Arity::AtLeast(2),
    run: run_create,
    ..Command::DEFAULT
};

pub(crate) const ANNOTATE: Command = Command {
    names: &["manifest annotate"],
    usage: "[OPTIONS] MANIFEST_LIST MANIFEST",
    about: "Add additional information to a local image manifest",
    flags: &[
        Flag::one("arch", "string", "Set architecture"),
        Flag::one("os", "string", "Set operating system"),
        Flag::many("os-features", "strings", "Set operating system feature"),
        Flag::one("os-version", "string", "Set operating system version"),
        Flag::one("variant", "string", "Set architecture variant"),
    ],
    arity: Arity::Exactly(2),
    run: run_annotate,
    ..Command::DEFAULT
};

pub(crate) const INSPECT: Command = Command {
    names: &["manifest inspect"],
    usage: "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    about: "Display an image manifest, or manifest list",
    flags: &[Flag::switch(
        "verbose",
        "Output additional info including layers and platform",
    )
    .short('v')],
    refused: &["insecure"],
    arity: Arity::Between(1, 2),
    run: run_inspect,
    ..Command::DEFAULT
};

pub(crate) const PUSH: Command = Command {
    names: &["manifest push"],
    usage: "[OPTIONS] MANIFEST_LIST",
    about: "Push a manifest list to a repository",
    flags: &[Flag::switch("purge", "Remove the local manifest list after push").short('p')],
    refused: &["insecure"],
    arity: Arity::Exactly(1),
    run: run_push,
    ..Command::DEFAULT
};

pub(crate) const RM: Command = Command {
    names: &["manifest rm"],
    usage: "MANIFEST_LIST [MANIFEST_LIST...]",
    about: "Delete one or more manifest lists from local storage",
    arity: Arity::AtLeast(1),
    run: run_rm,
    ..Command::DEFAULT
};

fn run_create(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let list = name::parse_tag(&arguments.positional[0])?;
    let names = arguments.positional[1..].iter();
    let names: Vec<Reference> = names
        .map(|text| Ok(name::parse(text)?.or_latest()))
        .collect::<Result<_, CommandError>>()?;
    create(session.engine()?, &list, &names, arguments.is_on("amend")).map_err(plain)?;
    session.out.line(&format!("Created manifest list {list}"))?;
    Ok(Exit::SUCCESS)
}

fn run_annotate(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let list = name::parse_tag(&arguments.positional[0])?;
    let manifest = name::parse(&arguments.positional[1])?.or_latest();
    let text = |flag: &str| arguments.text(flag).map(str::to_owned);
    let features = arguments
        .all("os-features")
        .flat_map(|list| list.split(','));
    let annotations = Annotations {
        architecture: text("arch"),
        os: text("os"),
        os_features: features.map(str::to_owned).collect(),
        os_version: text("os-version"),
        variant: text("variant"),
    };
    for flag in ["arch", "os", "variant"] {
        if let Some(word) = arguments.text(flag)
            && format!("linux/{word}").parse::<Platform>().is_err()
        {
            let reason = "must be a word, as in linux/arm64/v8";
            return Err(arguments.invalid(flag, word, reason).into());
        }
    }
    annotate(session.store()?, &list, &manifest, annotations).map_err(plain)?;
    Ok(Exit::SUCCESS)
}

fn run_inspect(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let first = name::parse(&arguments.positional[0])?.or_latest();
    let is_verbose = arguments.is_on("verbose");
    if let Some(second) = arguments.positional.get(1) {
        let name = name::parse(second)?.or_latest();
        let entry = entry(session.store()?, &first, &name).map_err(plain)?;
        let by_digest = entry
            .name
            .without_tag()
            .with_digest(entry.descriptor.digest);
        let mut found = find(session.engine()?, &by_digest).map_err(plain)?;
        found.descriptor = entry.descriptor;
        return print_found(&found, is_verbose, session);
    }
    let known = match first.digest() {
        Some(_) => Vec::new(),
        None => session.store()?.list_entries(&first)?,
    };
    if known.is_empty() {
        let found = find(session.engine()?, &first).map_err(plain)?;
        return print_found(&found, is_verbose, session);
    }
    match is_verbose {
        true => {
            let descriptors = known
                .into_iter()
                .map(|entry| (entry.name, entry.descriptor));
            print_all(descriptors.collect(), session)
        }
        false => print(&index(&known), LIST_INDENT, session),
    }
}

/// docker indents manifests and what it says itself by tabs, lists by three spaces.
const INDENT: &[u8] = b"\t";
const LIST_INDENT: &[u8] = b"   ";

/// What `--verbose` says of a manifest.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Verbose {
    r#ref: String,
    descriptor: Descriptor,
    #[serde(rename = "SchemaV2Manifest", skip_serializing_if = "Option::is_none")]
    docker: Option<Value>,
    #[serde(rename = "OCIManifest", skip_serializing_if = "Option::is_none")]
    oci: Option<Value>,
}

impl Verbose {
    fn of(found: &Found) -> Self {
        let document: Option<Value> = serde_json::from_slice(&found.bytes).ok();
        let is_docker = found.descriptor.media_type.0 == oci::MediaType::DOCKER_MANIFEST;
        let (docker, oci) = match is_docker {
            true => (document, None),
            false => (None, document),
        };
        Self {
            r#ref: found.name.to_string(),
            descriptor: found.descriptor.clone(),
            docker,
            oci,
        }
    }
}

fn print_found(
    found: &Found,
    is_verbose: bool,
    session: &mut Session,
) -> Result<Exit, CommandError> {
    match (&found.document, is_verbose) {
        (ManifestOrIndex::Manifest(_), true) => print(&Verbose::of(found), INDENT, session),
        (ManifestOrIndex::Manifest(_), false) => print_bytes(&found.bytes, INDENT, session),
        (ManifestOrIndex::Index(_), false) => print_bytes(&found.bytes, LIST_INDENT, session),
        (ManifestOrIndex::Index(index), true) => {
            let manifests = index
                .manifests
                .iter()
                .filter(|entry| entry.media_type.is_manifest());
            let descriptors = manifests.map(|entry| (found.name.clone(), entry.clone()));
            print_all(descriptors.collect(), session)
        }
    }
}

fn print_all(
    manifests: Vec<(Reference, Descriptor)>,
    session: &mut Session,
) -> Result<Exit, CommandError> {
    let mut all = Vec::with_capacity(manifests.len());
    for (name, descriptor) in manifests {
        let name = name.with_digest(descriptor.digest);
        let mut found = find(session.engine()?, &name).map_err(plain)?;
        found.descriptor = descriptor;
        all.push(Verbose::of(&found));
    }
    print(&all, INDENT, session)
}

fn print_bytes(bytes: &[u8], indent: &[u8], session: &mut Session) -> Result<Exit, CommandError> {
    let value: Value = serde_json::from_slice(bytes).expect("invariant: it was parsed before");
    print(&value, indent, session)
}

fn print<T: Serialize>(
    value: &T,
    indent: &[u8],
    session: &mut Session,
) -> Result<Exit, CommandError> {
    let mut text = Vec::new();
    let formatter = PrettyFormatter::with_indent(indent);
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    value
        .serialize(&mut serializer)
        .expect("invariant: manifests have string keys");
    session.out.line(&String::from_utf8_lossy(&text))?;
    Ok(Exit::SUCCESS)
}

fn run_push(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let list = name::parse_tag(&arguments.positional[0])?;
    let columns = Channel::Stdout.columns();
    let transfer = Mutex::new(Transfer::new(Direction::Push, None, columns));
    let pushed = push(session.engine()?, &list, &|event| {
        // docker says nothing about blobs here; on a terminal it is worth seeing.
        if columns.is_some() {
            show(&transfer, &event, Channel::Stdout);
        }
    })
    .map_err(plain)?;
    for name in &pushed.manifests {
        let digest = name.digest().map(ToString::to_string).unwrap_or_default();
        session
            .out
            .line(&format!("Pushed ref {name} with digest: {digest}"))?;
    }
    session.out.line(&pushed.index.digest.to_string())?;
    if arguments.is_on("purge") {
        remove(session.store()?, &list).map_err(plain)?;
    }
    Ok(Exit::SUCCESS)
}

fn run_rm(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    Ok(session.each(&arguments.positional, |word, session| {
        let list = name::parse_tag(word)?;
        remove(session.store()?, &list).map_err(plain)
    }))
}

/// docker's client does this itself: its errors have no introduction.
fn plain(error: ListError) -> CommandError {
    CommandError::client(strata::describe(&error)).caused_by(&error)
}
