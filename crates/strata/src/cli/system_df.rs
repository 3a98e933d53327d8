//! `strata system df`.

use std::collections::HashSet;

use oci::DiffId;
use store::{CacheRecord, ImageRecord, Share, StepRecord, Store, Usage};
use strata::container::Container;
use strata::container::status::Status;
use strata::ops::prune::is_running;

use super::command::Command;
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::images::{self, LIST_FORMAT_HELP};
use super::listing::{Field, Listing};
use super::prune::{cache_id, step_id};
use super::ps;
use super::session::Session;
use super::template::{Format, Purpose, Subject};
use super::units;

pub(crate) const COMMAND: Command = Command {
    names: &["system df"],
    about: "Show disk usage",
    notes: "The rows together are what du tells of the store. RECLAIMABLE is what the prune for the\n\
            row frees of it: image prune -a, container prune, builder prune -a, and of compressed\n\
            layers system prune --compressed; in the last line all of them at once.",
    flags: &[
        Flag::one("format", "string", LIST_FORMAT_HELP),
        Flag::switch("verbose", "Show detailed information on space usage").short('v'),
    ],
    run,
    ..Command::DEFAULT
};

const FIELDS: &[Field] = &[
    Field::new("Active", "ACTIVE"),
    Field::new("Reclaimable", "RECLAIMABLE"),
    Field::new("Size", "SIZE"),
    Field::new("TotalCount", "TOTAL"),
    Field::new("Type", "TYPE"),
];

const COLUMNS: &[&str] = &["Type", "TotalCount", "Active", "Size", "Reclaimable"];

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let store = session.store()?;
    let usage = store.usage(&|record| is_running(store, record))?;
    let format = arguments.text("format");
    let text = match arguments.is_on("verbose") {
        true => verbose(store, &usage, format)?,
        false => Listing {
            fields: FIELDS,
            kind: "*formatter.diskUsageContext",
            rows: rows(&usage),
        }
        .render(format, COLUMNS)?,
    };
    session.out.data(&text)?;
    Ok(Exit::SUCCESS)
}

/// docker's rows, then those of what only a store on disk has.
fn rows(usage: &Usage) -> Vec<Vec<String>> {
    let of = |kind: &str, share: &Share| {
        row(
            kind,
            [share.active.to_string(), share.count.to_string()],
            share,
        )
    };
    let mut build_cache = of("Build Cache", &usage.build_cache);
    // docker tells no percentage of it.
    build_cache[1] = units::precise_size(usage.build_cache.reclaimable);
    let nothing = || ["-".to_owned(), "-".to_owned()];
    let total = Share {
        bytes: usage.total(),
        reclaimable: usage.prunable,
        ..Share::default()
    };
    vec![
        of("Images", &usage.images),
        of("Containers", &usage.containers),
        of("Local Volumes", &Share::default()),
        build_cache,
        of("Compressed Layers", &usage.compressed),
        of("Partial Downloads", &usage.partial),
        of("Held for Undo", &usage.held),
        of("Being Removed", &usage.removed),
        row("Records", nothing(), &usage.records),
        row("Total", nothing(), &total),
    ]
}

fn row(kind: &str, [active, count]: [String; 2], share: &Share) -> Vec<String> {
    let mut reclaimable = units::precise_size(share.reclaimable);
    if share.bytes > 0 {
        let percent = u128::from(share.reclaimable) * 100 / u128::from(share.bytes);
        reclaimable.push_str(&format!(" ({percent}%)"));
    }
    let size = units::precise_size(share.bytes);
    vec![active, reclaimable, size, count, kind.to_owned()]
}

const IMAGE_COLUMNS: &[&str] = &[
    "Repository",
    "Tag",
    "ID",
    "CreatedSince",
    "Size",
    "SharedSize",
    "UniqueSize",
    "Containers",
];

const CONTAINER_COLUMNS: &[&str] = &[
    "ID",
    "Image",
    "Command",
    "LocalVolumes",
    "Size",
    "RunningFor",
    "Status",
    "Names",
];

const VOLUME_FIELDS: &[Field] = &[
    Field::new("Links", "LINKS"),
    Field::new("Name", "VOLUME NAME"),
    Field::new("Size", "SIZE"),
];

const CACHE_FIELDS: &[Field] = &[
    Field::new("CacheType", "CACHE TYPE"),
    Field::new("CreatedSince", "CREATED"),
    Field::new("Description", "DESCRIPTION"),
    Field::new("ID", "CACHE ID"),
    Field::new("LastUsedSince", "LAST USED"),
    Field::new("Shared", "SHARED"),
    Field::new("Size", "SIZE"),
    Field::new("UsageCount", "USAGE"),
];

