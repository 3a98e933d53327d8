//! Images: a configuration, its layers, and the manifest it came with.

use std::collections::{BTreeMap, HashMap};

use oci::{
    Descriptor, DiffId, Digest, ImageConfig, ImageId, MAX_CONFIG_SIZE, MediaType, Platform,
    Reference,
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::manifest::{self, Provenance};
use crate::{Store, StoreError, Timestamp, db, layer, tag};

/// An image to record.
#[derive(Debug, Clone, Copy)]
pub struct NewImage<'a> {
    /// The bytes of its configuration, as received or made.
    pub config: &'a [u8],
    /// The manifest it came with, as received.
    pub manifest: Option<(&'a MediaType, &'a [u8])>,
    /// The image it was committed from.
    pub parent: Option<ImageId>,
    /// When each entry of its history was made, bottom first, where that is known better than
    /// from the configuration, which says something old to be reproducible. The image is as old
    /// as the last. Empty for an image that was not made here.
    pub times: &'a [Option<Timestamp>],
}

/// An image in the store. Everything is read from the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// The digest of its configuration.
    pub id: ImageId,
    /// Its names, sorted.
    pub tags: Vec<Reference>,
    /// Names with the digest under which a registry has it, sorted.
    pub repo_digests: Vec<Reference>,
    /// The manifest it came with, or was pushed with.
    pub manifest: Option<Descriptor>,
    /// When it was made, as its configuration says. Reproducible builds say something old.
    pub created: Option<String>,
    /// When it was made, if that was here.
    pub made: Option<Timestamp>,
    /// When this store recorded it first.
    pub added: Timestamp,
    /// When a name was last given to it.
    pub last_tagged: Option<Timestamp>,
    /// When a container was last made of it, or another image built on it; exact to the hour.
    pub last_used: Option<Timestamp>,
    /// The sum of the sizes of the files of its layers: docker's SIZE.
    pub size: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The platform it is for.
    pub platform: Platform,
    /// Its layers, bottom first.
    pub layers: Vec<DiffId>,
    /// The image it was committed from.
    pub parent: Option<ImageId>,
    /// Whether it was received with a manifest; otherwise it was made or loaded here.
    pub received: bool,
}

impl ImageRecord {
    /// Tells whether it has no tag.
    pub fn is_dangling(&self) -> bool {
        self.tags.is_empty()
    }

    /// Returns since when the image exists: since it was made here, or what its configuration
    /// says. `None` when nothing tells.
    pub fn created_at(&self) -> Option<Timestamp> {
        let said = || self.created.as_deref().and_then(Timestamp::parse);
        self.made.or_else(said)
    }

    /// Returns when the image was last of use: when a container was last made of it or another
    /// image built on it, when it was last given a name, or when it came.
    pub fn last_needed(&self) -> Timestamp {
        let times = [self.last_used, self.last_tagged];
        times.into_iter().flatten().fold(self.added, Ord::max)
    }
}

/// How exactly the last use is known, in nanoseconds: a rebuild of which nothing changed writes
/// nothing.
const TOUCHED_EVERY: i64 = 3600 * 1_000_000_000;

const COLUMNS: &str = "id, manifest, manifest_type, manifest_size, created, added, last_tagged,
    size, labels, platform, layers, parent, manifest_received, made, last_used";

impl Store {
    /// Records an image. Every layer must be in the store. Recording an image again is no error;
    /// a manifest replaces the one before.
    pub fn put_image(&self, image: &NewImage<'_>) -> Result<ImageId, StoreError> {
        self.put_named_image(image, &[])
    }

    /// Records an image as [`Store::put_image`] does, with names: no command that removes images
    /// comes between.
    pub fn put_named_image(
        &self,
        image: &NewImage<'_>,
        names: &[Reference],
    ) -> Result<ImageId, StoreError> {
        let config = ImageConfig::parse(image.config)?;
        let id = Digest::of(image.config);
        if let Some((media_type, bytes)) = image.manifest {
            manifest::check(media_type, bytes, &id)?;
        }
        let config_type = match image.manifest {
            Some((media_type, _)) if media_type.0 == MediaType::DOCKER_MANIFEST => {
                MediaType::DOCKER_CONFIG
            }
            _ => MediaType::OCI_CONFIG,
        };
        self.put_blob(&config_type.into(), image.config)?;
        let manifest = match image.manifest {
            Some((media_type, bytes)) => Some(self.put_blob(media_type, bytes)?),
            None => None,
        };
        let id = ImageId(id);
        self.write(|tx| {
            self.insert_image(tx, &id, &config, image)?;
            if let Some(manifest) = &manifest {
                manifest::set_manifest(tx, &id, manifest, Provenance::Received)?;
            }
            release_leases(tx, &id)?;
            for name in names {
                tag::give(self, tx, name, (&id, None))?;
            }
            Ok::<_, StoreError>(())
        })?;
        Ok(id)
    }

