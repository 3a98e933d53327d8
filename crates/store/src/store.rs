//! Opening a store, and where its directories are.
//!
//! ```text
//! root/
//!   format          version and feature sets
//!   db.sqlite       records; beside it its log, a copy and checksums
//!   lock            the root's lock
//!   open.lock       held while the store is made, migrated or recovered
//!   reserve         room that is given up for the records of what frees space
//!   blobs/sha256/   content as transferred
//!   layers/         one directory for each DiffId
//!   containers/     one directory for each container
//!   caches/         directories of `RUN --mount=type=cache`
//!   context/        what is remembered of build contexts
//!   ingest/         partial downloads and scratch
//!   trash/          to be deleted
//!   damaged/        what a repair could not replace; made when it is needed
//! run/
//!   layers/         shared mounts of layers
//! ```

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use oci::{DiffId, Digest};
use rusqlite::{Connection, Transaction};
use rustix::fs::{IFlags, StatVfs};
use sys::FileSystem;

use crate::db::{self, Missing, Schema};
use crate::error::at;
use crate::format::Format;
use crate::operation::Scope;
use crate::{Recovery, StoreError, lock, reserve, sync};

/// The directories under the root, parents first.
pub(crate) const DIRECTORIES: [&str; 8] = [
    "blobs",
    "blobs/sha256",
    "layers",
    "containers",
    "caches",
    "context",
    "ingest",
    "trash",
];

/// Directories whose subdirectories have nothing to do with each other.
const APART: [&str; 2] = ["containers", "ingest"];

/// An open store. Cheap to open and to clone, may be shared by threads; any number of processes
/// may have it open. It must not be used across a fork: the child opens it again.
///
/// What is changed through a handle, and its clones, belongs to the [`Purpose`](crate::Purpose)
/// that [`Store::operation`] gave it; through other handles each transaction stands for itself.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
    scope: Arc<Scope>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    run: PathBuf,
    boot_id: String,
    connection: Mutex<Connection>,
    /// After the connection: closing it takes away the locks that SQLite has on the file.
    database: OnceLock<File>,
    read_only: Vec<String>,
    is_new: bool,
    recovery: OnceLock<Recovery>,
    unmount: Option<Unmount>,
}

/// Removes the shared mounts of layers, which are in the directory.
pub type Unmount = fn(&Path, &[DiffId]);

/// What differs from the defaults when a store is opened.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    /// The identity of the running boot; `None` asks the kernel. Tests simulate reboots with it.
    pub boot_id: Option<String>,
    /// What takes away the mounts of layers that a sweep is about to remove. Nobody can make one of
    /// these layers, or begin to use it, before it returns.
    pub unmount: Option<Unmount>,
}

impl Store {
    /// Opens the store under `root`, making it when it does not exist. `run` is the directory
    /// for what does not outlive a boot.
    pub fn open(root: &Path, run: &Path) -> Result<Self, StoreError> {
        Self::open_with(root, run, &StoreOptions::default())
    }

    /// Opens a store as [`Store::open`] does, with options.
    pub fn open_with(root: &Path, run: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let boot_id = match &options.boot_id {
            Some(boot_id) => boot_id.clone(),
            None => sync::boot_id()?,
        };
        let format_path = root.join("format");
        let found = Format::read(&format_path)?;
        let is_new = found.is_none();
        let format = match found {
            Some(format) => format,
            None => create(root, &format_path)?,
        };
        let read_only = format.check(root)?;
        make_directory(run)?;
        make_directory(&run.join("layers"))?;
        reserve::make_room_to_open(root)?;
        let connection = open_database(root)?;
        let inner = Inner {
            root: root.to_owned(),
            run: run.to_owned(),
            boot_id,
            connection: Mutex::new(connection),
            database: OnceLock::new(),
            read_only,
            is_new,
            recovery: OnceLock::new(),
            unmount: options.unmount,
        };
        let store = Self {
            inner: Arc::new(inner),
            scope: Arc::default(),
        };
        // A store of an earlier version has none.
        if store.check_writable().is_ok() && !root.join(reserve::NAME).exists() {
            store.restore_reserve()?;
        }
        if let Some(recovery) = store.freeing(|| store.recover())? {
            store.inner.recovery.get_or_init(|| recovery);
        }
        Ok(store)
    }

    /// Returns the root directory.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Tells whether this opening made the store.
    pub fn is_new(&self) -> bool {
        self.inner.is_new
    }

    /// Returns what kind of file system the store is on.
    pub fn file_system(&self) -> Result<FileSystem, StoreError> {
        FileSystem::of(self.root()).map_err(at("look at", self.root()))
    }

