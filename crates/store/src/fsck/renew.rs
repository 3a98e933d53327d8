//! Putting files right. Each change is one rename of a file that is complete and on disk, so a
//! repair that is killed can be started again. Whoever has the old file open or mounted keeps it.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use oci::{Descriptor, DiffId, Digest, Hasher, MediaType};
use rusqlite::params;

use crate::error::at;
use crate::scratch::unique_name;
use crate::store::make_directory;
use crate::{NewLayer, Scratch, Store, StoreError, Timestamp, db};

/// Where damaged files are kept that nothing could replace.
const DAMAGED: &str = "damaged";

/// The start of the names of unpacked forms that were replaced.
const RETIRED: &str = "tree.retired-";

/// Keeps other repairs of the store away.
#[derive(Debug)]
#[must_use = "others may repair when this is dropped"]
pub struct Held {
    _file: File,
}

/// What a file was put right from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewed {
    /// It was right; only its record lacked or was wrong.
    Recorded,
    /// From a repository.
    Fetched(String),
    /// From another form of the same content.
    Derived(&'static str),
    /// It was dropped: it is made or fetched when it is needed.
    Dropped,
}

impl Store {
    /// Waits until no other process repairs the store.
    pub fn hold_repairs(&self) -> Result<Held, StoreError> {
        let path = self.run_dir().join("repair.lock");
        let file = crate::lock::open_file(&path)?;
        file.lock().map_err(at("lock", &path))?;
        Ok(Held { _file: file })
    }

    /// Reads a blob again from `content`, which must be exactly what `descriptor` says, and
    /// replaces its file. Its row stays when there is one.
    pub fn renew_blob(
        &self,
        descriptor: &Descriptor,
        content: &mut dyn Read,
    ) -> Result<(), StoreError> {
        let scratch = self.scratch()?;
        let path = scratch.path().join("blob");
        let mut file = File::create_new(&path).map_err(at("create", &path))?;
        let mut tee = Hashing {
            hasher: Hasher::new(),
            inner: content.take(descriptor.size.saturating_add(1)),
        };
        let found_size = io::copy(&mut tee, &mut file).map_err(at("write", &path))?;
        let found = tee.hasher.finish();
        let expected = descriptor.digest;
        if found_size != descriptor.size && found != expected {
            return Err(StoreError::SizeMismatch {
                digest: expected,
                expected: descriptor.size,
                found: found_size,
            });
        }
        if found != expected {
            return Err(StoreError::DigestMismatch { expected, found });
        }
        set_private(&path)?;
        file.sync_all().map_err(at("sync", &path))?;
        let target = self.blob_path(&expected);
        fs::rename(&path, &target).map_err(at("rename", &path))?;
        sync_directory(&target)?;
        self.record_blob(&expected, &descriptor.media_type, found_size)
    }

    /// Records a blob whose file is there and right. Tells whether that is so.
    pub fn record_sound_blob(
        &self,
        digest: &Digest,
        media_type: &MediaType,
    ) -> Result<bool, StoreError> {
        let path = self.blob_path(digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(at("open", &path)(error)),
        };
        let mut tee = Hashing {
            hasher: Hasher::new(),
            inner: &mut file,
        };
        // What cannot be read is not right.
        let Ok(size) = io::copy(&mut tee, &mut io::sink()) else {
            return Ok(false);
        };
        if tee.hasher.finish() != *digest {
            return Ok(false);
        }
        file.sync_all().map_err(at("sync", &path))?;
        self.record_blob(digest, media_type, size)?;
        Ok(true)
    }

    /// Writes the row of a blob whose file is on disk. What was recorded of its type stays.
    fn record_blob(
        &self,
        digest: &Digest,
        media_type: &MediaType,
        size: u64,
    ) -> Result<(), StoreError> {
        self.write_durably(|tx| {
            tx.execute(
                "INSERT INTO blobs (digest, media_type, size, boot, synced, created)
                    VALUES (?1, ?2, ?3, ?4, 1, ?5)
                    ON CONFLICT (digest) DO UPDATE SET size = ?3, synced = 1",
                params![
                    digest.as_bytes(),
                    media_type.0,
                    db::from_u64(size),
                    self.boot_id(),
                    Timestamp::now().0
                ],
            )?;
            Ok(())
        })
    }

    /// Takes tar and index of a layer from `scratch`, where they are complete, in the place of what
    /// the layer has. An unpacked form stays.
    pub fn renew_layer(&self, scratch: &Scratch, layer: &NewLayer) -> Result<(), StoreError> {
        let directory = self.layer_dir(&layer.diff_id);
        make_directory(&directory)?;
        for name in ["tar", "index.erofs"] {
            let (from, to) = (scratch.path().join(name), directory.join(name));
            replace(&from, &to)?;
        }
        self.record_layer(layer)
    }

