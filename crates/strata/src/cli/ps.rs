//! `strata ps`.

use jiff::Timestamp;
use store::{ContainerRecord, Store};
use strata::container::Container;
use strata::container::options::short_id;
use strata::container::status::Status;
use strata::ops::container_filter::ContainerFilter;

use super::command::Command;
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::history::ellipsis;
use super::images::LIST_FORMAT_HELP;
use super::listing::{Field, Listing};
use super::session::Session;
use super::template;
use super::units;

pub(crate) const COMMAND: Command = Command {
    names: &["container ls", "container list", "container ps", "ps"],
    about: "List containers",
    flags: &[
        Flag::switch("all", "Show all containers (default shows just running)").short('a'),
        Flag::many(
            "filter",
            "filter",
            "Filter output: id, name, status, label, exited, ancestor",
        )
        .short('f'),
        Flag::one("format", "string", LIST_FORMAT_HELP),
        Flag::one(
            "last",
            "int",
            "Show n last created containers (includes all states) (default -1)",
        )
        .short('n'),
        Flag::switch(
            "latest",
            "Show the latest created container (includes all states)",
        )
        .short('l'),
        Flag::switch("no-trunc", "Don't truncate output"),
        Flag::switch("quiet", "Only display container IDs").short('q'),
    ],
    refused: &["size"],
    run,
    ..Command::DEFAULT
};

pub(crate) const FIELDS: &[Field] = &[
    Field::new("Command", "COMMAND"),
    Field::new("CreatedAt", "CREATED AT"),
    Field::new("ID", "CONTAINER ID"),
    Field::new("Image", "IMAGE"),
    Field::new("Labels", "LABELS"),
    Field::new("LocalVolumes", "LOCAL VOLUMES"),
    Field::new("Mounts", "MOUNTS"),
    Field::new("Names", "NAMES"),
    Field::new("Networks", "NETWORKS"),
    Field::new("Ports", "PORTS"),
    Field::new("RunningFor", "CREATED"),
    Field::new("Size", "SIZE"),
    Field::new("State", "STATE"),
    Field::new("Status", "STATUS"),
];

const COLUMNS: &[&str] = &[
    "ID",
    "Image",
    "Command",
    "RunningFor",
    "Status",
    "Ports",
    "Names",
];

/// The width of COMMAND between its quotes, with the mark of what was cut.
const COMMAND_WIDTH: usize = 20;
/// The width of a path in MOUNTS.
const MOUNT_WIDTH: usize = 15;

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let filter = ContainerFilter::parse(arguments.all("filter"))?;
    let last = match arguments.is_on("latest") {
        true => Some(1),
        false => arguments.number("last")?.filter(|last| *last >= 0),
    };
    let all = arguments.is_on("all") || last.is_some() || filter.concerns_state();
    let store = session.store()?;
    let no_trunc = arguments.is_on("no-trunc");
    let mut rows = Vec::new();
    for record in store.containers()? {
        let status = Status::of(store, &record);
        if !all && !matches!(status, Status::Running { .. }) {
            continue;
        }
        let container = Container::from_record(record)?;
        if !filter.passes(store, &container, status) {
            continue;
        }
        rows.push(cells(&container, status, no_trunc, store));
    }
    if let Some(last) = last {
        rows.truncate(usize::try_from(last).unwrap_or(usize::MAX));
    }
    let listing = Listing {
        fields: FIELDS,
        kind: "*formatter.ContainerContext",
        rows,
    };
    let format = arguments.text("format");
    let is_table = matches!(format, None | Some("" | "table"));
    let text = if arguments.is_on("quiet") && is_table {
        listing.column("ID")
    } else {
        listing.render(format, COLUMNS)?
    };
    session.out.data(&text)?;
    Ok(Exit::SUCCESS)
}

fn cells(container: &Container, status: Status, no_trunc: bool, store: &Store) -> Vec<String> {
    let record = &container.record;
    let options = &container.options;
    let now = units::now();
    let created = units::moment(record.created);
    let command = command_text(&record.command);
    let command = match no_trunc {
        true => command,
        false => ellipsis(&command, COMMAND_WIDTH),
    };
    let labels: Vec<String> = options
        .config
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let mounts: Vec<String> = options
        .binds
        .iter()
        .map(|bind| bind.source.display().to_string())
        .map(|path| match no_trunc {
            true => path,
            false => ellipsis(&path, MOUNT_WIDTH),
        })
        .collect();
    vec![
        template::quote(&command),
        units::date(created),
        match no_trunc {
            true => record.id.clone(),
            false => short_id(&record.id).to_owned(),
        },
        image(record, store),
        labels.join(","),
        "0".to_owned(),
        mounts.join(","),
        record.name.clone(),
        options.network.name().to_owned(),
        String::new(),
        format!("{} ago", units::age(created, now)),
        "0B".to_owned(),
        status.name().to_owned(),
        status_text(status, now),
    ]
}

/// Returns the cells of a container with what its directory takes.
pub(crate) fn cells_with_size(
    container: &Container,
    status: Status,
    store: &Store,
    size: String,
) -> Vec<String> {
    let mut cells = cells(container, status, false, store);
    let column = FIELDS.iter().position(|field| field.name == "Size");
    cells[column.expect("invariant: there is a column for sizes")] = size;
    cells
}

/// Joins the words of a command; arguments with spaces stand in quotes, as docker shows them.
fn command_text(command: &[String]) -> String {
    let mut text = String::new();
    for (index, word) in command.iter().enumerate() {
        if index == 0 {
            text.push_str(word);
        } else if word.contains(' ') {
            text.push_str(&format!(" '{word}'"));
        } else {
            text.push_str(&format!(" {word}"));
        }
    }
    text
}

fn status_text(status: Status, now: Timestamp) -> String {
    match status {
        Status::Created => "Created".to_owned(),
        Status::Running { started } => format!("Up {}", units::age(units::moment(started), now)),
        Status::Exited {
            code,
            finished: Some(finished),
        } => format!(
            "Exited ({code}) {} ago",
            units::age(units::moment(finished), now)
        ),
        Status::Exited {
            code,
            finished: None,
        } => format!("Exited ({code})"),
    }
}

/// The name that was given, unless it means another image now.
fn image(record: &ContainerRecord, store: &Store) -> String {
    match store.resolve(&record.image_name) {
        Ok(image) if image.id == record.image => record.image_name.clone(),
        Ok(_) | Err(_) => record.image.digest().short(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_with_spaces_stand_in_quotes() {
        let words =
            |words: &[&str]| -> Vec<String> { words.iter().map(|w| (*w).to_owned()).collect() };
        assert_eq!(
            command_text(&words(&["sh", "-c", "exit 3"])),
            "sh -c 'exit 3'"
        );
        assert_eq!(command_text(&words(&["/my prog"])), "/my prog");
        assert_eq!(template::quote("a\u{1b}[2J"), "\"a\\u001b[2J\"");
    }
}