    /// Returns how many bytes this user may still write to the store's file system.
    pub(crate) fn free_space(&self) -> Result<u64, StoreError> {
        let status = self.statistics()?;
        let blocks = match rustix::process::geteuid().is_root() {
            true => status.f_bfree,
            false => status.f_bavail,
        };
        Ok(blocks.saturating_mul(status.f_frsize))
    }

    /// Returns how many bytes any user may still write to the store's file system. Root may write
    /// more where the file system keeps some for it, but not all that it calls free.
    pub fn available_space(&self) -> Result<u64, StoreError> {
        let status = self.statistics()?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }

    /// Returns how many bytes the store's file system has, used or free.
    pub fn capacity(&self) -> Result<u64, StoreError> {
        let status = self.statistics()?;
        Ok(status.f_blocks.saturating_mul(status.f_frsize))
    }

    fn statistics(&self) -> Result<StatVfs, StoreError> {
        let root = self.root();
        rustix::fs::statvfs(root).map_err(|errno| at("look at", root)(errno.into()))
    }

    /// Returns the directory of what does not outlive a boot.
    pub fn run_dir(&self) -> &Path {
        &self.inner.run
    }

    /// Returns the directory of partial downloads and scratch.
    pub fn ingest_dir(&self) -> PathBuf {
        self.inner.root.join("ingest")
    }

    /// Returns the directory of the shared layer mounts. It exists.
    pub fn layer_mounts_dir(&self) -> PathBuf {
        self.inner.run.join("layers")
    }

    /// Returns where the state of files in the build context `context` is remembered. The
    /// directory exists, the file perhaps not.
    pub fn stat_cache_path(&self, context: &Path) -> PathBuf {
        let name = Digest::of(context.as_os_str().as_bytes()).hex();
        self.inner.root.join("context").join(name)
    }

    /// Returns what this opening had to discard because the machine went down before it was
    /// safely on disk; `None` in all but the first opening after a boot.
    pub fn recovery(&self) -> Option<&Recovery> {
        self.inner.recovery.get()
    }

    /// Returns the operation that changes through this handle belong to.
    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    pub(crate) fn with_scope(&self, scope: Scope) -> Self {
        Self {
            inner: self.inner.clone(),
            scope: Arc::new(scope),
        }
    }

    pub(crate) fn unmount(&self, layers: &[DiffId]) {
        if let Some(unmount) = self.inner.unmount {
            unmount(&self.layer_mounts_dir(), layers);
        }
    }

    pub(crate) fn boot_id(&self) -> &str {
        &self.inner.boot_id
    }

    pub(crate) fn trash_dir(&self) -> PathBuf {
        self.inner.root.join("trash")
    }

    /// Fails when the store uses features that allow only reading.
    pub(crate) fn check_writable(&self) -> Result<(), StoreError> {
        if self.inner.read_only.is_empty() {
            return Ok(());
        }
        Err(StoreError::ReadOnly {
            features: self.inner.read_only.clone(),
        })
    }

    /// Returns the database's own file, to be read as bytes.
    pub(crate) fn database_file(&self) -> Result<&File, StoreError> {
        if let Some(file) = self.inner.database.get() {
            return Ok(file);
        }
        let path = self.root().join("db.sqlite");
        let file = File::open(&path).map_err(at("open", &path))?;
        Ok(self.inner.database.get_or_init(|| file))
    }

    /// Runs `work` on the connection, outside a transaction.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let connection = self.inner.connection.lock();
        work(&connection.unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the connection for writing.
    fn writing(&self) -> Result<MutexGuard<'_, Connection>, StoreError> {
        self.check_writable()?;
        let connection = self.inner.connection.lock();
        Ok(connection.unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs `work` in one write transaction.
    pub(crate) fn write<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut connection = self.writing()?;
        let value = self
            .scope
            .transaction(|| db::write(&mut connection, work))?;
        drop(connection);
        // What was to be written is; what fails here, a later writer does.
        self.shorten_long_log().unwrap_or_default();
        Ok(value)
    }

    /// Runs `work` in a write transaction that is taken back.
    pub(crate) fn rehearse<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.writing()?;
        let connection = &mut connection;
        self.scope.rehearsal(|| db::rehearse(connection, work))
    }

    /// Runs `work` in one write transaction that is on disk, with all before it, on return.
    pub(crate) fn write_durably<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.writing()?;
        let connection = &mut connection;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let result = self.scope.transaction(|| db::write(connection, work));
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        result
    }
}

