//! What takes the disk: every file of the store, counted once, under what it is there for.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::thread;

use oci::{DiffId, Digest, ImageId};

use crate::census::{Census, Holder};
use crate::error::at;
use crate::held::{self, Whose};
use crate::measure::Meter;
use crate::sweep::Needed;
use crate::{
    ContainerRecord, ImageRecord, Keeper, Kept, KeptThing, Store, StoreError, Timestamp, lock,
};

/// What takes the disk. The shares together are what `du` tells of the root. A file that serves
/// several purposes counts for the first of them.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// Layers, configurations, manifests and indexes of images. Active: used by containers.
    pub images: Share,
    /// What containers have written, and layers that only containers need. Active: running.
    pub containers: Share,
    /// Layers that only build steps need, and directories of `RUN --mount=type=cache`.
    pub build_cache: Share,
    /// Compressed forms of layers. A push sends them again, `registry serve` serves them.
    pub compressed: Share,
    /// Downloads, uploads and builds under way, or left to be gone on with. Active: under way.
    pub partial: Share,
    /// What only an undo needs. It goes when its time is over.
    pub held: Share,
    /// What nothing needs any more, in the trash or before a sweep.
    pub removed: Share,
    /// The database, locks, directories, what is remembered of build contexts, logs of builds.
    pub records: Share,
    /// What a prune of everything that is not in use would free, compressed forms too.
    pub prunable: u64,
    /// What each directory of `RUN --mount=type=cache` takes, by its name.
    caches: HashMap<String, u64>,
    /// Bytes of `ingest` that a sweep leaves.
    pub(crate) ingest: u64,
    layers: HashMap<Digest, u64>,
    blobs: HashMap<Digest, u64>,
    directories: HashMap<String, u64>,
}

/// The share of one kind of thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// How many there are.
    pub count: u64,
    /// How many are in use.
    pub active: u64,
    /// The bytes of disk that they take.
    pub bytes: u64,
    /// The bytes of these that the prune for the kind would free.
    pub reclaimable: u64,
}

/// What an image takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageUsage {
    /// The image.
    pub id: ImageId,
    /// Bytes of layers that other images have too.
    pub shared: u64,
    /// Bytes of what no other image has.
    pub unique: u64,
}

impl Usage {
    /// Returns the bytes of disk that the store takes.
    pub fn total(&self) -> u64 {
        let shares = [
            &self.images,
            &self.containers,
            &self.build_cache,
            &self.compressed,
            &self.partial,
            &self.held,
            &self.removed,
            &self.records,
        ];
        shares.iter().map(|share| share.bytes).sum()
    }

    /// Returns the bytes of disk that a layer takes.
    pub fn layer(&self, layer: &DiffId) -> u64 {
        self.layer_bytes(layer.digest())
    }

    pub(crate) fn layer_bytes(&self, layer: &Digest) -> u64 {
        self.layers.get(layer).copied().unwrap_or(0)
    }

    pub(crate) fn blob_bytes(&self, blob: &Digest) -> u64 {
        self.blobs.get(blob).copied().unwrap_or(0)
    }

    /// Returns the bytes of disk that the directory of a container takes.
    pub fn container(&self, id: &str) -> u64 {
        self.directories.get(id).copied().unwrap_or(0)
    }

    /// Returns the bytes of disk that a directory of `RUN --mount=type=cache` takes.
    pub fn cache(&self, name: &str) -> u64 {
        self.caches.get(name).copied().unwrap_or(0)
    }

    /// Returns what all of these take.
    pub(crate) fn caches(&self) -> u64 {
        self.caches.values().sum()
    }

