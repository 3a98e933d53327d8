//! Failures of the two ends of a copy.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// A failure of a source or a target: the implementation's own error, and whether trying again
/// may help. `Display` and `source` are those of the inner error.
#[derive(Debug)]
pub struct ExchangeError {
    fault: Fault,
    retry_after: Option<Duration>,
    inner: Box<dyn Error + Send + Sync>,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Trying again gives the same.
    Permanent,
    /// Trying again may help: a broken connection, a busy server.
    Transient,
    /// The content is not what its name promises. It is fetched once more.
    Corrupt,
}

impl ExchangeError {
    /// Wraps an error that trying again will not change.
    pub fn permanent(inner: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Fault::Permanent, inner.into())
    }

    /// Wraps an error that may not come again.
    pub fn transient(inner: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Fault::Transient, inner.into())
    }

    /// Wraps the error that content is not what its name promises.
    pub fn corrupt(inner: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Fault::Corrupt, inner.into())
    }

    fn new(fault: Fault, inner: Box<dyn Error + Send + Sync>) -> Self {
        Self {
            fault,
            retry_after: None,
            inner,
        }
    }

    /// Adds how long the other side asks to wait before the next try.
    #[must_use]
    pub fn retry_after(self, delay: Duration) -> Self {
        Self {
            retry_after: Some(delay),
            ..self
        }
    }

    /// Returns what kind of failure it is.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// Returns how long the other side asks to wait.
    pub fn delay(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Returns the implementation's own error, to be downcast.
    pub fn inner(&self) -> &(dyn Error + Send + Sync + 'static) {
        self.inner.as_ref()
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Error for ExchangeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.source()
    }
}