/// Makes a store where there is none. Others that open it meanwhile wait.
fn create(root: &Path, format_path: &Path) -> Result<Format, StoreError> {
    if let Some(parent) = root.parent() {
        fs::create_dir_all(parent).map_err(at("create", parent))?;
    }
    make_directory(root)?;
    let lock_path = root.join("open.lock");
    check_is_ours(root)?;
    close_to_others(root)?;
    let lock = lock::open_file(&lock_path)?;
    lock.lock().map_err(at("lock", &lock_path))?;
    if let Some(format) = Format::read(format_path)? {
        return Ok(format);
    }
    for directory in DIRECTORIES {
        make_directory(&root.join(directory))?;
    }
    for directory in APART {
        // An optimisation of ext4, which other file systems refuse.
        set_apart(&root.join(directory)).unwrap_or_default();
    }
    let mut connection = db::open(&root.join("db.sqlite"), Missing::Create)?;
    // On the disk before `format` is: a power cut could leave a store without tables.
    connection.pragma_update(None, "synchronous", "FULL")?;
    db::migrate(&mut connection, journal_mode(root)?)?;
    reserve::take(root)?;
    // Last: a store with this file is complete.
    let format = Format::current();
    format.write(format_path)?;
    Ok(format)
}

/// Images can hold secrets. A directory that was made for the store beforehand is open to all.
fn close_to_others(root: &Path) -> Result<(), StoreError> {
    let status = fs::metadata(root).map_err(at("look at", root))?;
    if status.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    let permissions = fs::Permissions::from_mode(0o700);
    fs::set_permissions(root, permissions).map_err(at("close to others", root))
}

/// Lets ext4 place each subdirectory in a part of the disk of its own. Beside one that was just
/// deleted, making 20,000 files took 2.5 s instead of 0.8 s: without a journal ext4 looks at
/// each inode of the last minute's deleted files again before it gives one away.
fn set_apart(directory: &Path) -> io::Result<()> {
    let directory = File::open(directory)?;
    let flags = rustix::fs::ioctl_getflags(&directory)?;
    Ok(rustix::fs::ioctl_setflags(
        &directory,
        flags | IFlags::TOPDIR,
    )?)
}

/// A directory with foreign files must not become a store: a later prune would remove them.
fn check_is_ours(root: &Path) -> Result<(), StoreError> {
    let ours = |name: &std::ffi::OsStr| {
        let name = name.as_bytes();
        name.starts_with(b"db.sqlite")
            || [
                &b"lock"[..],
                b"open.lock",
                b"format.partial",
                b"format",
                b"damaged",
            ]
            .contains(&name)
            || name == reserve::NAME.as_bytes()
            || DIRECTORIES.iter().any(|known| known.as_bytes() == name)
    };
    for entry in fs::read_dir(root).map_err(at("read", root))? {
        let entry = entry.map_err(at("read", root))?;
        if !ours(&entry.file_name()) {
            return Err(StoreError::NotAStore {
                root: root.to_owned(),
            });
        }
    }
    Ok(())
}

fn open_database(root: &Path) -> Result<Connection, StoreError> {
    let path = root.join("db.sqlite");
    let mut connection = db::open(&path, Missing::Refuse)?;
    match db::schema(&connection)? {
        Schema::Empty => Err(db::no_tables().into()),
        Schema::Current => Ok(connection),
        Schema::Older => {
            let lock_path = root.join("open.lock");
            let lock = lock::open_file(&lock_path)?;
            lock.lock().map_err(at("lock", &lock_path))?;
            db::migrate(&mut connection, journal_mode(root)?)?;
            Ok(connection)
        }
        Schema::Newer(version) => Err(StoreError::NewerFormat {
            root: root.to_owned(),
            found: version.unsigned_abs(),
            supported: db::SCHEMA_VERSION.unsigned_abs(),
        }),
    }
}

/// WAL needs shared memory between the processes, which network file systems do not give.
pub(crate) fn journal_mode(root: &Path) -> Result<&'static str, StoreError> {
    let file_system = FileSystem::of(root).map_err(at("look at", root))?;
    Ok(match file_system.is_remote() {
        true => "TRUNCATE",
        false => "WAL",
    })
}

/// Makes a directory that only its owner can enter. One that exists stays as it is.
pub(crate) fn make_directory(path: &Path) -> Result<(), StoreError> {
    let mut builder = fs::DirBuilder::new();
    match builder.mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => builder
            .recursive(true)
            .create(path)
            .map_err(at("create", path)),
        Err(error) => Err(at("create", path)(error)),
    }
}