    /// Returns what each of all images takes.
    pub fn of_images(&self, images: &[ImageRecord]) -> Vec<ImageUsage> {
        let mut users: HashMap<Digest, u32> = HashMap::new();
        let layers = |image: &ImageRecord| -> HashSet<Digest> {
            image.layers.iter().map(|layer| *layer.digest()).collect()
        };
        for image in images {
            for layer in layers(image) {
                *users.entry(layer).or_default() += 1;
            }
        }
        let usage = |image: &ImageRecord| {
            let mut usage = ImageUsage {
                id: image.id,
                shared: 0,
                unique: 0,
            };
            for layer in layers(image) {
                let bytes = self.layer(&DiffId(layer));
                match users.get(&layer) {
                    Some(1) => usage.unique += bytes,
                    _ => usage.shared += bytes,
                }
            }
            let manifest = image.manifest.iter().map(|manifest| manifest.digest);
            let blobs = manifest.chain([*image.id.digest()]);
            usage.unique += blobs.filter_map(|blob| self.blobs.get(&blob)).sum::<u64>();
            usage
        };
        images.iter().map(usage).collect()
    }
}

impl Store {
    /// Measures what takes the disk. `runs` tells whether a container is in use. Other commands may
    /// go on meanwhile; what they do may be seen in part.
    pub fn usage(&self, runs: &dyn Fn(&ContainerRecord) -> bool) -> Result<Usage, StoreError> {
        let (census, held, images, containers, steps) = self.read(|connection| {
            let now = Timestamp::now();
            Ok((
                Census::read(connection)?,
                held::held_apart(connection, Whose::All, now)?,
                crate::image::all(connection)?,
                crate::container::all(connection)?,
                connection.query_row("SELECT count(*) FROM steps", [], |row| {
                    crate::db::to_u64(row, 0)
                })?,
            ))
        })?;
        let running = containers.iter().filter(|container| runs(container));
        let running: HashSet<String> = running.map(|container| container.id.clone()).collect();
        let mut usage = Usage::default();
        let found = self.take_stock()?;
        usage.containers.count = count(containers.len());
        usage.containers.active = count(running.len());
        let users: HashSet<ImageId> = containers.iter().map(|container| container.image).collect();
        usage.images.count = count(images.len());
        usage.images.active = count(images.iter().filter(|i| users.contains(&i.id)).count());
        usage.build_cache.count = steps;
        usage.held.count = self.holding_operations()?;
        usage.records.bytes = found.records;
        let needs = Needs::new(&census, &held, &images, &containers, &running);
        for (digest, bytes) in found.layers {
            needs.add_layer(&mut usage, digest, bytes);
        }
        for (digest, bytes) in found.blobs {
            needs.add_blob(&mut usage, digest, bytes);
        }
        for (name, bytes) in found.caches {
            usage.build_cache.count += 1;
            usage.build_cache.bytes += bytes;
            usage.build_cache.reclaimable += bytes;
            usage.prunable += bytes;
            usage
                .caches
                .insert(name.to_string_lossy().into_owned(), bytes);
        }
        for (id, bytes) in found.containers {
            needs.add_directory(&mut usage, id.to_string_lossy().into_owned(), bytes);
        }
        for partial in &found.partial {
            usage.partial.count += 1;
            usage.partial.active += u64::from(partial.is_active);
            usage.partial.bytes += partial.bytes;
            match partial.is_stale {
                true => usage.partial.reclaimable += partial.bytes,
                false => usage.ingest += partial.bytes,
            }
        }
        usage.removed.count += found.removed.0;
        usage.removed.bytes += found.removed.1;
        usage.removed.reclaimable = usage.removed.bytes;
        usage.prunable += usage.partial.reclaimable + usage.removed.reclaimable;
        Ok(usage)
    }