    /// Ends the leases of an image's parts: it holds them itself.
    pub fn release_leases(&self, id: &ImageId) -> Result<(), StoreError> {
        self.write(|tx| release_leases(tx, id))
    }

    /// Returns all images, newest first.
    pub fn images(&self) -> Result<Vec<ImageRecord>, StoreError> {
        self.read(all)
    }

    /// Returns one image.
    pub fn image(&self, id: &ImageId) -> Result<Option<ImageRecord>, StoreError> {
        self.read(|connection| find(connection, id))
    }

    /// Notes that a container was made of an image or another image built on it. Writes only
    /// when the last such note is older than an hour.
    pub fn touch_image(&self, id: &ImageId) -> Result<(), StoreError> {
        let now = Timestamp::now().0;
        let key = id.digest().as_bytes();
        let stale = self.read(|connection| {
            let mut query = connection
                .prepare_cached("SELECT coalesce(last_used, 0) <= ?2 FROM images WHERE id = ?1")?;
            let stale = query.query_row(params![key, now - TOUCHED_EVERY], |row| row.get(0));
            Ok(stale.optional()?.unwrap_or(false))
        })?;
        if !stale {
            return Ok(());
        }
        self.write(|tx| {
            tx.execute(
                "UPDATE images SET last_used = ?2 WHERE id = ?1",
                params![key, now],
            )?;
            Ok(())
        })
    }

    /// Returns the parsed configuration of an image.
    pub fn image_config(&self, id: &ImageId) -> Result<ImageConfig, StoreError> {
        Ok(ImageConfig::parse(&self.image_config_bytes(id)?)?)
    }

    /// Returns when the entries of an image's history were made, as [`NewImage::times`] has it.
    pub fn image_times(&self, id: &ImageId) -> Result<Vec<Option<Timestamp>>, StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare_cached("SELECT times FROM images WHERE id = ?1")?;
            let times: Option<Option<String>> = query
                .query_row([id.digest().as_bytes()], |row| row.get(0))
                .optional()?;
            match times.flatten() {
                Some(times) => from_json(&times),
                None => Ok(Vec::new()),
            }
        })
    }

    /// Returns the configuration of an image as it was received.
    pub fn image_config_bytes(&self, id: &ImageId) -> Result<Vec<u8>, StoreError> {
        match self.read_blob(id.digest(), MAX_CONFIG_SIZE) {
            Err(StoreError::BlobNotFound(_)) => Err(StoreError::ImageNotFound(*id)),
            result => result,
        }
    }

    fn insert_image(
        &self,
        tx: &Connection,
        id: &ImageId,
        config: &ImageConfig,
        image: &NewImage<'_>,
    ) -> Result<(), StoreError> {
        let diff_ids = &config.rootfs.diff_ids;
        let mut size = 0_u64;
        for diff_id in diff_ids {
            let layer = layer::find(tx, diff_id, self.boot_id())?;
            let layer = layer.ok_or(StoreError::LayerNotFound(*diff_id))?;
            size = size.saturating_add(layer.content_size);
        }
        let now = Timestamp::now();
        let made = image.times.last().copied().flatten();
        let said = config.created.as_deref().and_then(Timestamp::parse);
        // What made the image again tells when; what received it again does not know.
        tx.execute(
            "INSERT INTO images (id, created, created_ns, added, size, labels, platform, layers,
                parent, made, times) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                ON CONFLICT (id) DO UPDATE SET parent = coalesce(excluded.parent, parent),
                created_ns = iif(excluded.made IS NULL, created_ns, excluded.created_ns),
                made = coalesce(excluded.made, made),
                times = coalesce(excluded.times, times)",
            params![
                id.digest().as_bytes(),
                config.created,
                made.or(said).unwrap_or_default().0,
                now.0,
                db::from_u64(size),
                to_json(&config.config.labels),
                to_json(&config.platform()),
                db::layers_column(diff_ids),
                image
                    .parent
                    .as_ref()
                    .map(|parent| parent.digest().as_bytes()),
                made.map(|made| made.0),
                (!image.times.is_empty()).then(|| to_json(&image.times))
            ],
        )?;
        Ok(())
    }
}

