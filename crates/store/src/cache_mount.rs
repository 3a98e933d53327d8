//! Directories that outlive builds: `RUN --mount=type=cache`.
//!
//! ```text
//! root/caches/<hex>/    <hex> is the digest of what tells the cache from others; `-N` follows
//!                       when several builds each want one for themselves
//!   lock                held while a step uses the cache; its time is that of the last use
//!   about               JSON: what people call it, when it was made
//!   data/               what the step sees
//! ```

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use oci::Digest;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::at;
use crate::store::make_directory;
use crate::{StepFilter, Store, StoreError, Timestamp, lock};

/// How a step holds a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheHold {
    /// Together with others that hold it so.
    Shared,
    /// Alone; others wait.
    Locked,
    /// Alone; others get a cache of their own.
    Private,
}

/// A cache that a step holds, until it is dropped.
#[derive(Debug)]
#[must_use = "the cache is released when this is dropped"]
pub struct CacheMount {
    directory: PathBuf,
    lock: File,
    hold: CacheHold,
}

/// A cache, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRecord {
    /// The name of its directory in `caches`.
    pub name: String,
    /// What people call it.
    pub description: String,
    /// When it was made.
    pub created: Timestamp,
    /// When a step used it last.
    pub last_used: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct About {
    description: String,
    created: i64,
}

impl CacheMount {
    /// Returns the directory that the step sees; it is there unless the cache is new.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Tells whether the cache has yet to be given its directory.
    pub fn is_new(&self) -> Result<bool, StoreError> {
        let data = self.data();
        let exists = data.try_exists().map_err(at("look at", &data))?;
        Ok(!exists)
    }

    /// Makes `made`, a directory on the store's file system, what the step sees.
    pub fn install(&self, made: &Path) -> Result<(), StoreError> {
        fs::rename(made, self.data()).map_err(at("rename", made))?;
        if self.hold == CacheHold::Shared {
            self.flock(FlockOperation::LockShared)?;
        }
        Ok(())
    }

    fn flock(&self, operation: FlockOperation) -> Result<(), StoreError> {
        let path = self.directory.join("lock");
        flock(self.lock.as_fd(), operation).map_err(|errno| at("lock", &path)(errno.into()))
    }
}

impl Drop for CacheMount {
    /// Releases the lock itself, not only this descriptor, which a child may have a copy of.
    fn drop(&mut self) {
        // Closing the file releases what this could not.
        drop(self.flock(FlockOperation::Unlock));
    }
}

impl Store {
    /// Takes the cache that `key` names, made when missing; `None` when others hold it now so
    /// that this one has to wait. A new one has no directory yet and is held alone:
    /// [`CacheMount::install`] gives it one. The caller holds the root's lock shared.
    pub fn try_cache(
        &self,
        key: &Digest,
        description: &str,
        hold: CacheHold,
    ) -> Result<Option<CacheMount>, StoreError> {
        self.check_writable()?;
        make_directory(&self.caches_dir())?;
        let mut name = key.hex();
        for number in 1.. {
            let cache = self.try_cache_directory(&name, description, hold)?;
            if cache.is_some() || hold != CacheHold::Private {
                return Ok(cache);
            }
            name = format!("{}-{number}", key.hex());
        }
        Ok(None)
    }

    fn try_cache_directory(
        &self,
        name: &str,
        description: &str,
        hold: CacheHold,
    ) -> Result<Option<CacheMount>, StoreError> {
        let directory = self.cache_dir(name);
        make_directory(&directory)?;
        let path = directory.join("lock");
        let lock = lock::open_file(&path)?;
        let cache = CacheMount {
            directory,
            lock,
            hold,
        };
        let is_new = cache.is_new()?;
        let operation = match hold {
            CacheHold::Shared if !is_new => FlockOperation::NonBlockingLockShared,
            _ => FlockOperation::NonBlockingLockExclusive,
        };
        match flock(cache.lock.as_fd(), operation) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(at("lock", &path)(errno.into())),
        }
        let still_new = cache.is_new()?;
        if is_new && !still_new && hold == CacheHold::Shared {
            cache.flock(FlockOperation::LockShared)?;
        }
        if still_new {
            write_about(&cache.directory.join("about"), description)?;
        }
        let now = SystemTime::now();
        cache
            .lock
            .set_modified(now)
            .map_err(at("set the time of", &path))?;
        Ok(Some(cache))
    }

    /// Waits until a cache that [`Store::try_cache`] could not have might be had. Others may be
    /// faster.
    pub fn wait_for_cache(&self, key: &Digest, hold: CacheHold) -> Result<(), StoreError> {
        let path = self.caches_dir().join(key.hex()).join("lock");
        let file = lock::open_file(&path)?;
        match hold {
            CacheHold::Shared => file.lock_shared(),
            CacheHold::Locked | CacheHold::Private => file.lock(),
        }
        .map_err(at("lock", &path))
    }

    /// Lists the caches, the longest unused first.
    pub fn caches(&self) -> Result<Vec<CacheRecord>, StoreError> {
        let root = self.caches_dir();
        let entries = match fs::read_dir(&root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at("read", &root)(error)),
        };
        let mut caches = Vec::new();
        for entry in entries {
            let entry = entry.map_err(at("read", &root))?;
            let path = entry.path();
            let modified = |name: &str| {
                let modified = fs::metadata(path.join(name)).and_then(|it| it.modified());
                modified.map_or(Timestamp(0), Timestamp::from)
            };
            let about = fs::read(path.join("about")).unwrap_or_default();
            let about: Option<About> = serde_json::from_slice(&about).ok();
            let name = entry.file_name().to_string_lossy().into_owned();
            caches.push(CacheRecord {
                description: about.as_ref().map_or("", |it| &it.description).to_owned(),
                created: about.map_or_else(|| modified("lock"), |it| Timestamp(it.created)),
                last_used: modified("lock"),
                name,
            });
        }
        caches.sort_by(|one, other| {
            let key = |cache: &CacheRecord| (cache.last_used, cache.name.clone());
            key(one).cmp(&key(other))
        });
        Ok(caches)
    }

    /// Lists those that a prune of the build cache removes.
    pub(crate) fn caches_of(&self, filter: &StepFilter) -> Result<Vec<CacheRecord>, StoreError> {
        let mut caches = self.caches()?;
        caches.retain(|cache| filter.until.is_none_or(|until| cache.last_used < until));
        Ok(caches)
    }

    pub(crate) fn cache_dir(&self, name: &str) -> PathBuf {
        self.caches_dir().join(name)
    }

    fn caches_dir(&self) -> PathBuf {
        self.root().join("caches")
    }
}

/// What a killed command left half-written is written again: the cache is new as long as it has
/// no directory.
fn write_about(path: &Path, description: &str) -> Result<(), StoreError> {
    let about = About {
        description: description.to_owned(),
        created: Timestamp::now().0,
    };
    let text = serde_json::to_vec(&about).expect("invariant: all keys are strings");
    fs::write(path, text).map_err(at("write", path))
}