    /// Measures everything under the root.
    fn take_stock(&self) -> Result<Stock, StoreError> {
        let meter = Meter::default();
        let mut stock = Stock::default();
        let root = self.root();
        let known = ["blobs", "layers", "containers", "caches", "ingest", "trash"];
        let own = |path: &Path| fs::symlink_metadata(path).map_or(0, |found| meter.one(&found));
        stock.records += own(root);
        for name in names(root)? {
            let path = root.join(&name);
            stock.records += match known.iter().any(|known| name == *known) {
                true => own(&path),
                false => meter.tree(&path),
            };
        }
        let blobs = root.join("blobs");
        for name in names(&blobs)? {
            stock.records += match name == "sha256" {
                true => own(&blobs.join(&name)),
                false => meter.tree(&blobs.join(&name)),
            };
        }
        let mut sort = |found: Vec<(OsString, u64)>| {
            let mut known = Vec::with_capacity(found.len());
            for (name, bytes) in found {
                match name.to_str().and_then(Digest::from_hex) {
                    Some(digest) => known.push((digest, bytes)),
                    None => stock.removed = (stock.removed.0 + 1, stock.removed.1 + bytes),
                }
            }
            known
        };
        stock.layers = sort(measure(&meter, &root.join("layers"))?);
        stock.blobs = sort(measure(&meter, &blobs.join("sha256"))?);
        stock.containers = measure(&meter, &root.join("containers"))?;
        stock.caches = measure(&meter, &root.join("caches"))?;
        for (_, bytes) in measure(&meter, &root.join("trash"))? {
            stock.removed = (stock.removed.0 + 1, stock.removed.1 + bytes);
        }
        let mut stale = HashSet::new();
        self.each_stale(|path| {
            stale.extend(path.file_name().map(std::ffi::OsStr::to_owned));
            Ok(())
        })?;
        let ingest = self.ingest_dir();
        for (name, bytes) in measure(&meter, &ingest)? {
            let is_stale = stale.contains(&name);
            stock.partial.push(Partial {
                bytes,
                is_stale,
                is_active: !is_stale && is_locked(&ingest.join(&name))?,
            });
        }
        Ok(stock)
    }

    /// Tells what of `ingest` a sweep leaves, and why.
    pub(crate) fn kept_partial(&self) -> Result<Vec<Kept>, StoreError> {
        let mut stale = HashSet::new();
        self.each_stale(|path| {
            stale.insert(path.to_owned());
            Ok(())
        })?;
        let ingest = self.ingest_dir();
        let meter = Meter::default();
        let mut kept = Vec::new();
        for name in names(&ingest)? {
            let path = ingest.join(&name);
            if stale.contains(&path) {
                continue;
            }
            let keeper = match is_locked(&path)? {
                true => Keeper::Working,
                false => Keeper::Recently,
            };
            kept.push(Kept {
                what: KeptThing::Partial(name.to_string_lossy().into_owned()),
                bytes: meter.tree(&path),
                by: vec![keeper],
            });
        }
        Ok(kept)
    }

    fn holding_operations(&self) -> Result<u64, StoreError> {
        self.read(|connection| {
            let query = "SELECT count(*) FROM operations WHERE held_until > ?1";
            let now = Timestamp::now().0;
            Ok(connection.query_row(query, [now], |row| crate::db::to_u64(row, 0))?)
        })
    }
}

/// What is under a root, with the bytes of each.
#[derive(Debug, Default)]
struct Stock {
    layers: Vec<(Digest, u64)>,
    blobs: Vec<(Digest, u64)>,
    containers: Vec<(OsString, u64)>,
    caches: Vec<(OsString, u64)>,
    partial: Vec<Partial>,
    /// How many, and how much.
    removed: (u64, u64),
    records: u64,
}

#[derive(Debug)]
struct Partial {
    bytes: u64,
    is_stale: bool,
    is_active: bool,
}

/// What a file is there for; the first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Image,
    Container,
    Step,
    Log,
    Lease,
    Held,
}

/// What needs which file, and what would after each prune.
struct Needs {
    layers: HashMap<Digest, Class>,
    blobs: HashMap<Digest, Class>,
    compressed: HashSet<Digest>,
    /// Compressed forms of layers that only an undo needs.
    held_compressed: HashSet<Digest>,
    containers: HashSet<String>,
    running: HashSet<String>,
    without_images: Needed,
    without_containers: Needed,
    without_all: Needed,
    held: Needed,
}

