//! A source whose blobs are what their digests say.

use std::io::{self, Read};

use oci::{Descriptor, Digest, Hasher};

use super::{ExchangeError, Resolved, Source};
use crate::StoreError;

/// A source that looks at what it gives out, for targets that cannot say what is wrong with it. A
/// blob that is opened at its beginning ends with an error when it is not what its digest says.
pub(super) struct Checked<'a>(pub(super) &'a dyn Source);

impl Source for Checked<'_> {
    fn resolve(&self) -> Result<Resolved, ExchangeError> {
        self.0.resolve()
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ExchangeError> {
        self.0.manifest(descriptor)
    }

    fn open_blob(
        &self,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>, ExchangeError> {
        let inner = self.0.open_blob(descriptor, offset)?;
        if offset > 0 {
            return Ok(inner);
        }
        Ok(Box::new(Checking {
            inner,
            expected: descriptor.digest,
            left: descriptor.size,
            hasher: Some(Hasher::new()),
        }))
    }
}

struct Checking {
    inner: Box<dyn Read + Send>,
    expected: Digest,
    left: u64,
    /// Taken when all was read.
    hasher: Option<Hasher>,
}

impl Read for Checking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let Some(hasher) = &mut self.hasher else {
            return Ok(count);
        };
        hasher.update(&buffer[..count]);
        self.left = self
            .left
            .saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        if self.left > 0 {
            return Ok(count);
        }
        // The last bytes are withheld: with them the target would have a blob to judge.
        let found = self.hasher.take().map(Hasher::finish);
        match found.filter(|found| *found != self.expected) {
            None => Ok(count),
            Some(found) => Err(io::Error::other(ExchangeError::corrupt(
                StoreError::DigestMismatch {
                    expected: self.expected,
                    found,
                },
            ))),
        }
    }
}
