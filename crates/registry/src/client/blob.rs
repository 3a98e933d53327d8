//! The bytes of a blob, from an offset, however often the connection breaks.

use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use axum::http::StatusCode;
use oci::{Descriptor, Digest};
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};

use super::error::{ClientError, NetworkError, Problem};
use super::registry::refusal;
use super::remote::Remote;
use super::request::Request;
use super::transport::Response;
use crate::range::ContentRange;

/// A connection that brought this much counts as a success: the count of failures starts again.
const PROGRESS: u64 = 1 << 20;

/// Reads one blob. It never returns more than the descriptor's size, and an error rather than
/// an early end. The digest is the reader's business: the store hashes what it keeps.
pub(crate) struct BlobReader {
    remote: Remote,
    digest: Digest,
    size: u64,
    position: u64,
    response: Option<Response>,
    pauses: Box<dyn Iterator<Item = Duration> + Send>,
    checkpoint: u64,
}

impl Remote {
    /// Opens a blob at `offset`.
    pub(crate) fn open_blob_at(
        &self,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<BlobReader, ClientError> {
        let mut reader = BlobReader {
            remote: self.clone(),
            digest: descriptor.digest,
            size: descriptor.size,
            position: offset.min(descriptor.size),
            response: None,
            pauses: Box::new(self.courier.retry.pauses()),
            checkpoint: offset,
        };
        if reader.position < reader.size {
            reader.response = Some(reader.connect()?);
        }
        Ok(reader)
    }
}

impl BlobReader {
    fn connect(&self) -> Result<Response, ClientError> {
        let mut request = Request::get(self.remote.blob_url(&self.digest));
        if self.position > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.position))
                .expect("invariant: digits are header text");
            request = request.header(RANGE, range);
        }
        let mut response = self.remote.call(request)?;
        match response.status() {
            StatusCode::OK => {
                let length = response.content_length();
                self.expect_size(&response, length)?;
                self.skip(&mut response)?;
                Ok(response)
            }
            StatusCode::PARTIAL_CONTENT => {
                let range = response
                    .header(&CONTENT_RANGE)
                    .and_then(ContentRange::parse)
                    .ok_or_else(|| response.invalid(Problem::Header("Content-Range")))?;
                if range.first != self.position {
                    return Err(response.invalid(Problem::Range {
                        expected: self.position,
                        found: range.first,
                    }));
                }
                self.expect_size(&response, range.total)?;
                Ok(response)
            }
            _ => Err(ClientError::Blob {
                digest: self.digest,
                answer: Box::new(refusal(response)),
            }),
        }
    }

    /// Reads past what is known already, when the server sends it all.
    fn skip(&self, response: &mut Response) -> Result<(), ClientError> {
        let mut scratch = vec![0; 64 << 10];
        let mut left = self.position;
        while left > 0 {
            let wanted =
                usize::try_from(left).map_or(scratch.len(), |left| left.min(scratch.len()));
            let read = response
                .read_some(&mut scratch[..wanted])
                .and_then(|read| match read {
                    0 => Err(NetworkError::Truncated {
                        received: self.position - left,
                        expected: self.size,
                    }),
                    read => Ok(read),
                })
                .map_err(|cause| self.failure(cause))?;
            left -= u64::try_from(read).expect("a buffer is short");
        }
        Ok(())
    }

    fn expect_size(&self, response: &Response, told: Option<u64>) -> Result<(), ClientError> {
        match told {
            Some(found) if found != self.size => Err(ClientError::SizeMismatch {
                request: response.request(),
                expected: self.size,
                found,
            }),
            _ => Ok(()),
        }
    }

    fn failure(&self, cause: NetworkError) -> ClientError {
        cause.during(&reqwest::Method::GET, &self.remote.blob_url(&self.digest))
    }

    fn read_connected(&mut self, buffer: &mut [u8]) -> Result<usize, ClientError> {
        let response = match &mut self.response {
            Some(response) => response,
            None => {
                let response = self.connect()?;
                self.response.insert(response)
            }
        };
        match response.read_some(buffer) {
            Ok(0) => Err(self.failure(NetworkError::Truncated {
                received: self.position,
                expected: self.size,
            })),
            Ok(read) => Ok(read),
            Err(cause) => Err(self.failure(cause)),
        }
    }

    /// Waits before the next connection, or gives up with `error`.
    fn recover(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.response = None;
        if !error.may_pass() {
            return Err(error);
        }
        if self.position - self.checkpoint >= PROGRESS {
            self.checkpoint = self.position;
            self.pauses = Box::new(self.remote.courier.retry.pauses());
        }
        match self.pauses.next() {
            Some(pause) => self.remote.courier.transport.pause(pause),
            None => Err(error),
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size - self.position;
        let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if wanted == 0 {
            return Ok(0);
        }
        loop {
            match self.read_connected(&mut buffer[..wanted]) {
                Ok(read) => {
                    self.position += u64::try_from(read).expect("a buffer is short");
                    return Ok(read);
                }
                Err(error) => self.recover(error).map_err(io::Error::other)?,
            }
        }
    }
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobReader")
            .field("digest", &self.digest)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