const CACHE_COLUMNS: &[&str] = &[
    "ID",
    "CacheType",
    "Size",
    "CreatedSince",
    "LastUsedSince",
    "UsageCount",
    "Shared",
];

fn verbose(store: &Store, usage: &Usage, format: Option<&str>) -> Result<String, CommandError> {
    let all = store.images()?;
    let steps = store.steps()?;
    let images = Listing {
        fields: images::FIELDS,
        kind: "*formatter.imageContext",
        rows: image_rows(store, usage, &all)?,
    };
    let containers = Listing {
        fields: ps::FIELDS,
        kind: "*formatter.ContainerContext",
        rows: container_rows(store, usage)?,
    };
    let volumes = Listing {
        fields: VOLUME_FIELDS,
        kind: "*formatter.volumeContext",
        rows: Vec::new(),
    };
    let cache = Listing {
        fields: CACHE_FIELDS,
        kind: "*formatter.buildCacheContext",
        rows: cache_rows(usage, &all, (&steps, &store.caches()?)),
    };
    let lists = [
        ("Images", &images),
        ("Containers", &containers),
        ("Volumes", &volumes),
        ("BuildCache", &cache),
    ];
    let object = || -> serde_json::Value {
        let lists = lists.iter();
        lists
            .map(|(name, list)| ((*name).to_owned(), serde_json::json!(list.objects())))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    Ok(match format {
        None | Some("" | "table") => format!(
            "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space \
             usage:\n\n{}\nBuild cache usage: {}\n\n{}",
            images.render(None, IMAGE_COLUMNS)?,
            containers.render(None, CONTAINER_COLUMNS)?,
            volumes.render(None, &["Name", "Links", "Size"])?,
            units::precise_size(usage.build_cache.bytes),
            cache.render(None, CACHE_COLUMNS)?,
        ),
        Some("json" | "{{json .}}") => format!("{}\n", object()),
        Some(template) => {
            let format = Format::parse(template, Purpose::Data, Subject::Object)?;
            format.execute(&gotmpl::to_value(&object())?)? + "\n"
        }
    })
}

fn image_rows(
    store: &Store,
    usage: &Usage,
    all: &[ImageRecord],
) -> Result<Vec<Vec<String>>, CommandError> {
    let containers = images::containers(store)?;
    let mut rows = Vec::new();
    for (image, own) in all.iter().zip(usage.of_images(all)) {
        let count = containers.get(&image.id).copied().unwrap_or(0);
        let sizes = [own.shared, own.unique].map(units::precise_size);
        images::push_rows_with_sizes(&mut rows, image, count, &sizes);
    }
    Ok(rows)
}

fn container_rows(store: &Store, usage: &Usage) -> Result<Vec<Vec<String>>, CommandError> {
    let mut rows = Vec::new();
    for record in store.containers()? {
        let status = Status::of(store, &record);
        let size = units::precise_size(usage.container(&record.id));
        let container = Container::from_record(record)?;
        rows.push(ps::cells_with_size(&container, status, store, size));
    }
    Ok(rows)
}

fn cache_rows(
    usage: &Usage,
    images: &[ImageRecord],
    (steps, caches): (&[StepRecord], &[CacheRecord]),
) -> Vec<Vec<String>> {
    let shared: HashSet<&DiffId> = images.iter().flat_map(|image| &image.layers).collect();
    let now = units::now();
    let age = |time| format!("{} ago", units::age(units::moment(time), now));
    let cells = |step: &StepRecord| {
        let bytes = step.layer.map_or(0, |layer| usage.layer(&layer));
        let is_shared = step.layer.is_some_and(|layer| shared.contains(&layer));
        vec![
            "regular".to_owned(),
            age(step.created),
            step.instruction.clone(),
            step_id(step),
            age(step.last_used),
            is_shared.to_string(),
            units::precise_size(bytes),
            // How often a step has served is not recorded.
            "N/A".to_owned(),
        ]
    };
    let of_mount = |cache: &CacheRecord| {
        vec![
            "exec.cachemount".to_owned(),
            age(cache.created),
            cache.description.clone(),
            cache_id(cache),
            age(cache.last_used),
            false.to_string(),
            units::precise_size(usage.cache(&cache.name)),
            "N/A".to_owned(),
        ]
    };
    let mounts = caches.iter().map(of_mount);
    steps.iter().map(cells).chain(mounts).collect()
}