/// The image holds its parts from now on.
fn release_leases(tx: &Connection, id: &ImageId) -> Result<(), StoreError> {
    let Some(image) = find(tx, id)? else {
        return Ok(());
    };
    for layer in &image.layers {
        let key = layer.digest().as_bytes();
        tx.execute(
            "UPDATE layers SET leased_until = 0 WHERE diff_id = ?1",
            [key],
        )?;
        tx.execute(
            // What was pushed uncompressed is a blob beside the layer.
            "UPDATE blobs SET leased_until = 0 WHERE digest = ?1 OR digest IN
                (SELECT digest FROM compressions WHERE diff_id = ?1)",
            [key],
        )?;
    }
    let manifest = image.manifest.map(|manifest| manifest.digest);
    for digest in manifest.iter().chain([id.digest()]) {
        tx.execute(
            "UPDATE blobs SET leased_until = 0 WHERE digest = ?1",
            [digest.as_bytes()],
        )?;
    }
    Ok(())
}

/// The names of images, by image.
#[derive(Default)]
struct Names {
    tags: HashMap<Digest, Vec<Reference>>,
    digests: HashMap<Digest, Vec<Reference>>,
}

impl Names {
    fn read(connection: &Connection) -> Result<Self, StoreError> {
        let mut names = Self::default();
        let mut query = connection.prepare_cached("SELECT image, name FROM tags ORDER BY name")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            names.add_tag(db::digest(row, 0)?, &row.get::<_, String>(1)?);
        }
        let mut query = connection.prepare_cached(
            "SELECT image, repository, digest FROM repo_digests ORDER BY repository, digest",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let repository: String = row.get(1)?;
            names.add_digest(db::digest(row, 0)?, &repository, db::digest(row, 2)?);
        }
        Ok(names)
    }

    fn read_of(connection: &Connection, id: &ImageId) -> Result<Self, StoreError> {
        let mut names = Self::default();
        let key = id.digest();
        let mut query =
            connection.prepare_cached("SELECT name FROM tags WHERE image = ?1 ORDER BY name")?;
        let mut rows = query.query([key.as_bytes()])?;
        while let Some(row) = rows.next()? {
            names.add_tag(*key, &row.get::<_, String>(0)?);
        }
        let mut query = connection.prepare_cached(
            "SELECT repository, digest FROM repo_digests WHERE image = ?1
                ORDER BY repository, digest",
        )?;
        let mut rows = query.query([key.as_bytes()])?;
        while let Some(row) = rows.next()? {
            let repository: String = row.get(0)?;
            names.add_digest(*key, &repository, db::digest(row, 1)?);
        }
        Ok(names)
    }

    fn add_tag(&mut self, image: Digest, name: &str) {
        // Only valid names are written.
        if let Ok(name) = Reference::parse(name) {
            self.tags.entry(image).or_default().push(name);
        }
    }

    fn add_digest(&mut self, image: Digest, repository: &str, digest: Digest) {
        if let Ok(name) = Reference::parse(repository) {
            let names = self.digests.entry(image).or_default();
            names.push(name.with_digest(digest));
        }
    }
}

/// Returns all images, newest first.
pub(crate) fn all(connection: &Connection) -> Result<Vec<ImageRecord>, StoreError> {
    let mut names = Names::read(connection)?;
    let mut query = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM images ORDER BY created_ns DESC, added DESC, id"
    ))?;
    let mut rows = query.query([])?;
    let mut images = Vec::new();
    while let Some(row) = rows.next()? {
        images.push(record(row, &mut names)?);
    }
    Ok(images)
}

pub(crate) fn find(
    connection: &Connection,
    id: &ImageId,
) -> Result<Option<ImageRecord>, StoreError> {
    let mut names = Names::read_of(connection, id)?;
    let mut query =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM images WHERE id = ?1"))?;
    let mut rows = query.query([id.digest().as_bytes()])?;
    match rows.next()? {
        Some(row) => record(row, &mut names).map(Some),
        None => Ok(None),
    }
}

/// Tells whether an image is recorded.
pub(crate) fn exists(connection: &Connection, id: &ImageId) -> Result<bool, StoreError> {
    let mut query = connection.prepare_cached("SELECT 1 FROM images WHERE id = ?1")?;
    let found = query.query_row([id.digest().as_bytes()], |_| Ok(()));
    Ok(found.optional()?.is_some())
}

