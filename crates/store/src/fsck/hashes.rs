//! Every byte against the digest that names it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use oci::{DiffId, Digest, Hasher};

use super::files::unreadable;
use super::mend::Change;
use super::records::{Needs, Records};
use super::{CheckedLayer, Damage, Finding, Flaw, Mend, Probes};
use crate::{Scratch, Store, StoreError};

/// How far a full check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashed {
    /// Bytes that were read.
    pub done: u64,
    /// Bytes that will be read.
    pub total: u64,
}

/// A file to hash.
#[derive(Debug)]
pub(super) struct Job {
    digest: Digest,
    size: u64,
    /// The directory of a layer, or a blob's file.
    path: PathBuf,
    is_layer: bool,
}

impl Job {
    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

/// Each thread has one such buffer.
const READ_AT_ONCE: usize = 1 << 20;

/// Lists what is read, the longest first, so that no core is left with a long file at the end.
pub(super) fn jobs(store: &Store, records: &Records, sound: &HashSet<Digest>) -> Vec<Job> {
    let blobs = records.blobs.iter().map(|(digest, blob)| Job {
        digest: *digest,
        size: blob.size,
        path: store.blob_path(digest),
        is_layer: false,
    });
    let layers = records.layers.iter().map(|(digest, layer)| Job {
        digest: *digest,
        size: layer.tar_size,
        path: store.layer_dir(&DiffId(*digest)),
        is_layer: true,
    });
    let mut jobs: Vec<Job> = blobs.chain(layers).collect();
    jobs.retain(|job| sound.contains(&job.digest));
    jobs.sort_unstable_by_key(|job| (std::cmp::Reverse(job.size), job.digest));
    jobs
}

/// Reads every file on all cores.
pub(super) fn check(
    store: &Store,
    jobs: &[Job],
    records: &Records,
    needs: &Needs,
    probes: &Probes<'_>,
) -> Result<Vec<Finding>, StoreError> {
    let scratch = store.scratch()?;
    let run = Run {
        store,
        records,
        needs,
        probes,
        scratch: &scratch,
        done: AtomicU64::new(0),
        total: jobs.iter().map(Job::size).sum(),
        findings: Mutex::default(),
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let results: Vec<Result<(), StoreError>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.min(jobs.len()))
            .map(|number| {
                let (run, next) = (&run, &next);
                scope.spawn(move || run.work(jobs, next, number))
            })
            .collect();
        let join = |worker: thread::ScopedJoinHandle<'_, _>| {
            let joined = worker.join();
            joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().map(join).collect()
    });
    results.into_iter().collect::<Result<(), _>>()?;
    let findings = run.findings.into_inner();
    let mut findings = findings.unwrap_or_else(PoisonError::into_inner);
    findings.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(findings)
}

struct Run<'a> {
    store: &'a Store,
    records: &'a Records,
    needs: &'a Needs,
    probes: &'a Probes<'a>,
    scratch: &'a Scratch,
    done: AtomicU64,
    total: u64,
    findings: Mutex<Vec<Finding>>,
}

impl Run<'_> {
    fn work(&self, jobs: &[Job], next: &AtomicUsize, number: usize) -> Result<(), StoreError> {
        let own = self.scratch.path().join(number.to_string());
        crate::store::make_directory(&own)?;
        let mut buffer = vec![0; READ_AT_ONCE];
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            match job.is_layer {
                true => self.layer(job, &own),
                false => self.blob(job, &mut buffer),
            }
        }
        Ok(())
    }

    fn blob(&self, job: &Job, buffer: &mut [u8]) {
        let flaw = match self.hash(&job.path, buffer) {
            Ok(found) if found == job.digest => return,
            Ok(_) => Flaw::Content,
            Err(error) => unreadable(&error),
        };
        let damage = Damage::Blob {
            digest: job.digest,
            role: self.needs.role(&job.digest),
            flaw,
        };
        self.add(damage, job.path.clone(), &job.digest);
    }

    fn layer(&self, job: &Job, own: &Path) {
        let layer = DiffId(job.digest);
        let tar = job.path.join("tar");
        let checked = match (self.probes.layer)(&job.path, own, &|bytes| self.tell(bytes)) {
            Ok(checked) => checked,
            Err(error) => {
                let what = crate::error::with_causes(&*error);
                let flaw = Flaw::Unreadable { what };
                return self.add(Damage::Tar { layer, flaw }, tar, &job.digest);
            }
        };
        if checked.diff_id != Some(layer) {
            let flaw = Flaw::Content;
            return self.add(Damage::Tar { layer, flaw }, tar, &job.digest);
        }
        if !checked.index_is_right {
            let (index, flaw) = (job.path.join("index.erofs"), Flaw::Content);
            self.add(Damage::Index { layer, flaw }, index, &job.digest);
        }
        if let Some(what) = &checked.tree {
            let (tree, what) = (job.path.join("tree"), what.clone());
            self.add(Damage::Tree { layer, what }, tree, &job.digest);
        }
        self.counts(job, &checked);
    }

    /// What the row says of the contents is what the tar says.
    fn counts(&self, job: &Job, checked: &CheckedLayer) {
        let Some(row) = self.records.layers.get(&job.digest) else {
            return;
        };
        if (row.content_size, row.entries) == (checked.content_size, checked.entries) {
            return;
        }
        let change = Change::RewriteLayer {
            diff_id: job.digest,
            tar_size: row.tar_size,
            content_size: checked.content_size,
            entries: checked.entries,
        };
        let damage = Damage::Record {
            table: "layers",
            row: format!("layer {}", job.digest.short()),
            what: "size or entries are not those of its tar".to_owned(),
            mend: Some(Mend(change)),
        };
        self.add(damage, self.store.root().join("db.sqlite"), &job.digest);
    }

    fn hash(&self, path: &Path, buffer: &mut [u8]) -> io::Result<Digest> {
        let mut file = File::open(path)?;
        let mut hasher = Hasher::new();
        loop {
            match file.read(buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    self.tell(u64::try_from(count).unwrap_or(0));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn tell(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.probes.progress)(Hashed {
            done,
            total: self.total,
        });
    }

    fn add(&self, damage: Damage, path: PathBuf, digest: &Digest) {
        let needed_by = self.needs.by(digest);
        let findings = self.findings.lock();
        findings
            .unwrap_or_else(PoisonError::into_inner)
            .push(Finding {
                damage,
                path,
                needed_by,
            });
    }
}
