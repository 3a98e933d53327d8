//! What a store holds, read as docs/store-format.md says it lies on the disk, without strata.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use oci::{Digest, Hasher};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

/// The rows and files of a store, one a line, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger(BTreeSet<String>);

/// Everything but times, and what is remembered for an undo or a build's history: a killed command
/// may have done a part that the next one does not do again.
const RECORDS: &[(&str, &str)] = &[
    (
        "image",
        "id, manifest, manifest_received, size, labels, platform, layers, parent",
    ),
    ("tag", "name, image, manifest"),
    ("repo_digest", "repository, digest, image"),
    ("layer", "diff_id, tar_size, content_size, entries, synced"),
    ("blob", "digest, media_type, size, synced"),
    ("compression", "digest, diff_id, media_type, size"),
    ("origin", "digest, repository"),
    ("served", "name, document, image"),
    ("served_part", "name, part"),
    ("upload", "repository, digest"),
    ("container", "id, name, image"),
    (
        "step",
        "key, instruction, layer, parent_chain, content_size",
    ),
];

impl Ledger {
    /// Reads the store under `root`, which nobody changes now.
    pub(crate) fn read(root: &Path) -> Self {
        let mut lines = BTreeSet::new();
        let connection = open(root);
        for (table, columns) in RECORDS {
            for row in rows(
                &connection,
                &format!("SELECT {columns} FROM {}", plural(table)),
            ) {
                lines.insert(format!("{table} {}", row.join(" ")));
            }
        }
        for (path, length) in files(root) {
            let digest = digest_of(&root.join(&path));
            lines.insert(format!("file {} {length} {digest}", path.display()));
        }
        // A log has times. One that no build has is seen.
        let logs = rows(&connection, "SELECT log FROM builds WHERE log IS NOT NULL");
        let is_log = |line: &String| logs.iter().any(|log| line.contains(&log[0]));
        lines.retain(|line| !is_log(line));
        Self(lines)
    }

    /// Replaces a text everywhere: a server's address, which differs from run to run.
    pub(crate) fn replaced(self, from: &str, to: &str) -> Self {
        let lines = self.0.into_iter();
        Self(lines.map(|line| line.replace(from, to)).collect())
    }

    /// Replaces the ids of images by digests of what their configurations say apart from times, and
    /// forgets how long these configurations are.
    pub(crate) fn undated(self, root: &Path) -> Self {
        let mut lines: Vec<String> = self.0.into_iter().collect();
        for (id, undated) in undated(root) {
            let length = length(&root.join("blobs/sha256").join(&id)).to_string();
            for line in lines.iter_mut().filter(|line| line.contains(&id)) {
                if line.starts_with("blob ") || line.starts_with("file ") {
                    *line = line.replace(&format!(" {length} "), " - ");
                }
                *line = line.replace(&id, &undated);
            }
        }
        Self(lines.into_iter().collect())
    }

    /// Adds what another store holds.
    pub(crate) fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Lists the lines that begin with one of `words`.
    pub(crate) fn only(&self, words: &[&str]) -> Vec<&str> {
        let lines = self.0.iter().map(String::as_str);
        let wanted = |line: &&str| {
            let first = line.split(' ').next();
            first.is_some_and(|first| words.contains(&first))
        };
        lines.filter(wanted).collect()
    }

    /// Lists what this store has too much (`+`) and too little (`-`).
    pub(crate) fn differences(&self, expected: &Self) -> Vec<String> {
        let more = self
            .0
            .difference(&expected.0)
            .map(|line| format!("+ {line}"));
        let less = expected
            .0
            .difference(&self.0)
            .map(|line| format!("- {line}"));
        more.chain(less).collect()
    }
}

fn plural(table: &str) -> String {
    format!("{table}s").replace("serveds", "served")
}

fn open(root: &Path) -> Connection {
    // Written to only to read the write-ahead log of a database that nobody has open.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(root.join("db.sqlite"), flags).expect("a database")
}

