//! `strata undo`.

use store::{LostImage, Operation, Restored, Undo, UndoError};
use strata::describe;

use super::background;
use super::command::{Arity, Command};
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::history::ellipsis;
use super::images::LIST_FORMAT_HELP;
use super::listing::{Field, Listing};
use super::session::Session;
use super::units;

pub(crate) const COMMAND: Command = Command {
    names: &["image undo", "undo"],
    usage: "[OPTIONS] [OPERATION]",
    about: "Undo the last command that changed tags or removed images",
    notes: "Each undo goes back by one more command. OPERATION is a number that --list shows.\n\
            Images come back while their layers are here: a minute, or $STRATA_UNDO_WINDOW.",
    flags: &[
        Flag::switch("dry-run", "Only tell what would be undone"),
        Flag::one("format", "string", LIST_FORMAT_HELP),
        Flag::switch(
            "list",
            "List the commands that can be undone, and those that were",
        )
        .short('l'),
        Flag::switch("no-trunc", "Don't truncate output"),
    ],
    arity: Arity::AtMost(1),
    run,
    ..Command::DEFAULT
};

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    if arguments.is_on("list") {
        return list(arguments, session);
    }
    let seq = match arguments.positional.first() {
        Some(text) => Some(text.parse::<i64>().map_err(|_| {
            CommandError::client(format!(
                "invalid operation `{text}`: expected a number that 'undo --list' shows"
            ))
        })?),
        None => None,
    };
    let is_rehearsal = arguments.is_on("dry-run");
    let store = session.store()?;
    let undo = match is_rehearsal {
        true => store.rehearse_undo(seq),
        false => store.undo(seq),
    };
    let undo = undo.map_err(failed)?;
    session.out.data(&text(&undo, is_rehearsal))?;
    let complaints = complaints(&undo);
    if !is_rehearsal {
        background::tidy(session);
    }
    match complaints.is_empty() {
        true => Ok(Exit::SUCCESS),
        false => Err(CommandError::bare(complaints.join("\n"))),
    }
}

fn text(undo: &Undo, is_rehearsal: bool) -> String {
    let lead = match is_rehearsal {
        true => "Would undo",
        false => "Undone",
    };
    let mut text = format!("{lead}: {}\n", undo.operation.title());
    for restored in &undo.restored {
        text.push_str(&match restored {
            Restored::Image(id) => format!("Restored: {id}\n"),
            Restored::Tagged(name) => format!("Tagged: {name}\n"),
            Restored::Untagged(name) => format!("Untagged: {name}\n"),
        });
    }
    text
}

fn failed(error: UndoError) -> CommandError {
    let failed = CommandError::client(describe(&error));
    match error {
        UndoError::Lost(undo) => complaints(&undo)
            .into_iter()
            .fold(failed, CommandError::hint),
        UndoError::Changed {
            later: Some(later), ..
        } if later.undoes.is_none() => failed.hint(format!("undo {} first", later.seq)),
        UndoError::NoSuchOperation(_) | UndoError::IsUndo(_) => {
            failed.hint("'undo --list' shows what there is")
        }
        _ => failed,
    }
}

/// Says what does not come back, and where it may come from.
fn complaints(undo: &Undo) -> Vec<String> {
    let images = undo.lost.iter().map(lost);
    let documents = undo.lost_documents.iter();
    let documents = documents
        .map(|name| format!("the index of {name} does not come back: parts of it are gone"));
    images.chain(documents).collect()
}

/// How many missing layers are named.
const LAYERS: usize = 3;

fn lost(lost: &LostImage) -> String {
    let mut text = match lost.names.first() {
        Some(name) => format!("{name} does not come back: "),
        None => String::new(),
    };
    let id = lost.id.digest().short();
    text.push_str(&match lost.missing.as_slice() {
        [] => format!("image {id} is gone"),
        [layer] => format!("image {id} has lost its layer {layer}"),
        layers => {
            let named: Vec<String> = layers
                .iter()
                .take(LAYERS)
                .map(ToString::to_string)
                .collect();
            let more = match layers.len() > LAYERS {
                true => format!(" and {} more", layers.len() - LAYERS),
                false => String::new(),
            };
            format!("image {id} has lost its layers {}{more}", named.join(", "))
        }
    });
    if let Some(origin) = &lost.origin {
        text.push_str(&format!("\nto get it back: pull {}", origin.familiar()));
    }
    text
}

const FIELDS: &[Field] = &[
    Field::new("At", "AT"),
    Field::new("Command", "COMMAND"),
    Field::new("ID", "OPERATION"),
    Field::new("Kind", "KIND"),
    Field::new("Since", "WHEN"),
    Field::new("Status", "STATUS"),
];

/// The width of COMMAND, with the mark of what was cut.
const WIDTH: usize = 60;

fn list(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let operations = session.store()?.operations()?;
    let no_trunc = arguments.is_on("no-trunc");
    let listing = Listing {
        fields: FIELDS,
        kind: "*formatter.operationContext",
        rows: operations
            .iter()
            .map(|operation| cells(operation, no_trunc))
            .collect(),
    };
    let columns = &["ID", "Since", "Command", "Status"];
    session
        .out
        .data(&listing.render(arguments.text("format"), columns)?)?;
    Ok(Exit::SUCCESS)
}

fn cells(operation: &Operation, no_trunc: bool) -> Vec<String> {
    let (time, now) = (units::moment(operation.at), units::now());
    let status = match (operation.undone_by, operation.undoes, operation.held_until) {
        (Some(by), ..) => format!("undone by {by}"),
        (None, Some(undone), _) => format!("undid {undone}"),
        (None, None, Some(until)) if units::moment(until) > now => {
            format!("images kept for {}", units::age(now, units::moment(until)))
        }
        (None, None, _) => String::new(),
    };
    vec![
        units::rfc3339_seconds(time),
        match no_trunc {
            true => operation.title(),
            false => ellipsis(&operation.title(), WIDTH),
        },
        operation.seq.to_string(),
        operation.kind.clone(),
        format!("{} ago", units::age(time, now)),
        status,
    ]
}
