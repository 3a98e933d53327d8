//! Removing files that no record needs.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use oci::{DiffId, Digest};
use rusqlite::{Connection, Row, Transaction, params};

use crate::census::needed;
use crate::error::at;
use crate::held::{self, Whose};
use crate::measure::{Meter, disk_usage};
use crate::{Lock, Store, StoreError, Timestamp, db, lock, operation, tag_document, upload};

/// How long a partial download or upload waits to be resumed.
const PARTIAL_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long the state of an unused build context is remembered.
const CONTEXT_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// The start of the names of trash that is only directories.
pub(crate) const BARE: &str = "bare-";

/// How many trees of bare directories wait for the process that deletes them. A container leaves
/// seven directories; where the disk discards what is freed, as ext4 without a journal does,
/// deleting one takes 80 us, which is more than making it.
const BARE_KEPT: usize = 32;

/// How many changes of tags are remembered.
const JOURNAL_KEPT: i64 = 10_000;

/// What a sweep removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Bytes of disk. What this handle's operation holds for an undo counts too: it is freed
    /// soon.
    pub bytes: u64,
    /// Layers; their shared mounts may still exist and can be unmounted.
    pub layers: Vec<DiffId>,
}

impl Swept {
    /// Adds what another sweep removed.
    pub(crate) fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.layers.extend(other.layers);
    }
}

/// What the records need.
#[derive(Debug, Default)]
pub(crate) struct Needed {
    pub(crate) layers: HashSet<Digest>,
    pub(crate) blobs: HashSet<Digest>,
    pub(crate) containers: HashSet<String>,
}

impl Needed {
    pub(crate) fn is_empty(&self) -> bool {
        self.layers.is_empty() && self.blobs.is_empty() && self.containers.is_empty()
    }

    /// Adds what an image needs: `id, manifest, layers`.
    pub(crate) fn add_image(&mut self, row: &Row<'_>) -> Result<(), StoreError> {
        self.blobs.insert(db::digest(row, 0)?);
        self.blobs.extend(db::optional_digest(row, 1)?);
        let layers = db::layers(row, 2)?;
        self.layers
            .extend(layers.iter().map(|layer| *layer.digest()));
        Ok(())
    }

    /// Adds the blobs that are compressed forms of the layers.
    pub(crate) fn add_compressed(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let mut query = connection.prepare_cached("SELECT digest, diff_id FROM compressions")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            if self.layers.contains(&db::digest(row, 1)?) {
                self.blobs.insert(db::digest(row, 0)?);
            }
        }
        Ok(())
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        self.layers.extend(&other.layers);
        self.blobs.extend(&other.blobs);
        self.containers.extend(other.containers.iter().cloned());
    }

    pub(crate) fn remove_all(&mut self, other: &Self) {
        self.layers.retain(|layer| !other.layers.contains(layer));
        self.blobs.retain(|blob| !other.blobs.contains(blob));
        self.containers.retain(|id| !other.containers.contains(id));
    }
}

impl Store {
    /// Waits for the root's lock, then moves every blob, layer and scratch that no record needs
    /// to the trash. The caller must not hold a lock.
    pub fn sweep(&self) -> Result<Swept, StoreError> {
        let lock = self.lock_exclusive()?;
        self.sweep_locked(&lock)
    }

    /// Sweeps if no other command holds the root's lock now; else does nothing.
    pub fn try_sweep(&self) -> Result<Option<Swept>, StoreError> {
        let lock = self.try_lock_exclusive()?;
        lock.map(|lock| self.sweep_locked(&lock)).transpose()
    }

    /// Frees what killed commands left unfinished and nobody can go on with, if no other command
    /// holds the root's lock now. The caller must not hold it.
    pub fn sweep_remains(&self) -> Result<(), StoreError> {
        let scratch = self.strays(&self.ingest_dir(), |name| !name.ends_with(".scratch"))?;
        if scratch.is_empty() {
            return Ok(());
        }
        if let Some(lock) = self.try_lock_exclusive()? {
            self.sweep_ingest()?;
            drop(lock);
            self.empty_trash()?;
        }
        Ok(())
    }

