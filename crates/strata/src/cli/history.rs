//! `strata history`.

use strata::ops::history::{HistoryRow, history};

use super::command::{Arity, Command};
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::images::LIST_FORMAT_HELP;
use super::listing::{Field, Listing};
use super::name;
use super::session::Session;
use super::units;

pub(crate) const COMMAND: Command = Command {
    names: &["image history", "history"],
    usage: "[OPTIONS] IMAGE",
    about: "Show the history of an image",
    flags: &[
        Flag::one("format", "string", LIST_FORMAT_HELP),
        Flag::switched_on("human", "Print sizes and dates in human readable format").short('H'),
        Flag::switch("no-trunc", "Don't truncate output"),
        Flag::switch("quiet", "Only show image IDs").short('q'),
    ],
    refused: &["platform"],
    arity: Arity::Exactly(1),
    run,
    ..Command::DEFAULT
};

const FIELDS: &[Field] = &[
    Field::new("Comment", "COMMENT"),
    Field::new("CreatedAt", "CREATED AT"),
    Field::new("CreatedBy", "CREATED BY"),
    Field::new("CreatedSince", "CREATED"),
    Field::new("ID", "IMAGE"),
    Field::new("Size", "SIZE"),
];

/// The width of CREATED BY, with the mark of what was cut.
const WIDTH: usize = 45;

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let store = session.store()?;
    let image = name::resolve(store, &arguments.positional[0])?;
    let form = Form {
        no_trunc: arguments.is_on("no-trunc"),
        is_exact: arguments.is_off("human"),
    };
    let rows = history(store, &image)?;
    let listing = Listing {
        fields: FIELDS,
        kind: "*formatter.historyContext",
        rows: rows.iter().map(|row| form.cells(row)).collect(),
    };
    let format = arguments.text("format");
    let columns: &[&str] = match form.is_exact {
        true => &["ID", "CreatedAt", "CreatedBy", "Size", "Comment"],
        false => &["ID", "CreatedSince", "CreatedBy", "Size", "Comment"],
    };
    let is_table = matches!(format, None | Some("" | "table"));
    let text = if arguments.is_on("quiet") && is_table {
        listing.column("ID")
    } else {
        listing.render(format, columns)?
    };
    session.out.data(&text)?;
    Ok(Exit::SUCCESS)
}

struct Form {
    no_trunc: bool,
    is_exact: bool,
}

impl Form {
    fn cells(&self, row: &HistoryRow) -> Vec<String> {
        let time = row.created.map(units::moment);
        let created_by = row.created_by.replace(['\t', '\n'], " ");
        vec![
            row.comment.replace(['\t', '\n'], " "),
            time.map_or_else(String::new, units::rfc3339_seconds),
            match self.no_trunc {
                true => created_by,
                false => ellipsis(&created_by, WIDTH),
            },
            time.map_or_else(
                || "N/A".to_owned(),
                |time| format!("{} ago", units::age(time, units::now())),
            ),
            match &row.id {
                None => "<missing>".to_owned(),
                Some(id) if self.no_trunc => id.to_string(),
                Some(id) => id.digest().short(),
            },
            match self.is_exact {
                true => row.size.to_string(),
                false => units::size(row.size),
            },
        ]
    }
}

/// Cuts `text` to `width` characters, the last of which then is `…`.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width - 1).collect();
    cut.push('…');
    cut
}