    /// Writes the row of a layer whose files are on disk and were looked at.
    pub fn record_layer(&self, layer: &NewLayer) -> Result<(), StoreError> {
        self.write_durably(|tx| {
            tx.execute(
                "INSERT INTO layers
                    (diff_id, tar_size, content_size, entries, boot, synced, created)
                    VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6)
                    ON CONFLICT (diff_id) DO UPDATE SET
                    tar_size = ?2, content_size = ?3, entries = ?4, synced = 1",
                params![
                    layer.diff_id.digest().as_bytes(),
                    db::from_u64(layer.tar_size),
                    db::from_u64(layer.content_size),
                    db::from_u64(layer.entries),
                    self.boot_id(),
                    Timestamp::now().0
                ],
            )?;
            Ok(())
        })
    }

    /// Takes the index `new` in the place of the one that a layer has.
    pub fn renew_index(&self, layer: &DiffId, new: &Path) -> Result<(), StoreError> {
        replace(new, &self.layer_dir(layer).join("index.erofs"))
    }

    /// Forgets a blob that can be made or fetched again. Its file goes to the trash.
    pub fn drop_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        self.forget_blob(digest)?;
        self.discard(&self.blob_path(digest))
    }

    /// Forgets a blob whose file is not there any more.
    pub fn forget_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        self.write_durably(|tx| {
            tx.execute("DELETE FROM blobs WHERE digest = ?1", [digest.as_bytes()])?;
            Ok(())
        })
    }

    /// Forgets a layer whose tar is not there any more, with the steps that made it.
    pub fn forget_layer(&self, layer: &DiffId) -> Result<(), StoreError> {
        let key = layer.digest().as_bytes();
        self.write_durably(|tx| {
            tx.execute("DELETE FROM layers WHERE diff_id = ?1", [key])?;
            tx.execute("DELETE FROM steps WHERE layer = ?1", [key])?;
            Ok(())
        })
    }

    /// Moves a damaged file out of the way: what is not there is not used. It is kept in
    /// `damaged/`. Returns where it is now; `None` when it was not there.
    pub fn set_aside(&self, path: &Path) -> Result<Option<PathBuf>, StoreError> {
        set_aside(self.root(), path)
    }

    /// Moves the unpacked form of a layer aside, so that it is made again. Containers may run on it:
    /// it stays until [`Store::discard_retired`].
    pub fn retire_tree(&self, layer: &DiffId) -> Result<(), StoreError> {
        let directory = self.layer_dir(layer);
        let tree = directory.join("tree");
        let retired = directory.join(format!("{RETIRED}{}", unique_name()));
        match fs::rename(&tree, retired) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(at("rename", &tree)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Deletes the unpacked forms that were replaced and that no container runs on, if no other
    /// command works now. The caller must not hold the lock.
    pub fn discard_retired(&self) -> Result<(), StoreError> {
        let Some(lock) = self.try_lock_exclusive()? else {
            return Ok(());
        };
        let containers = self.containers()?;
        let in_use: Vec<PathBuf> = containers
            .iter()
            .filter(|container| self.is_running(container))
            .flat_map(|container| container.layers.iter().map(|layer| self.layer_dir(layer)))
            .collect();
        let layers = self.root().join("layers");
        for entry in fs::read_dir(&layers).map_err(at("read", &layers))? {
            let directory = entry.map_err(at("read", &layers))?.path();
            if in_use.contains(&directory) {
                continue;
            }
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if entry
                    .file_name()
                    .as_encoded_bytes()
                    .starts_with(RETIRED.as_bytes())
                {
                    self.discard(&entry.path())?;
                }
            }
        }
        drop(lock);
        Ok(())
    }

    /// Makes a missing directory of the store again, or closes one to others.
    pub fn renew_directory(&self, path: &Path) -> Result<(), StoreError> {
        make_directory(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .map_err(at("change the mode of", path))
    }
}

pub(super) fn set_aside(root: &Path, path: &Path) -> Result<Option<PathBuf>, StoreError> {
    let directory = root.join(DAMAGED);
    make_directory(&directory)?;
    let of = path.parent().and_then(Path::file_name).unwrap_or_default();
    let name = path.file_name().unwrap_or_default();
    let name = format!(
        "{}-{}-{}",
        of.to_string_lossy(),
        name.to_string_lossy(),
        unique_name()
    );
    let to = directory.join(name);
    match fs::rename(path, &to) {
        Ok(()) => Ok(Some(to)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at("move", path)(error)),
    }
}

struct Hashing<R> {
    hasher: Hasher,
    inner: R,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// Renames a file over another when all of it is on disk.
fn replace(from: &Path, to: &Path) -> Result<(), StoreError> {
    File::open(from)
        .and_then(|file| file.sync_all())
        .map_err(at("sync", from))?;
    fs::rename(from, to).map_err(at("rename", from))?;
    sync_directory(to)
}

fn sync_directory(of: &Path) -> Result<(), StoreError> {
    let directory = of.parent().unwrap_or(of);
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(at("sync", directory))
}

fn set_private(path: &Path) -> Result<(), StoreError> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(at("change the mode of", path))
}