impl Needs {
    fn new(
        census: &Census,
        held: &Needed,
        images: &[ImageRecord],
        containers: &[ContainerRecord],
        running: &HashSet<String>,
    ) -> Self {
        let mut needs = Self {
            layers: HashMap::new(),
            blobs: HashMap::new(),
            compressed: HashSet::new(),
            held_compressed: HashSet::new(),
            containers: HashSet::new(),
            running: running.clone(),
            without_images: needed_without(census, images, containers, Without::Images),
            without_containers: census.needed(|holder| match holder {
                Holder::Container(id) => running.contains(id),
                _ => true,
            }),
            without_all: Needed::default(),
            held: Needed::default(),
        };
        let in_use: Vec<ContainerRecord> = containers
            .iter()
            .filter(|container| running.contains(&container.id))
            .cloned()
            .collect();
        needs.without_all = needed_without(census, images, &in_use, Without::All);
        needs.classify(census, held);
        for needed in [
            &mut needs.without_images,
            &mut needs.without_containers,
            &mut needs.without_all,
        ] {
            needed.add_all(held);
        }
        needs.held.add_all(held);
        needs
    }

    fn classify(&mut self, census: &Census, held: &Needed) {
        for claim in &census.claims {
            let class = match &claim.holder {
                Holder::Image(_) | Holder::Tag { .. } => Class::Image,
                Holder::Container(id) => {
                    self.containers.insert(id.clone());
                    Class::Container
                }
                Holder::Step(_) => Class::Step,
                Holder::Build(_) => Class::Log,
                Holder::Lease => Class::Lease,
            };
            put(&mut self.layers, &claim.layers, class);
            put(&mut self.blobs, &claim.blobs, class);
        }
        for (blob, layer) in &census.compressions {
            let claimed = self
                .blobs
                .get(blob)
                .is_some_and(|class| *class < Class::Lease);
            if self.layers.contains_key(layer) && !claimed {
                self.compressed.insert(*blob);
            }
        }
        put(&mut self.layers, held.layers.iter(), Class::Held);
        put(&mut self.blobs, held.blobs.iter(), Class::Held);
        for (blob, layer) in &census.compressions {
            if self.layers.get(layer) == Some(&Class::Held) && !self.blobs.contains_key(blob) {
                self.held_compressed.insert(*blob);
            }
        }
    }

    fn add_layer(&self, usage: &mut Usage, layer: Digest, bytes: u64) {
        usage.layers.insert(layer, bytes);
        let class = self.layers.get(&layer).copied();
        self.add(usage, class, bytes, |needed| needed.layers.contains(&layer));
    }

    fn add_blob(&self, usage: &mut Usage, blob: Digest, bytes: u64) {
        usage.blobs.insert(blob, bytes);
        if self.held_compressed.contains(&blob) {
            usage.held.bytes += bytes;
            usage.prunable += bytes;
            return;
        }
        if !self.compressed.contains(&blob) {
            let class = self.blobs.get(&blob).copied();
            self.add(usage, class, bytes, |needed| needed.blobs.contains(&blob));
            return;
        }
        usage.compressed.count += 1;
        usage.compressed.bytes += bytes;
        // A lease, or an undo, keeps it all the same.
        if !self.blobs.contains_key(&blob) {
            usage.compressed.reclaimable += bytes;
            usage.prunable += bytes;
        }
    }

    fn add_directory(&self, usage: &mut Usage, id: String, bytes: u64) {
        if self.containers.contains(&id) {
            usage.containers.bytes += bytes;
            if !self.running.contains(&id) {
                usage.containers.reclaimable += bytes;
                usage.prunable += bytes;
            }
        } else {
            usage.removed.count += 1;
            usage.removed.bytes += bytes;
        }
        usage.directories.insert(id, bytes);
    }

