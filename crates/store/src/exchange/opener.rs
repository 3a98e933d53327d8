//! Opening a blob of a source again and again until it is through.

use std::io::{self, ErrorKind, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oci::Descriptor;

use super::{ExchangeError, Fault};

/// How often a source may fail in a row without sending a byte.
const MAX_FAILURES: u32 = 5;
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Tells the threads of a copy to stop.
#[derive(Debug, Default)]
pub(super) struct Cancel {
    set: Arc<AtomicBool>,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Cancel {
    pub(super) fn set(&self) {
        let _guard = locked(&self.lock);
        self.set.store(true, Ordering::Relaxed);
        self.wake.notify_all();
    }

    pub(super) fn is_set(&self) -> bool {
        self.set.load(Ordering::Relaxed)
    }

    /// Waits before another try, unless the copy is cancelled.
    pub(super) fn wait(&self, delay: Duration) {
        let guard = locked(&self.lock);
        let waited = self
            .wake
            .wait_timeout_while(guard, delay, |()| !self.is_set());
        drop(waited);
    }

    /// Returns how long to wait after a number of failures in a row.
    pub(super) fn delay(failures: u32, asked: Option<Duration>) -> Duration {
        let own = FIRST_DELAY * 2_u32.pow(failures.min(10).saturating_sub(1));
        own.max(asked.unwrap_or_default()).min(LONGEST_DELAY)
    }
}

/// The copy was cancelled because another layer failed.
#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
pub(super) struct Cancelled;

/// Opens any blob of a source at an offset.
pub type OpenSource<'a> =
    dyn Fn(&Descriptor, u64) -> Result<Box<dyn Read + Send>, ExchangeError> + Sync + 'a;

/// Opens one blob of a source. When it is opened again after a failure it waits first; when that
/// makes no sense any more it returns the failure.
pub(super) struct Opener<'a> {
    source: &'a OpenSource<'a>,
    blob: &'a Descriptor,
    cancel: &'a Cancel,
    on_retry: Box<dyn Fn(String) + Sync + 'a>,
    failures: Mutex<u32>,
    gave_up: AtomicBool,
    watch: Arc<Watch>,
}

/// What the reader that was given out has seen.
#[derive(Default)]
struct Watch {
    failure: Mutex<Option<ExchangeError>>,
    progress: AtomicBool,
}

impl<'a> Opener<'a> {
    pub(super) fn new(
        source: &'a OpenSource<'a>,
        blob: &'a Descriptor,
        cancel: &'a Cancel,
        on_retry: impl Fn(String) + Sync + 'a,
    ) -> Self {
        Self {
            source,
            blob,
            cancel,
            on_retry: Box::new(on_retry),
            failures: Mutex::new(0),
            gave_up: AtomicBool::new(false),
            watch: Arc::default(),
        }
    }

    /// Tells whether the source failed for good.
    pub(super) fn gave_up(&self) -> bool {
        self.gave_up.load(Ordering::Relaxed)
    }

    /// Returns why the source failed, if it did and was not opened again.
    pub(super) fn failure(&self) -> Option<ExchangeError> {
        locked(&self.watch.failure).take()
    }

    pub(super) fn open(&self, offset: u64) -> Result<Box<dyn Read + Send>, ExchangeError> {
        let failure = locked(&self.watch.failure).take();
        if let Some(error) = failure {
            self.after(error)?;
        }
        loop {
            if self.cancel.is_set() {
                return Err(ExchangeError::permanent(Cancelled));
            }
            match (self.source)(self.blob, offset) {
                Ok(inner) => {
                    return Ok(Box::new(Watched {
                        inner,
                        left: self.blob.size.saturating_sub(offset),
                        watch: Arc::clone(&self.watch),
                        cancelled: Arc::clone(&self.cancel.set),
                    }));
                }
                Err(error) => self.after(error)?,
            }
        }
    }

    /// Waits after a failure, or gives up.
    fn after(&self, error: ExchangeError) -> Result<(), ExchangeError> {
        let mut failures = locked(&self.failures);
        if self.watch.progress.swap(false, Ordering::Relaxed) {
            *failures = 0;
        }
        *failures += 1;
        if error.fault() == Fault::Permanent || *failures > MAX_FAILURES || self.cancel.is_set() {
            self.gave_up.store(true, Ordering::Relaxed);
            return Err(error);
        }
        (self.on_retry)(error.to_string());
        self.cancel.wait(Cancel::delay(*failures, error.delay()));
        Ok(())
    }
}

/// Remembers the failure of the reader inside, and takes an early end for one.
struct Watched {
    inner: Box<dyn Read + Send>,
    left: u64,
    watch: Arc<Watch>,
    cancelled: Arc<AtomicBool>,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other(Cancelled));
        }
        let result = self.inner.read(buffer);
        let failure = match &result {
            Ok(0) if self.left > 0 && !buffer.is_empty() => {
                io::Error::new(ErrorKind::UnexpectedEof, "content ends early")
            }
            Ok(count) => {
                let count = u64::try_from(*count).unwrap_or(u64::MAX);
                self.left = self.left.saturating_sub(count);
                self.watch.progress.store(true, Ordering::Relaxed);
                return result;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return result,
            Err(_) => result.expect_err("invariant: matched as an error"),
        };
        let kind = failure.kind();
        *locked(&self.watch.failure) = Some(match failure.downcast::<ExchangeError>() {
            Ok(error) => error,
            Err(error) => ExchangeError::transient(error),
        });
        Err(io::Error::new(kind, "source failed"))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
