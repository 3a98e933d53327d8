//! What the steps of one build share.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use layer::{LayerDir, Timestamp, View};
use oci::DiffId;
use store::StoreError;

use super::imports::Imports;
use crate::context::Digests;
use crate::progress::Progress;
use crate::{BuildContext, BuildOptions, DockerfilePlace, RunError, SolveError, git};

/// How long a build that waits takes to see that it is canceled.
const CANCEL_POLL: Duration = Duration::from_millis(20);
/// 1980, the earliest time that zip archives can hold.
const EARLIEST: Timestamp = Timestamp {
    seconds: 315_532_800,
    nanoseconds: 0,
};

/// What the steps of one build share.
pub(crate) struct Environment<'a> {
    pub(crate) build: &'a BuildContext<'a>,
    pub(crate) options: &'a BuildOptions,
    /// The build context and those with a name.
    contexts: BTreeMap<Option<String>, Digests<'a>>,
    pub(crate) progress: &'a Progress<'a>,
    /// What other builds made.
    pub(crate) imports: Imports<'a>,
    /// When the base of the result was made: a last resort for the epoch.
    pub(crate) base_created: Option<Timestamp>,
    epoch: OnceLock<Timestamp>,
    /// A step has failed: the others end.
    failed: AtomicBool,
}

impl<'a> Environment<'a> {
    /// Collects what steps share.
    pub(crate) fn new(
        build: &'a BuildContext<'a>,
        options: &'a BuildOptions,
        contexts: BTreeMap<Option<String>, Digests<'a>>,
        progress: &'a Progress<'a>,
    ) -> Self {
        Self {
            build,
            options,
            contexts,
            progress,
            imports: Imports::default(),
            base_created: None,
            epoch: OnceLock::new(),
            failed: AtomicBool::new(false),
        }
    }

    /// Returns the context with this name, without one the build context.
    pub(crate) fn context(&self, name: &Option<String>) -> &Digests<'a> {
        (self.contexts.get(name)).expect("invariant: the contexts of all vertices are open")
    }

    /// Returns all contexts.
    pub(crate) fn contexts(&self) -> impl Iterator<Item = (Option<&str>, &Digests<'a>)> {
        let name = |(name, digests)| (Option::as_deref(name), digests);
        self.contexts.iter().map(name)
    }

    /// Tells whether the user, or a step that failed, has ended the build.
    pub(crate) fn is_canceled(&self) -> bool {
        self.build.cancel.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)
    }

    /// Waits for what other processes do, or until the build ends.
    pub(crate) fn wait_for(
        &self,
        wait: impl FnOnce() -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), SolveError> {
        let (sender, ended) = mpsc::channel();
        // After the end of the build nobody listens.
        let work = move || sender.send(wait()).unwrap_or_default();
        let thread = thread::Builder::new().spawn(work);
        thread.map_err(|error| SolveError::from(RunError::Prepare(error)))?;
        loop {
            match ended.recv_timeout(CANCEL_POLL) {
                Ok(result) => return Ok(result?),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) if self.is_canceled() => {
                    return Err(SolveError::Canceled);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Ends the other steps.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Returns the time that later ones become: the one that was given, else that of the commit
    /// that a clean context stands at, else the newest in the context and the Dockerfile, else
    /// that of the base image.
    pub(crate) fn epoch(&self) -> Result<Timestamp, SolveError> {
        if let Some(epoch) = self.epoch.get() {
            return Ok(*epoch);
        }
        let directory = self.options.context.as_deref();
        let committed = || directory.and_then(git::commit_time);
        let epoch = match self.options.given_epoch().or_else(committed) {
            Some(seconds) => Timestamp {
                seconds,
                nanoseconds: 0,
            },
            None => {
                let mut newest = self.dockerfile_time();
                for digests in self.contexts.values() {
                    newest = newest.max(digests.context().newest()?);
                }
                newest.or(self.base_created).unwrap_or(EARLIEST)
            }
        };
        Ok(*self.epoch.get_or_init(|| epoch))
    }

    fn dockerfile_time(&self) -> Option<Timestamp> {
        let DockerfilePlace::File(path) = &self.options.dockerfile_place else {
            return None;
        };
        let metadata = fs::metadata(path).ok()?;
        Some(Timestamp {
            seconds: metadata.mtime(),
            nanoseconds: u32::try_from(metadata.mtime_nsec()).ok()?,
        })
    }

    /// Brings layers that other builds made into the store; returns false when some cannot be had.
    pub(crate) fn fetch(&self, layers: &[DiffId]) -> Result<bool, SolveError> {
        self.imports.fetch(self.build.store, self.progress, layers)
    }

    /// Returns the directories of layers.
    pub(crate) fn layer_dirs(&self, layers: &[DiffId]) -> Vec<LayerDir> {
        let dir = |layer| LayerDir::new(self.build.store.layer_dir(layer));
        layers.iter().map(dir).collect()
    }

    /// Opens the merged contents of layers.
    pub(crate) fn view(&self, layers: &[DiffId]) -> Result<View, SolveError> {
        Ok(View::open(&self.layer_dirs(layers))?)
    }
}
