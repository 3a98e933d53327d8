//! The threads of a copy, and one blob on its way.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use oci::Descriptor;

use super::opener::{Cancel, OpenSource, Opener};
use super::{CopyError, CopyOptions, Event, ExchangeError, Fault, LayerId, Target};
use crate::StoreError;

/// How often a target is tried again after a failure that may pass.
const TARGET_RETRIES: u32 = 3;

/// What the threads of one copy share.
pub(super) struct Work<'a> {
    open: &'a OpenSource<'a>,
    target: &'a dyn Target,
    options: &'a CopyOptions<'a>,
    pub(super) cancel: Cancel,
    failure: Mutex<Option<CopyError>>,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        open: &'a OpenSource<'a>,
        target: &'a dyn Target,
        options: &'a CopyOptions<'a>,
    ) -> Self {
        Self {
            open,
            target,
            options,
            cancel: Cancel::default(),
            failure: Mutex::new(None),
        }
    }

    /// Runs `task` for every item on a few threads. The first failure stops all.
    pub(super) fn each<T: Sync>(
        &self,
        items: &[T],
        task: impl Fn(&T) -> Result<(), CopyError> + Sync,
    ) -> Result<(), CopyError> {
        let next = AtomicUsize::new(0);
        let worker = || {
            while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                if self.cancel.is_set() {
                    return;
                }
                if let Err(error) = task(item) {
                    let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                    failure.get_or_insert(error);
                    // Only now: failures that follow may come from the cancelling.
                    self.cancel.set();
                }
            }
        };
        let threads = self.options.parallel.clamp(1, items.len().max(1));
        if threads == 1 {
            worker();
        } else {
            thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(worker);
                }
            });
        }
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take().map_or(Ok(()), Err)
    }

    /// Brings one blob to the target, trying again what may pass.
    pub(super) fn transfer(&self, layer: LayerId, blob: &Descriptor) -> Result<(), CopyError> {
        let events = self.options.events;
        events(Event::LayerStarted { layer });
        let mut corrupt = false;
        let mut failures = 0;
        let resumed = AtomicBool::new(false);
        loop {
            let opener = Opener::new(self.open, blob, &self.cancel, |error| {
                events(Event::LayerRetry { layer, error });
            });
            let result = self.target.put_blob(
                blob,
                Some(&layer.diff_id),
                &|offset| {
                    // Only the first: what breaks off later is told as a retry.
                    if !resumed.swap(true, Ordering::Relaxed) && offset > 0 {
                        events(Event::LayerResumed {
                            layer,
                            kept: offset,
                        });
                    }
                    opener.open(offset)
                },
                &|done| events(Event::LayerProgress { layer, done }),
            );
            let error = match result {
                Ok(outcome) => {
                    events(Event::LayerDone { layer, outcome });
                    return Ok(());
                }
                Err(error) => error,
            };
            // What the target says of a source that failed is not the reason.
            let (error, is_of_source) = match opener.failure() {
                Some(failure) => (failure, true),
                None => (error, opener.gave_up()),
            };
            let again = match error.fault() {
                Fault::Corrupt => !std::mem::replace(&mut corrupt, true),
                Fault::Transient => !opener.gave_up() && failures < TARGET_RETRIES,
                Fault::Permanent => false,
            };
            if !again || self.cancel.is_set() {
                return Err(blame(error, is_of_source));
            }
            failures += 1;
            let text = error.to_string();
            events(Event::LayerRetry { layer, error: text });
            self.cancel.wait(Cancel::delay(failures, error.delay()));
        }
    }
}

/// Says which side a failed transfer is to be laid to.
fn blame(error: ExchangeError, is_of_source: bool) -> CopyError {
    let wrong_content = error.fault() == Fault::Corrupt
        || matches!(
            error.inner().downcast_ref(),
            Some(StoreError::DiffIdMismatch { .. } | StoreError::Undone(_))
        );
    if is_of_source || wrong_content {
        CopyError::Source(error)
    } else {
        CopyError::Target(error)
    }
}