/// Reads all columns as text; bytes are in hex.
fn rows(connection: &Connection, query: &str) -> Vec<Vec<String>> {
    let mut query = connection.prepare(query).expect("a query");
    let columns = query.column_count();
    let rows = query.query_map([], |row| {
        let column = |index| {
            Ok(match row.get_ref(index)? {
                ValueRef::Null => "-".to_owned(),
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Real(number) => number.to_string(),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                ValueRef::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            })
        };
        (0..columns)
            .map(column)
            .collect::<rusqlite::Result<Vec<_>>>()
    });
    rows.expect("rows").map(|row| row.expect("a row")).collect()
}

/// Lists the files that commands leave, by their path below `root`, with their lengths. Of a
/// container only its directory counts.
fn files(root: &Path) -> Vec<(PathBuf, u64)> {
    let mut files = Vec::new();
    for directory in ["blobs/sha256", "layers", "containers", "ingest", "trash"] {
        for entry in children(&root.join(directory)) {
            let path = root.join(directory).join(&entry);
            let inside = match directory {
                "layers" if path.is_dir() => children(&path),
                _ => Vec::new(),
            };
            let own = Path::new(directory).join(&entry);
            if inside.is_empty() {
                files.push((own, length(&path)));
            } else {
                let inside = inside
                    .iter()
                    .map(|name| (own.join(name), length(&path.join(name))));
                files.extend(inside);
            }
        }
    }
    files
}

fn children(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let name = |entry: io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    entries
        .map(|entry| name(entry).into_string().expect("a name of ours"))
        .collect()
}

fn length(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        _ => 0,
    }
}

fn digest_of(path: &Path) -> String {
    if path.is_dir() {
        return "directory".to_owned();
    }
    match hash(path) {
        Ok(digest) => digest.hex(),
        Err(error) => error.to_string(),
    }
}

fn hash(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Lists everything that is wrong with the store under `root`, which nobody changes now: content
/// that is not what its name says, records that lead nowhere. Only records of `boot` and those that
/// are synced count.
pub(crate) fn faults(root: &Path, boot: &str) -> Vec<String> {
    let mut check = Check {
        connection: open(root),
        root,
        faults: Vec::new(),
        valid: format!("(synced = 1 OR boot = '{boot}')"),
    };
    check.database();
    check.blobs();
    check.layers();
    check.images();
    check.names();
    check.faults
}

/// Returns the ids of the images that the tags lead to.
pub(crate) fn tags(root: &Path) -> BTreeMap<String, String> {
    let rows = rows(&open(root), "SELECT name, image FROM tags");
    let pair = |row: Vec<String>| <[String; 2]>::try_from(row).expect("two columns").into();
    rows.into_iter().map(pair).collect()
}

/// Lists the files under `root` that no record needs. Partial downloads wait to be resumed.
pub(crate) fn strays(root: &Path) -> Vec<PathBuf> {
    let connection = open(root);
    let known = |query: &str| -> BTreeSet<String> {
        rows(&connection, query).into_iter().flatten().collect()
    };
    let places = [
        ("blobs/sha256", known("SELECT digest FROM blobs")),
        ("layers", known("SELECT diff_id FROM layers")),
        ("containers", known("SELECT id FROM containers")),
        ("ingest", BTreeSet::new()),
        ("trash", BTreeSet::new()),
    ];
    let mut strays = Vec::new();
    for (directory, known) in places {
        let names = children(&root.join(directory)).into_iter();
        let stray = names.filter(|name| !known.contains(name) && !name.starts_with("bare-"));
        strays.extend(stray.map(|name| Path::new(directory).join(name)));
    }
    strays
}

struct Check<'a> {
    connection: Connection,
    root: &'a Path,
    faults: Vec<String>,
    valid: String,
}

