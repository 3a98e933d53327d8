//! `strata builder du`.

use std::collections::HashSet;
use std::fmt::Write as _;

use oci::DiffId;
use serde_json::{Value, json};
use store::{Store, Timestamp};

use super::command::Command;
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::prune::{cache_id, step_id};
use super::session::Session;
use super::template::{Format, Purpose, Subject};
use super::units;

pub(crate) const COMMAND: Command = Command {
    names: &["buildx du", "builder du"],
    about: "Disk usage of the build cache",
    flags: &[
        Flag::many(
            "filter",
            "filter",
            "Provide filter values: id, type, description, shared, inuse; = is, != is not, ~= contains",
        ),
        Flag::one(
            "format",
            "string",
            "Format the output: json, pretty, or a template",
        ),
        Flag::switch("verbose", "Shorthand for \"--format=pretty\""),
    ],
    refused: &["builder"],
    run,
    ..Command::DEFAULT
};

/// A step of the cache, or a directory of `RUN --mount=type=cache`.
struct Record {
    id: String,
    kind: &'static str,
    description: String,
    created: Timestamp,
    last_used: Timestamp,
    bytes: u64,
    /// An image has its layer too.
    is_shared: bool,
    /// Steps write to it.
    is_mutable: bool,
}

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let filters = arguments.all("filter").map(Filter::parse);
    let filters = filters.collect::<Result<Vec<_>, _>>()?;
    let mut records = records(session.store()?)?;
    records.retain(|record| filters.iter().all(|filter| filter.matches(record)));
    let format = match arguments.is_on("verbose") {
        true => Some("pretty"),
        false => arguments.text("format"),
    };
    let text = match format {
        None | Some("" | "table") => table(&records) + &totals(&records),
        Some("pretty") => pretty(&records) + &totals(&records),
        Some("json" | "{{json .}}") => {
            let lines = records.iter().map(|record| format!("{}\n", object(record)));
            lines.collect()
        }
        Some(template) => {
            let format = Format::parse(template, Purpose::Data, Subject::Object)?;
            let mut text = String::new();
            for record in &records {
                text.push_str(&format.execute(&gotmpl::to_value(&object(record))?)?);
                text.push('\n');
            }
            text
        }
    };
    session.out.data(&text)?;
    Ok(Exit::SUCCESS)
}

/// Returns the records, last used first.
fn records(store: &Store) -> Result<Vec<Record>, CommandError> {
    let usage = store.usage(&|_| false)?;
    let images = store.images()?;
    let layers: HashSet<&DiffId> = images.iter().flat_map(|image| &image.layers).collect();
    let mut seen = HashSet::new();
    let mut records = Vec::new();
    for step in store.steps()? {
        let layer = step.layer.as_ref();
        // Several keys may lead to one layer, which counts once.
        let bytes = layer
            .filter(|layer| seen.insert(**layer))
            .map_or(0, |it| usage.layer(it));
        records.push(Record {
            id: step_id(&step),
            kind: "regular",
            created: step.created,
            last_used: step.last_used,
            bytes,
            is_shared: layer.is_some_and(|layer| layers.contains(layer)),
            is_mutable: false,
            description: step.instruction,
        });
    }
    for cache in store.caches()? {
        records.push(Record {
            id: cache_id(&cache),
            kind: "exec.cachemount",
            created: cache.created,
            last_used: cache.last_used,
            bytes: usage.cache(&cache.name),
            is_shared: false,
            is_mutable: true,
            description: cache.description,
        });
    }
    records.sort_by_key(|record| std::cmp::Reverse(record.last_used));
    Ok(records)
}

fn age(time: Timestamp) -> String {
    format!("{} ago", units::age(units::moment(time), units::now()))
}

