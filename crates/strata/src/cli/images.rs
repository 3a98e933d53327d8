//! `strata images`.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use oci::{ImageId, Reference};
use store::{ImageRecord, Store};
use strata::ops::image_filter::{ImageFilter, Purpose};

use super::command::{Arity, Command};
use super::error::{CommandError, Exit};
use super::flags::{Arguments, Flag};
use super::listing::{Field, Listing};
use super::session::Session;
use super::units;

pub(crate) const COMMAND: Command = Command {
    names: &["image ls", "image list", "images"],
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    about: "List images",
    flags: &[
        Flag::switch("all", "Show all images (default hides intermediate images)").short('a'),
        Flag::switch("digests", "Show digests"),
        Flag::many(
            "filter",
            "filter",
            "Filter output: dangling, label, before, since, reference, until",
        )
        .short('f'),
        Flag::one("format", "string", LIST_FORMAT_HELP),
        Flag::switch("no-trunc", "Don't truncate output"),
        Flag::switch("quiet", "Only show image IDs").short('q'),
    ],
    refused: &["tree"],
    arity: Arity::AtMost(1),
    run,
    ..Command::DEFAULT
};

/// The help of `--format` for commands that list.
pub(crate) const LIST_FORMAT_HELP: &str =
    "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template";

pub(crate) const FIELDS: &[Field] = &[
    Field::new("Containers", "CONTAINERS"),
    Field::new("CreatedAt", "CREATED AT"),
    Field::new("CreatedSince", "CREATED"),
    Field::new("Digest", "DIGEST"),
    Field::new("ID", "IMAGE ID"),
    Field::new("Repository", "REPOSITORY"),
    Field::new("SharedSize", "SHARED SIZE"),
    Field::new("Size", "SIZE"),
    Field::new("Tag", "TAG"),
    Field::new("UniqueSize", "UNIQUE SIZE"),
    Field::new("VirtualSize", "SIZE"),
];

const NONE: &str = "<none>";

fn run(arguments: &Arguments, session: &mut Session) -> Result<Exit, CommandError> {
    let now = units::now();
    let mut filter = ImageFilter::parse(arguments.all("filter"), Purpose::List, now)?;
    filter
        .references
        .extend(arguments.positional.first().cloned());
    let store = session.store()?;
    let mut images = store.images()?;
    if !arguments.is_on("all") {
        hide_intermediate(&mut images);
    }
    let images = filter.apply(store, images)?;
    let format = arguments.text("format");
    let containers = match format {
        Some(_) => containers(store)?,
        None => BTreeMap::new(),
    };
    let form = Form {
        now,
        no_trunc: arguments.is_on("no-trunc"),
        digests: arguments.is_on("digests"),
    };
    let mut rows = Vec::with_capacity(images.len());
    for image in &images {
        let count = containers.get(&image.id).copied().unwrap_or(0);
        form.push_rows(&mut rows, image, count);
    }
    let listing = Listing {
        fields: FIELDS,
        kind: "*formatter.imageContext",
        rows,
    };
    let is_table = matches!(format, None | Some("" | "table"));
    let text = if arguments.is_on("quiet") && is_table {
        listing.column("ID")
    } else {
        listing.render(format, columns(form.digests))?
    };
    session.out.data(&text)?;
    if let (Some(word), true) = (arguments.positional.first(), images.is_empty())
        && SUBCOMMANDS.contains(&word.as_str())
    {
        let program = session.program;
        session.out.talk(&format!(
            "\nNo images found matching {word:?}: did you mean \"{program} image {word}\"?"
        ));
    }
    Ok(Exit::SUCCESS)
}

/// Words that people write after `images` and mean after `image`.
const SUBCOMMANDS: &[&str] = &[
    "build", "history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push", "rm",
    "save", "tag",
];

fn columns(digests: bool) -> &'static [&'static str] {
    match digests {
        true => &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"],
        false => &["Repository", "Tag", "ID", "CreatedSince", "Size"],
    }
}

/// An image without a name that another one was committed from says nothing by itself.
fn hide_intermediate(images: &mut Vec<ImageRecord>) {
    let parents: HashSet<ImageId> = images.iter().filter_map(|image| image.parent).collect();
    images.retain(|image| {
        !image.tags.is_empty() || !image.repo_digests.is_empty() || !parents.contains(&image.id)
    });
}

/// Returns how many containers each image has.
pub(crate) fn containers(store: &Store) -> Result<BTreeMap<ImageId, usize>, CommandError> {
    let mut counts = BTreeMap::new();
    for container in store.containers()? {
        *counts.entry(container.image).or_insert(0) += 1;
    }
    Ok(counts)
}

/// Adds the rows of an image with what it shares with others on disk, and what not.
pub(crate) fn push_rows_with_sizes(
    rows: &mut Vec<Vec<String>>,
    image: &ImageRecord,
    containers: usize,
    [shared, unique]: &[String; 2],
) {
    let form = Form {
        now: units::now(),
        no_trunc: false,
        digests: false,
    };
    let first = rows.len();
    form.push_rows(rows, image, containers);
    let columns = [("SharedSize", shared), ("UniqueSize", unique)];
    for (name, size) in columns {
        let column = FIELDS.iter().position(|field| field.name == name);
        let column = column.expect("invariant: columns are names of fields");
        for row in &mut rows[first..] {
            row[column].clone_from(size);
        }
    }
}

struct Form {
    now: Timestamp,
    no_trunc: bool,
    digests: bool,
}

impl Form {
    /// One row for each name; one for an image without any.
    fn push_rows(&self, rows: &mut Vec<Vec<String>>, image: &ImageRecord, containers: usize) {
        let time = image.created_at().map(units::moment);
        let id = match self.no_trunc {
            true => image.id.to_string(),
            false => image.id.digest().short(),
        };
        let size = units::size(image.size);
        let age = time.map_or_else(
            || "N/A".to_owned(),
            |time| format!("{} ago", units::age(time, self.now)),
        );
        let date = time.map_or_else(|| "N/A".to_owned(), units::date);
        for (repository, tag, digest) in self.names(image) {
            rows.push(vec![
                containers.to_string(),
                date.clone(),
                age.clone(),
                digest,
                id.clone(),
                repository,
                "N/A".to_owned(),
                size.clone(),
                tag,
                "N/A".to_owned(),
                size.clone(),
            ]);
        }
    }

    fn names(&self, image: &ImageRecord) -> Vec<(String, String, String)> {
        let mut names = Vec::new();
        for tag in &image.tags {
            let repository = tag.familiar_repository();
            let mut digests = image
                .repo_digests
                .iter()
                .filter(|name| name.familiar_repository() == repository);
            let word = tag.tag().unwrap_or(NONE).to_owned();
            let row = |digest| (repository.clone(), word.clone(), digest_text(digest));
            names.push(row(digests.next()));
            // docker pairs every tag with every digest of its repository.
            if self.digests {
                names.extend(digests.map(|digest| row(Some(digest))));
            }
        }
        for name in &image.repo_digests {
            let repository = name.familiar_repository();
            let has_tag = names.iter().any(|(known, _, _)| *known == repository);
            if !has_tag && (self.digests || image.tags.is_empty()) {
                names.push((repository, NONE.to_owned(), digest_text(Some(name))));
            }
        }
        if names.is_empty() {
            names.push((NONE.to_owned(), NONE.to_owned(), NONE.to_owned()));
        }
        names
    }
}

fn digest_text(name: Option<&Reference>) -> String {
    name.and_then(Reference::digest)
        .map_or_else(|| NONE.to_owned(), ToString::to_string)
}