impl Check<'_> {
    fn rows(&self, query: &str) -> Vec<Vec<String>> {
        rows(&self.connection, &query.replace("VALID", &self.valid))
    }

    fn database(&mut self) {
        let found = self.rows("PRAGMA integrity_check");
        if found != [["ok"]] {
            self.faults.push(format!("the database: {found:?}"));
        }
    }

    fn blobs(&mut self) {
        for row in self.rows("SELECT digest, size FROM blobs WHERE VALID") {
            let path = self.root.join("blobs/sha256").join(&row[0]);
            if digest_of(&path) != row[0] || length(&path).to_string() != row[1] {
                let found = digest_of(&path);
                self.faults.push(format!("blob {}: {found}", row[0]));
            }
        }
    }

    fn layers(&mut self) {
        for row in
            self.rows("SELECT diff_id, tar_size, content_size, entries FROM layers WHERE VALID")
        {
            let directory = self.root.join("layers").join(&row[0]);
            if let Err(fault) = check_layer(&directory, &row) {
                self.faults.push(format!("layer {}: {fault}", row[0]));
            }
        }
    }

    fn images(&mut self) {
        let known =
            |query: &str| -> BTreeSet<String> { self.rows(query).into_iter().flatten().collect() };
        let blobs = known("SELECT digest FROM blobs WHERE VALID");
        let layers = known("SELECT diff_id FROM layers WHERE VALID");
        let mut faults = Vec::new();
        for row in self.rows("SELECT id, manifest, layers FROM images") {
            let id = &row[0];
            for blob in [id, &row[1]] {
                if blob != "-" && !blobs.contains(blob) {
                    faults.push(format!("image {id}: there is no blob {blob}"));
                }
            }
            let named = layers_of(&self.root.join("blobs/sha256").join(id));
            if named.concat() != row[2] {
                faults.push(format!("image {id}: its layers are {named:?}"));
            }
            for layer in named.iter().filter(|layer| !layers.contains(*layer)) {
                faults.push(format!("image {id}: there is no layer {layer}"));
            }
        }
        for row in self.rows("SELECT key, layer FROM steps WHERE layer IS NOT NULL") {
            if !layers.contains(&row[1]) {
                faults.push(format!("step {}: there is no layer {}", row[0], row[1]));
            }
        }
        for row in self.rows("SELECT name, part FROM served_parts") {
            if !blobs.contains(&row[1]) && !layers.contains(&row[1]) {
                faults.push(format!("{}: there is no blob {}", row[0], row[1]));
            }
        }
        self.faults.extend(faults);
    }

    fn names(&mut self) {
        for table in ["tags", "repo_digests", "containers"] {
            let query = format!("SELECT * FROM {table} WHERE image NOT IN (SELECT id FROM images)");
            for row in self.rows(&query) {
                self.faults
                    .push(format!("{table} without an image: {row:?}"));
            }
        }
    }
}

/// Compares a layer with its record, and its index with one that is made again of its tar.
fn check_layer(directory: &Path, row: &[String]) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    let again = tempfile::tempdir().map_err(failed)?;
    let mut tar = File::open(directory.join("tar")).map_err(failed)?;
    let ingested = layer::ingest(&mut tar, again.path(), &layer::Limits::default());
    let ingested = ingested.map_err(|error| format!("{error:?}"))?;
    let found = [
        ingested.diff_id.digest().hex(),
        ingested.tar_size.to_string(),
        ingested.content_size.to_string(),
        ingested.entries.to_string(),
    ];
    if found != *row {
        return Err(format!("the tar is {found:?}, recorded {row:?}"));
    }
    let index = |directory: &Path| hash(&directory.join("index.erofs")).map_err(failed);
    match index(directory)? == index(again.path())? {
        true => Ok(()),
        false => Err("the index is another one".to_owned()),
    }
}

/// Returns the layers that a configuration names, in hex.
fn layers_of(config: &Path) -> Vec<String> {
    let bytes = fs::read(config).unwrap_or_default();
    let config: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let layers = config["rootfs"]["diff_ids"].as_array();
    let hex = |layer: &Value| Some(layer.as_str()?.strip_prefix("sha256:")?.to_owned());
    layers.into_iter().flatten().filter_map(hex).collect()
}

/// Returns what the configurations of the store under `root` say apart from times, by id.
fn undated(root: &Path) -> BTreeMap<String, String> {
    let connection = open(root);
    let ids = rows(&connection, "SELECT id FROM images").concat();
    let undated = |id: &String| {
        let bytes = fs::read(root.join("blobs/sha256").join(id)).unwrap_or_default();
        let mut config: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        forget_times(&mut config);
        Digest::of(config.to_string().as_bytes()).hex()
    };
    ids.iter().map(|id| (id.clone(), undated(id))).collect()
}

fn forget_times(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("created");
            members.values_mut().for_each(forget_times);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_times),
        _ => {}
    }
}
