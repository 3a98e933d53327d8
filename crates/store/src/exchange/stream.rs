//! A blob as one stream, whatever happens to the connection.

use std::io::{self, ErrorKind, Read};

use oci::Descriptor;

use super::{ExchangeError, OpenBlob, Progress};
use crate::StoreError;

/// How often a blob is opened without a byte coming out.
const MAX_IDLE_OPENS: u32 = 8;

/// Reads a blob from an offset to its end, opening it again where it broke off.
pub(super) struct Stream<'a> {
    blob: &'a Descriptor,
    open: &'a OpenBlob<'a>,
    progress: &'a Progress<'a>,
    offset: u64,
    inner: Option<Box<dyn Read + Send>>,
    idle_opens: u32,
    failure: Option<ExchangeError>,
}

impl<'a> Stream<'a> {
    pub(super) fn new(
        blob: &'a Descriptor,
        offset: u64,
        open: &'a OpenBlob<'a>,
        progress: &'a Progress<'a>,
    ) -> Self {
        Self {
            blob,
            open,
            progress,
            offset,
            inner: None,
            idle_opens: 0,
            failure: None,
        }
    }

    /// Returns why a read failed.
    pub(super) fn into_failure(self) -> Option<ExchangeError> {
        self.failure
    }

    fn fail(&mut self, failure: ExchangeError) -> io::Error {
        let error = io::Error::other(failure.to_string());
        self.failure = Some(failure);
        error
    }

    /// Content longer than announced is wrong content, not less so for beginning well.
    fn check_end(&mut self) -> io::Result<usize> {
        let extra = match &mut self.inner {
            Some(inner) => inner.read(&mut [0]).unwrap_or(0),
            None => 0,
        };
        self.inner = None;
        if extra == 0 {
            return Ok(0);
        }
        let error = StoreError::SizeMismatch {
            digest: self.blob.digest,
            expected: self.blob.size,
            found: self.blob.size + 1,
        };
        Err(self.fail(ExchangeError::corrupt(error)))
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let left = self.blob.size.saturating_sub(self.offset);
            if left == 0 {
                return self.check_end();
            }
            let inner = match &mut self.inner {
                Some(inner) => inner,
                empty => {
                    self.idle_opens += 1;
                    let opened = if self.idle_opens > MAX_IDLE_OPENS {
                        let error = io::Error::from(ErrorKind::UnexpectedEof);
                        Err(ExchangeError::transient(error))
                    } else {
                        (self.open)(self.offset)
                    };
                    match opened {
                        Ok(reader) => empty.insert(reader),
                        Err(error) => return Err(self.fail(error)),
                    }
                }
            };
            let room = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            match inner.read(&mut buffer[..room]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => self.inner = None,
                Ok(count) => {
                    self.idle_opens = 0;
                    self.offset += u64::try_from(count).unwrap_or(u64::MAX);
                    (self.progress)(self.offset);
                    return Ok(count);
                }
            }
        }
    }
}
