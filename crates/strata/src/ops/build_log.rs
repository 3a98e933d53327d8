//! What a build said, kept: one line of JSON for each event, compressed with zstd. A line is the
//! nanoseconds since 1970 and the event.

use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::{Mutex, PoisonError};

use build::Event;
use oci::Digest;
use serde::{Deserialize, Serialize};
use store::{NewBlob, Store, StoreError, Timestamp};

/// zstd's own default: faster than any build talks.
const LEVEL: i32 = 3;
/// A longer line is none that a build has written.
const MAX_LINE: usize = 64 << 20;

/// How many steps of a build there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepCounts {
    /// Steps that started.
    pub total: usize,
    /// Steps that ended, however they did.
    pub completed: usize,
    /// Those whose result was there.
    pub cached: usize,
}

/// The log of a build that runs. Dropped without [`BuildLog::finish`], it leaves nothing.
pub(crate) struct BuildLog {
    inner: Mutex<Inner>,
}

struct Inner {
    /// `None` once something could not be written: a build does not fail for its log.
    encoder: Option<zstd::Encoder<'static, NewBlob>>,
    counts: StepCounts,
}

impl BuildLog {
    pub(crate) fn start(store: &Store) -> Self {
        let blob = store.new_blob().ok();
        let encoder = blob.and_then(|blob| zstd::Encoder::new(blob, LEVEL).ok());
        let counts = StepCounts::default();
        Self {
            inner: Mutex::new(Inner { encoder, counts }),
        }
    }

    /// Adds an event.
    pub(crate) fn note(&self, event: &Event) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::StepStarted { .. } => inner.counts.total += 1,
            Event::StepCached { .. } => {
                inner.counts.completed += 1;
                inner.counts.cached += 1;
            }
            Event::StepDone { .. } | Event::StepFailed { .. } => inner.counts.completed += 1,
            Event::Planned { .. }
            | Event::Status { .. }
            | Event::Log { .. }
            | Event::Warning { .. } => {}
        }
        let line = serde_json::to_vec(&(Timestamp::now(), event));
        let mut line = line.expect("invariant: events have no maps");
        line.push(b'\n');
        let written = inner.encoder.as_mut().map(|it| it.write_all(&line));
        if matches!(written, Some(Err(_))) {
            inner.encoder = None;
        }
    }

    /// Keeps the log, if it could be written.
    pub(crate) fn finish(self, store: &Store) -> (Option<Digest>, StepCounts) {
        let inner = self
            .inner
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let blob = inner.encoder.and_then(|encoder| encoder.finish().ok());
        let digest = blob.and_then(|blob| store.commit_build_log(blob).ok());
        (digest, inner.counts)
    }
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BuildLogError {
    /// It is not there.
    #[error("the log of this build is gone")]
    Gone,
    /// It is not what a build has written.
    #[error("the log of this build is damaged: try `strata system fsck`")]
    Damaged(#[source] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Gives the events of a log to `sink`, in order. An event that this version does not know is
/// left out.
pub fn read_build_log(
    store: &Store,
    log: Option<&Digest>,
    sink: &mut dyn FnMut(Timestamp, &Event),
) -> Result<(), BuildLogError> {
    let blob = log.map(|log| store.open_blob(log)).transpose()?.flatten();
    let blob = blob.ok_or(BuildLogError::Gone)?;
    let decoder = zstd::Decoder::new(blob).map_err(BuildLogError::Damaged)?;
    let mut reader = BufReader::new(decoder);
    loop {
        let mut line = Vec::new();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let read = std::io::Read::take(&mut reader, limit).read_until(b'\n', &mut line);
        if read.map_err(BuildLogError::Damaged)? == 0 {
            return Ok(());
        }
        if let Ok((at, event)) = serde_json::from_slice(&line) {
            sink(at, &event);
        }
    }
}