    /// Tells whether the trash holds what is worth a process: anything but the bare directories
    /// of a few containers.
    pub fn has_trash(&self) -> Result<bool, StoreError> {
        let trash = self.trash_dir();
        let mut bare = 0;
        for entry in fs::read_dir(&trash).map_err(at("read", &trash))? {
            let name = entry.map_err(at("read", &trash))?.file_name();
            if !name.as_encoded_bytes().starts_with(BARE.as_bytes()) {
                return Ok(true);
            }
            bare += 1;
        }
        Ok(bare >= BARE_KEPT)
    }

    /// Deletes what is in the trash. May take long: meant for a detached process. Several may do
    /// it at once.
    pub fn empty_trash(&self) -> Result<(), StoreError> {
        let trash = self.trash_dir();
        for entry in fs::read_dir(&trash).map_err(at("read", &trash))? {
            let path = entry.map_err(at("read", &trash))?.path();
            delete(&path).map_err(at("remove", &path))?;
        }
        Ok(())
    }

    /// Forgets the compressed blobs of layers that are in the store; the next sweep removes them.
    pub fn drop_compressed(&self) -> Result<(), StoreError> {
        self.freeing(|| self.write(|tx| self.forget_compressed(tx)))
    }

    pub(crate) fn sweep_locked(&self, _lock: &Lock) -> Result<Swept, StoreError> {
        // On disk before any file goes: a row must not come back after a power cut without its
        // file.
        let own = self.scope().begun();
        let (live, held) = self.freeing(|| {
            self.write_durably(|tx| {
                let (live, held) = live(tx, own)?;
                forget(tx, &live)?;
                Ok((live, held))
            })
        })?;
        let doomed = self.doomed(&live)?;
        for path in &doomed.paths {
            self.discard(path)?;
        }
        let mut swept = doomed.swept;
        swept.bytes += self.disk_usage_of(&held) + self.sweep_ingest()?;
        Ok(swept)
    }

    /// Tells what a sweep would free if these were the records. `held` is as [`live`] has it.
    pub(crate) fn rehearse_sweep(&self, live: &Needed, held: &Needed) -> Result<Swept, StoreError> {
        let mut swept = self.doomed(live)?.swept;
        swept.bytes += self.disk_usage_of(held);
        self.each_stale(|path| {
            swept.bytes += disk_usage(path);
            Ok(())
        })?;
        Ok(swept)
    }

    /// Lists the files that no record needs, work in progress apart.
    fn doomed(&self, live: &Needed) -> Result<Doomed, StoreError> {
        let mut doomed = Doomed::default();
        let meter = Meter::default();
        let mut doom = |directory: &str, wanted: &dyn Fn(&str) -> bool| {
            let directory = self.root().join(directory);
            let strays = self.strays(&directory, wanted)?;
            for name in &strays {
                let path = directory.join(name);
                doomed.swept.bytes += meter.tree(&path);
                doomed.paths.push(path);
            }
            Ok::<_, StoreError>(strays)
        };
        let is_in = |digests: &HashSet<Digest>, name: &str| {
            Digest::from_hex(name).is_some_and(|digest| digests.contains(&digest))
        };
        let layers = doom("layers", &|name| is_in(&live.layers, name))?;
        doom("blobs/sha256", &|name| is_in(&live.blobs, name))?;
        doom("containers", &|name| live.containers.contains(name))?;
        let contexts = self.root().join("context");
        doom("context", &|name| age(&contexts.join(name)) < CONTEXT_KEPT)?;
        let layers = layers.iter().filter_map(|name| Digest::from_hex(name));
        doomed.swept.layers = layers.map(DiffId).collect();
        Ok(doomed)
    }

