//! A blob as one stream, whatever happens to the connection.

use std::io::{self, ErrorKind, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use oci::Descriptor;

use super::{ExchangeError, OpenBlob, Progress};
use crate::StoreError;

/// How much goes from the thread that fetches and hashes to the thread that unpacks at once.
pub(super) const BUFFER: usize = 256 << 10;

/// How far the first may be ahead.
const BUFFERS: usize = 8;

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

    /// Returns what is read.
    pub(super) fn blob(&self) -> &'a Descriptor {
        self.blob
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

/// Makes a way for content from the thread that fetches it to another one.
pub(super) fn channel() -> (Buffers, ChannelReader) {
    let (full_sender, full) = sync_channel(BUFFERS);
    let (empty, empty_receiver) = sync_channel(BUFFERS + 2);
    let buffers = Buffers {
        full: full_sender,
        empty: empty_receiver,
    };
    let reader = ChannelReader {
        full,
        empty,
        current: Vec::new(),
        position: 0,
    };
    (buffers, reader)
}

/// The buffers that go round between two threads.
pub(super) struct Buffers {
    full: SyncSender<io::Result<Vec<u8>>>,
    empty: Receiver<Vec<u8>>,
}

impl Buffers {
    /// Reads what comes next; `None` at the end.
    pub(super) fn fill(&self, reader: &mut dyn Read) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = self.empty.try_recv().unwrap_or_default();
        buffer.resize(BUFFER, 0);
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => {
                    buffer.truncate(count);
                    return Ok(Some(buffer));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn send(&self, buffer: Vec<u8>) {
        // Fails when the other thread has ended; what it said is asked later.
        drop(self.full.send(Ok(buffer)));
    }

    /// Tells the other thread that no more comes: an end would look like a whole, shorter blob.
    pub(super) fn break_off(&self) {
        drop(self.full.send(Err(ErrorKind::BrokenPipe.into())));
    }
}

/// Reads the buffers that another thread sends, and sends them back for reuse.
pub(super) struct ChannelReader {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.current.len() {
            let used = std::mem::take(&mut self.current);
            self.position = 0;
            if used.capacity() > 0 {
                // The other thread is gone when it has sent everything.
                drop(self.empty.try_send(used));
            }
            match self.full.recv() {
                Ok(next) => self.current = next?,
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len() - self.position);
        buffer[..count].copy_from_slice(&self.current[self.position..][..count]);
        self.position += count;
        Ok(count)
    }
}
