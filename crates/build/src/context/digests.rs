//! The digests of a context's files, read only when the stat cache does not know them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use layer::{EntryKind, Timestamp};
use oci::{Digest, Hasher};

use super::directory::check_unchanged;
use super::stat_cache::{self, Remembered, StatCache};
use super::{Context, ContextError, ContextFile};

/// As many threads as keep one disk and two cores busy.
const THREADS: usize = 2;
/// Less than this is hashed faster than a thread starts.
const PARALLEL_BYTES: u64 = 512 << 10;
const BUFFER_SIZE: usize = 128 << 10;

/// The digests of a context's files. The stat cache is read on first use and written by
/// [`Digests::save`].
#[derive(Debug)]
pub(crate) struct Digests<'a> {
    context: Arc<Context>,
    path: PathBuf,
    cancel: &'a AtomicBool,
    old: OnceLock<StatCache>,
    found: Mutex<Found>,
    /// Held while files are read: what several steps copy is read once.
    turn: Mutex<()>,
    hashed: AtomicU64,
}

#[derive(Debug, Default)]
struct Found {
    digests: BTreeMap<Vec<u8>, Digest>,
    new: BTreeMap<Vec<u8>, Remembered>,
}

impl<'a> Digests<'a> {
    /// Uses the stat cache at `path`; reading files ends when `cancel` becomes true.
    pub(crate) fn new(context: Context, path: PathBuf, cancel: &'a AtomicBool) -> Self {
        Self {
            context: Arc::new(context),
            path,
            cancel,
            old: OnceLock::new(),
            found: Mutex::default(),
            turn: Mutex::default(),
            hashed: AtomicU64::new(0),
        }
    }

    /// Returns the context.
    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Returns how many bytes had to be read.
    pub(crate) fn hashed(&self) -> u64 {
        self.hashed.load(Ordering::Relaxed)
    }

    /// Returns the digests of regular files, in order.
    pub(crate) fn of(&self, files: &[&ContextFile]) -> Result<Vec<Digest>, ContextError> {
        if let Some(digests) = self.known(files).into_iter().collect() {
            return Ok(digests);
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut digests = self.known(files);
        let missing: Vec<usize> = (0..files.len())
            .filter(|at| digests[*at].is_none())
            .collect();
        let missing_files: Vec<&ContextFile> = missing.iter().map(|at| files[*at]).collect();
        for (at, digest) in missing.into_iter().zip(self.hash(&missing_files)?) {
            digests[at] = Some(digest);
        }
        Ok(digests
            .into_iter()
            .map(|digest| digest.expect("invariant: every digest was found or made"))
            .collect())
    }

    fn known(&self, files: &[&ContextFile]) -> Vec<Option<Digest>> {
        let old = self.old.get_or_init(|| stat_cache::read(&self.path));
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = 0;
        let known = |file: &&ContextFile| {
            let remembered = old.find(&file.path, &mut next);
            let fitting = remembered.filter(|entry| entry.fits(file, size(file)));
            let digest = fitting.map(|entry| entry.digest);
            digest.or_else(|| found.digests.get(&file.path).copied())
        };
        files.iter().map(known).collect()
    }

    /// Writes the stat cache when it has become better. Failing to is no failure of a build.
    pub(crate) fn save(&self) {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.new.is_empty() {
            return;
        }
        let mut entries: Vec<_> = found.new.values().map(Remembered::borrowed).collect();
        for old in self.old.get().into_iter().flat_map(StatCache::iter) {
            let is_gone = self.context.listed(old.path) == Some(false);
            let is_replaced = found.digests.contains_key(old.path);
            if !is_gone && !is_replaced {
                entries.push(old);
            }
        }
        entries.sort_unstable_by_key(|entry| entry.path);
        stat_cache::write(&self.path, &entries).unwrap_or_default();
    }

    fn hash(&self, files: &[&ContextFile]) -> Result<Vec<Digest>, ContextError> {
        let bytes: u64 = files.iter().map(|file| size(file)).sum();
        let threads = match bytes {
            0..PARALLEL_BYTES => 1,
            _ => THREADS.min(files.len()),
        };
        let next = AtomicUsize::new(0);
        let results = Mutex::new(BTreeMap::new());
        let work = || -> Result<(), ContextError> {
            let mut buffer = vec![0; BUFFER_SIZE];
            while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                if self.cancel.load(Ordering::Relaxed) {
                    return Err(ContextError::Canceled);
                }
                let digest = self.hash_file(file, &mut buffer)?;
                let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                results.insert(file.path.clone(), digest);
            }
            Ok(())
        };
        thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut result = work();
            for other in others {
                let joined = other.join().expect("invariant: hashing does not panic");
                result = result.and(joined);
            }
            result
        })?;
        let digests = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(files.iter().map(|file| digests[&file.path]).collect())
    }

    fn hash_file(&self, file: &ContextFile, buffer: &mut [u8]) -> Result<Digest, ContextError> {
        // The time before the first look is what the age of a change is measured by.
        let now = now();
        let opened = self.context.open_file(file)?;
        let digest = digest(&opened, buffer).map_err(|e| ContextError::read(&file.path, e))?;
        check_unchanged(&opened, file)?;
        self.hashed.fetch_add(size(file), Ordering::Relaxed);
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.digests.insert(file.path.clone(), digest);
        if let Some(remembered) = Remembered::new(file, size(file), digest, now) {
            found.new.insert(file.path.clone(), remembered);
        }
        Ok(digest)
    }
}

fn size(file: &ContextFile) -> u64 {
    match file.kind {
        EntryKind::File { size } => size,
        _ => 0,
    }
}

fn digest(mut file: &File, buffer: &mut [u8]) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(length) => hasher.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn now() -> Timestamp {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Timestamp {
        seconds: time.tv_sec,
        nanoseconds: u32::try_from(time.tv_nsec).unwrap_or_default(),
    }
}