    /// Lists the names in a directory that are not wanted.
    fn strays(
        &self,
        directory: &Path,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, StoreError> {
        let mut strays = Vec::new();
        for entry in fs::read_dir(directory).map_err(at("read", directory))? {
            let entry = entry.map_err(at("read", directory))?;
            // Nobody but us makes files here; a name that is not text is none of ours.
            if let Ok(name) = entry.file_name().into_string()
                && !wanted(&name)
            {
                strays.push(name);
            }
        }
        strays.sort();
        Ok(strays)
    }

    /// Removes scratch whose owner is gone, and partial blobs that nobody resumed.
    fn sweep_ingest(&self) -> Result<u64, StoreError> {
        let mut bytes = 0;
        self.each_stale(|path| {
            bytes += disk_usage(path);
            self.discard(path)
        })?;
        Ok(bytes)
    }

    /// Does `work` for all scratch whose owner is gone, and for partial blobs that nobody resumed.
    /// Nobody takes one up meanwhile.
    pub(crate) fn each_stale(
        &self,
        mut work: impl FnMut(&Path) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let ingest = self.ingest_dir();
        for name in self.strays(&ingest, |_| false)? {
            let path = ingest.join(&name);
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(at("open", &path)(error)),
            };
            let recent = name.ends_with(".blob") && age(&path) < PARTIAL_KEPT;
            if !recent && lock::try_exclusive(&file, &path)? {
                work(&path)?;
            }
        }
        Ok(())
    }
}

/// What a sweep takes.
#[derive(Debug, Default)]
struct Doomed {
    paths: Vec<PathBuf>,
    swept: Swept,
}

/// Collects what stays, and what of it was needed until the operation `own`: others may hold it for
/// an undo too, but have not let it go.
pub(crate) fn live(tx: &Transaction<'_>, own: Option<i64>) -> Result<(Needed, Needed), StoreError> {
    tag_document::forget_stale(tx)?;
    upload::forget_stale(tx)?;
    let now = Timestamp::now();
    held::end(tx, now)?;
    let mut live = needed(tx)?;
    let mut held = match own {
        Some(own) => held::held(tx, Whose::Only(own), now)?,
        None => Needed::default(),
    };
    held.remove_all(&live);
    live.add_all(&held::held(tx, Whose::All, now)?);
    Ok((live, held))
}

/// Deletes the rows of what is not live.
fn forget(tx: &Transaction<'_>, live: &Needed) -> Result<(), StoreError> {
    let stale = |query: &str, live: &HashSet<Digest>| -> Result<Vec<Digest>, StoreError> {
        let mut query = tx.prepare(query)?;
        let rows = query.query_map([], |row| db::digest(row, 0))?;
        let mut all: Vec<Digest> = rows.collect::<Result<_, _>>()?;
        all.retain(|digest| !live.contains(digest));
        Ok(all)
    };
    for digest in stale("SELECT diff_id FROM layers", &live.layers)? {
        let key = digest.as_bytes();
        tx.execute("DELETE FROM layers WHERE diff_id = ?1", [key])?;
        tx.execute("DELETE FROM compressions WHERE diff_id = ?1", [key])?;
    }
    for digest in stale("SELECT digest FROM blobs", &live.blobs)? {
        let key = digest.as_bytes();
        tx.execute("DELETE FROM blobs WHERE digest = ?1", [key])?;
        tx.execute("DELETE FROM compressions WHERE digest = ?1", [key])?;
        tx.execute("DELETE FROM origins WHERE digest = ?1", [key])?;
    }
    tx.execute(
        "DELETE FROM tag_journal WHERE seq <= (SELECT max(seq) FROM tag_journal) - ?1",
        params![JOURNAL_KEPT],
    )?;
    operation::trim(tx)
}

fn age(path: &Path) -> Duration {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    modified
        .ok()
        .and_then(|time| SystemTime::now().duration_since(time).ok())
        .unwrap_or_default()
}

/// Deletes a tree. Directories without permissions, as overlay leaves them, get them back;
/// what another process has deleted meanwhile is no error.
pub(crate) fn delete(path: &Path) -> io::Result<()> {
    let missing_is_fine = |result: io::Result<()>| match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return missing_is_fine(Err(error)),
    };
    if !metadata.is_dir() {
        return missing_is_fine(fs::remove_file(path));
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            open_up(path)?;
            missing_is_fine(fs::remove_dir_all(path))
        }
        result => missing_is_fine(result),
    }
}

fn open_up(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}