fn table(records: &[Record]) -> String {
    let mut text = String::from("ID\tRECLAIMABLE\tSIZE\tLAST ACCESSED\n");
    for record in records {
        let mutable = if record.is_mutable { "*" } else { "" };
        let shared = if record.is_shared { "*" } else { "" };
        let size = units::precise_size(record.bytes);
        let used = age(record.last_used);
        writeln!(text, "{}{mutable}\ttrue\t{size}{shared}\t{used}", record.id)
            .expect("writing to a String cannot fail");
    }
    super::table::align(&text)
}

fn pretty(records: &[Record]) -> String {
    let mut text = String::new();
    for record in records {
        let created = units::date(units::moment(record.created));
        let size = units::precise_size(record.bytes);
        for (name, value) in [
            ("ID", record.id.as_str()),
            ("Created at", &created),
            ("Mutable", &record.is_mutable.to_string()),
            ("Reclaimable", "true"),
            ("Shared", &record.is_shared.to_string()),
            ("Size", &size),
            ("Description", &record.description),
            ("Last used", &age(record.last_used)),
            ("Type", record.kind),
        ] {
            let name = format!("{name}:");
            writeln!(text, "{name:<14}{value}").expect("writing to a String cannot fail");
        }
        text.push('\n');
    }
    text
}

/// What is shared is freed only when the images that have it go too.
fn totals(records: &[Record]) -> String {
    let sum = |is_counted: fn(&Record) -> bool| -> u64 {
        let counted = records.iter().filter(|record| is_counted(record));
        counted.map(|record| record.bytes).sum()
    };
    let shared = sum(|record| record.is_shared);
    let total = sum(|_| true);
    let [shared, private, total] = [shared, total - shared, total].map(units::precise_size);
    format!(
        "Shared:\t\t{shared}\nPrivate:\t{private}\nReclaimable:\t{private}\nTotal:\t\t{total}\n"
    )
}

fn object(record: &Record) -> Value {
    json!({
        "CreatedAt": units::date(units::moment(record.created)),
        "Description": record.description,
        "ID": record.id,
        "LastUsedAt": age(record.last_used),
        "Mutable": record.is_mutable,
        "Reclaimable": true,
        "Shared": record.is_shared,
        "Size": units::precise_size(record.bytes),
        "Type": record.kind,
    })
}

/// A value of `--filter`.
struct Filter {
    field: Field,
    relation: Relation,
    value: String,
}

#[derive(Clone, Copy)]
enum Field {
    Id,
    Kind,
    Description,
    Shared,
    InUse,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Relation {
    Is,
    IsNot,
    Contains,
}

impl Filter {
    fn parse(text: &str) -> Result<Self, CommandError> {
        let invalid = || {
            CommandError::client(format!(
                "invalid filter {text:?}: expected id, type, description, shared or inuse, then =, != or ~=, then a value"
            ))
        };
        let (name, value) = text.split_once('=').ok_or_else(invalid)?;
        let (name, relation) = match (name.strip_suffix('!'), name.strip_suffix('~')) {
            (Some(name), _) => (name, Relation::IsNot),
            (_, Some(name)) => (name, Relation::Contains),
            (None, None) => (name, Relation::Is),
        };
        let field = match name {
            "id" => Field::Id,
            "type" => Field::Kind,
            "description" => Field::Description,
            "shared" => Field::Shared,
            "inuse" => Field::InUse,
            _ => return Err(invalid()),
        };
        Ok(Self {
            field,
            relation,
            value: value.to_owned(),
        })
    }

    fn matches(&self, record: &Record) -> bool {
        let found = match self.field {
            Field::Id => record.id.clone(),
            Field::Kind => record.kind.to_owned(),
            Field::Description => record.description.clone(),
            Field::Shared => record.is_shared.to_string(),
            // What a step holds is not told by records.
            Field::InUse => false.to_string(),
        };
        match self.relation {
            Relation::Is => found == self.value,
            Relation::IsNot => found != self.value,
            Relation::Contains => found.contains(&self.value),
        }
    }
}
