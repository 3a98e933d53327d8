//! `strata reflog`.

use oci::Reference;
use store::{JournalEntry, Store};

use super::command::{Arity, Command};
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::history::ellipsis;
use super::images::LIST_FORMAT_HELP;
use super::listing::{Field, Listing};
use super::name;
use super::session::Session;
use super::units;

pub(crate) const COMMAND: Command = Command {
    names: &["image reflog", "reflog"],
    usage: "[OPTIONS] [NAME[:TAG]]",
    about: "Show what tags were, and which commands changed them",
    notes: "What is listed as NAME:TAG@{N} can be used wherever an image of the store is named:\n\
            run, tag, image inspect, history, save, rmi. 'tag NAME@{1} NAME' goes back by one.",
    flags: &[
        Flag::one("format", "string", LIST_FORMAT_HELP),
        Flag::switch("no-trunc", "Don't truncate output"),
        Flag::switch("quiet", "Only show image IDs").short('q'),
    ],
    arity: Arity::AtMost(1),
    run,
    ..Command::DEFAULT
};

const FIELDS: &[Field] = &[
    Field::new("At", "AT"),
    Field::new("Command", "COMMAND"),
    Field::new("ID", "IMAGE ID"),
    Field::new("Kind", "KIND"),
    Field::new("Name", "NAME"),
    Field::new("Since", "WHEN"),
    Field::new("Status", "STATUS"),
];

/// The width of COMMAND, with the mark of what was cut.
const WIDTH: usize = 45;

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let name = match arguments.positional.first() {
        Some(text) => Some(name::parse(text)?),
        None => None,
    };
    if name.as_ref().is_some_and(|name| name.digest().is_some()) {
        return Err(CommandError::client(
            "a digest never changes: only tags have a history",
        ));
    }
    let store = session.store()?;
    let entries = store.journal(name.as_ref())?;
    if let (Some(name), true) = (name, entries.is_empty()) {
        return Err(no_history(store, &name)?);
    }
    let is_quiet = arguments.is_on("quiet");
    let no_trunc = arguments.is_on("no-trunc");
    let rows = entries.iter();
    let rows = rows.filter(|entry| !is_quiet || entry.image.is_some());
    let listing = Listing {
        fields: FIELDS,
        kind: "*formatter.reflogContext",
        rows: rows.map(|entry| cells(entry, no_trunc)).collect(),
    };
    let format = arguments.text("format");
    let is_table = matches!(format, None | Some("" | "table"));
    let text = match is_quiet && is_table {
        true => listing.column("ID"),
        false => listing.render(format, &["Name", "ID", "Since", "Command", "Status"])?,
    };
    session.out.data(&text)?;
    Ok(Exit::SUCCESS)
}

fn cells(entry: &JournalEntry, no_trunc: bool) -> Vec<String> {
    let time = units::moment(entry.at);
    vec![
        units::rfc3339_seconds(time),
        match no_trunc {
            true => entry.command.clone(),
            false => ellipsis(&entry.command, WIDTH),
        },
        match &entry.image {
            None => "<none>".to_owned(),
            Some(id) if no_trunc => id.to_string(),
            Some(id) => id.digest().short(),
        },
        entry.kind.clone(),
        entry.name.to_string(),
        format!("{} ago", units::age(time, units::now())),
        match (entry.image, entry.is_here) {
            (None, _) => "untagged",
            (Some(_), true) => "here",
            (Some(_), false) => "gone",
        }
        .to_owned(),
    ]
}

/// Returns the error that a name has no history, with other tags of its repository.
fn no_history(store: &Store, name: &Reference) -> Result<CommandError, CommandError> {
    let repository = name.repository();
    let wanted = name.clone().or_latest();
    let error = CommandError::client(format!("{} has no history", wanted.familiar()));
    let mut others: Vec<String> = store
        .journal(None)?
        .into_iter()
        .map(|entry| entry.name.name)
        .filter(|other| other.repository() == repository)
        .map(|other| other.familiar())
        .collect();
    others.sort_unstable();
    others.dedup();
    Ok(match others.is_empty() {
        true => error,
        false => error.hint(format!("these have: {}", others.join(", "))),
    })
}