/// Tells whether the row of an image is what its configuration and layers say; also when there is
/// no such row.
pub(crate) fn is_of(
    connection: &Connection,
    id: &ImageId,
    config: &ImageConfig,
) -> Result<bool, StoreError> {
    let query = "SELECT created, created_ns, made, size, labels, platform, layers
        FROM images WHERE id = ?1";
    let mut query = connection.prepare_cached(query)?;
    let mut rows = query.query([id.digest().as_bytes()])?;
    let Some(row) = rows.next()? else {
        return Ok(true);
    };
    let derived = Derived::of(connection, config)?;
    let created: Option<String> = row.get(0)?;
    let made: Option<i64> = row.get(2)?;
    let labels: Result<BTreeMap<String, String>, _> =
        from_json(row.get_ref(4)?.as_str().unwrap_or_default());
    let platform: Result<Platform, _> = from_json(row.get_ref(5)?.as_str().unwrap_or_default());
    Ok(created == config.created
        && row.get::<_, i64>(1)? == made.unwrap_or(derived.created_ns)
        && row.get::<_, i64>(3)? == derived.size
        && labels.is_ok_and(|labels| labels == config.config.labels)
        && platform.is_ok_and(|platform| platform == config.platform())
        && db::layers(row, 6)? == config.rootfs.diff_ids)
}

/// Makes the row of an image what its configuration and layers say.
pub(crate) fn rewrite(
    tx: &Connection,
    id: &ImageId,
    config: &ImageConfig,
) -> Result<(), StoreError> {
    let derived = Derived::of(tx, config)?;
    tx.execute(
        "UPDATE images SET created = ?2, created_ns = coalesce(made, ?3), size = ?4, labels = ?5,
            platform = ?6, layers = ?7 WHERE id = ?1",
        params![
            id.digest().as_bytes(),
            config.created,
            derived.created_ns,
            derived.size,
            to_json(&config.config.labels),
            to_json(&config.platform()),
            db::layers_column(&config.rootfs.diff_ids)
        ],
    )?;
    Ok(())
}

/// What a row says that a configuration tells only together with other rows.
struct Derived {
    created_ns: i64,
    size: i64,
}

impl Derived {
    fn of(connection: &Connection, config: &ImageConfig) -> Result<Self, StoreError> {
        let mut size = 0_i64;
        let mut query =
            connection.prepare_cached("SELECT content_size FROM layers WHERE diff_id = ?1")?;
        for layer in &config.rootfs.diff_ids {
            let found = query.query_row([layer.digest().as_bytes()], |row| row.get(0));
            size = size.saturating_add(found.optional()?.unwrap_or(0));
        }
        let said = config.created.as_deref().and_then(Timestamp::parse);
        Ok(Self {
            created_ns: said.unwrap_or_default().0,
            size,
        })
    }
}

/// Forgets that images came with a manifest that is lost.
pub(crate) fn forget_manifest(tx: &Connection, manifest: &Digest) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE images SET manifest = NULL, manifest_type = NULL, manifest_size = NULL,
            manifest_received = 0 WHERE manifest = ?1",
        [manifest.as_bytes()],
    )?;
    Ok(())
}

fn record(row: &Row<'_>, names: &mut Names) -> Result<ImageRecord, StoreError> {
    let id = db::digest(row, 0)?;
    let manifest = match db::optional_digest(row, 1)? {
        Some(digest) => Some(Descriptor::new(
            &row.get::<_, String>(2)?,
            digest,
            db::to_u64(row, 3)?,
        )),
        None => None,
    };
    Ok(ImageRecord {
        id: ImageId(id),
        tags: names.tags.remove(&id).unwrap_or_default(),
        repo_digests: names.digests.remove(&id).unwrap_or_default(),
        manifest,
        created: row.get(4)?,
        added: Timestamp(row.get(5)?),
        last_tagged: row.get::<_, Option<i64>>(6)?.map(Timestamp),
        size: db::to_u64(row, 7)?,
        labels: from_json(row.get_ref(8)?.as_str().unwrap_or_default())?,
        platform: from_json(row.get_ref(9)?.as_str().unwrap_or_default())?,
        layers: db::layers(row, 10)?,
        parent: db::optional_digest(row, 11)?.map(ImageId),
        received: row.get(12)?,
        made: row.get::<_, Option<i64>>(13)?.map(Timestamp),
        last_used: row.get::<_, Option<i64>>(14)?.map(Timestamp),
    })
}

fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("invariant: maps have string keys")
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::MalformedRecord {
        table: "images",
        source,
    })
}