    fn add(
        &self,
        usage: &mut Usage,
        class: Option<Class>,
        bytes: u64,
        stays: impl Fn(&Needed) -> bool,
    ) {
        let (share, goes) = match class {
            Some(Class::Image) => (&mut usage.images, !stays(&self.without_images)),
            Some(Class::Container) => (&mut usage.containers, !stays(&self.without_containers)),
            // By its class only steps need it, and perhaps an undo.
            Some(Class::Step) => (&mut usage.build_cache, !stays(&self.held)),
            Some(Class::Log) => (&mut usage.records, false),
            Some(Class::Lease) => {
                usage.partial.count += 1;
                (&mut usage.partial, false)
            }
            Some(Class::Held) => (&mut usage.held, false),
            None => {
                usage.removed.count += 1;
                usage.removed.bytes += bytes;
                return;
            }
        };
        share.bytes += bytes;
        if goes {
            share.reclaimable += bytes;
        }
        if matches!(class, Some(Class::Image | Class::Container | Class::Step))
            && !stays(&self.without_all)
        {
            usage.prunable += bytes;
        }
    }
}

fn put<'a>(
    classes: &mut HashMap<Digest, Class>,
    digests: impl IntoIterator<Item = &'a Digest>,
    class: Class,
) {
    for digest in digests {
        let known = classes.entry(*digest).or_insert(class);
        *known = class.min(*known);
    }
}

/// What is pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Without {
    /// Images that no container uses.
    Images,
    /// These, containers that are not in use, and build steps.
    All,
}

/// Collects what would be needed after a prune. Images stay that `containers` use, and their
/// parents; tags of the parents go.
fn needed_without(
    census: &Census,
    images: &[ImageRecord],
    containers: &[ContainerRecord],
    without: Without,
) -> Needed {
    let used: HashSet<ImageId> = containers.iter().map(|container| container.image).collect();
    let parents: HashMap<ImageId, ImageId> = images
        .iter()
        .filter_map(|image| Some((image.id, image.parent?)))
        .collect();
    let mut stay = HashSet::new();
    for id in &used {
        let mut id = *id;
        while stay.insert(id) {
            match parents.get(&id) {
                Some(parent) => id = *parent,
                None => break,
            }
        }
    }
    let kept: HashSet<&str> = containers
        .iter()
        .map(|container| container.id.as_str())
        .collect();
    census.needed(|holder| match holder {
        Holder::Image(id) => stay.contains(id),
        Holder::Tag { image, .. } => image.is_none_or(|image| used.contains(&image)),
        Holder::Container(id) => kept.contains(id.as_str()),
        Holder::Step(_) => without == Without::Images,
        Holder::Build(_) | Holder::Lease => true,
    })
}

fn names(directory: &Path) -> Result<Vec<OsString>, StoreError> {
    let entries = fs::read_dir(directory).map_err(at("read", directory))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    names
        .collect::<Result<_, _>>()
        .map_err(at("read", directory))
}

/// How many names are worth a thread.
const SHARE: usize = 512;

/// Measures everything in a directory, with all processors: of 10,000 layers it is most of the
/// work.
fn measure(meter: &Meter, directory: &Path) -> Result<Vec<(OsString, u64)>, StoreError> {
    let names = names(directory)?;
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let share = names.len().div_ceil(processors).max(SHARE);
    let measure = |names: &[OsString]| -> Vec<u64> {
        let bytes = names.iter().map(|name| meter.tree(&directory.join(name)));
        bytes.collect()
    };
    let bytes: Vec<u64> = thread::scope(|scope| {
        let shares = names.chunks(share);
        let threads: Vec<_> = shares
            .map(|names| scope.spawn(move || measure(names)))
            .collect();
        let bytes = threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("invariant: measuring does not panic"));
        bytes.collect()
    });
    Ok(names.into_iter().zip(bytes).collect())
}

/// Tells whether a process has a file or directory locked.
fn is_locked(path: &Path) -> Result<bool, StoreError> {
    match File::open(path) {
        Ok(file) => Ok(!lock::try_exclusive(&file, path)?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at("open", path)(error)),
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
