//! The tar's bytes on their way from the source to the file, seen by the parser in passing.

use std::io::{self, Read};

use crate::sink::TarSink;
use crate::size;
use crate::tar::{BLOCK_SIZE, TarError};

/// Why the stream cannot go on.
#[derive(Debug)]
pub(crate) enum StreamError {
    Read(io::Error),
    Write(io::Error),
    TooLarge,
    Tar(TarError),
}

impl From<TarError> for StreamError {
    fn from(error: TarError) -> Self {
        Self::Tar(error)
    }
}

/// Reads a source; every byte also goes to the sink, whose buffer it was read into.
pub(crate) struct Tee<'a> {
    source: &'a mut dyn Read,
    sink: TarSink,
    /// How much of the sink's buffer the parser has seen.
    seen: usize,
    /// The offset of the next byte for the parser.
    offset: u64,
    max_size: u64,
}

impl<'a> Tee<'a> {
    pub(crate) fn new(source: &'a mut dyn Read, sink: TarSink, max_size: u64) -> Self {
        Self {
            source,
            sink,
            seen: 0,
            offset: 0,
            max_size,
        }
    }

    /// Returns the offset of the next byte.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads one block; `None` at the end of the stream.
    pub(crate) fn block(&mut self) -> Result<Option<[u8; BLOCK_SIZE]>, StreamError> {
        let mut block = [0; BLOCK_SIZE];
        let mut filled = 0;
        while filled < BLOCK_SIZE {
            let piece = self.piece(BLOCK_SIZE - filled)?;
            if piece.is_empty() {
                if filled == 0 {
                    return Ok(None);
                }
                return Err(TarError::Truncated.into());
            }
            block[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
        }
        Ok(Some(block))
    }

    /// Passes over `size` bytes.
    pub(crate) fn skip(&mut self, size: u64) -> Result<(), StreamError> {
        self.read(size, &mut |_| Ok(()))
    }

    /// Passes over the rest of a block after `size` bytes of content. The end of the stream
    /// may cut it off: no byte of an entry is missing then.
    pub(crate) fn skip_padding(&mut self, size: u64) -> Result<(), StreamError> {
        let mut left = padding(size);
        while left > 0 {
            let length = self.piece(left)?.len();
            if length == 0 {
                return Ok(());
            }
            left -= length;
        }
        Ok(())
    }

    /// Hands `size` bytes to `consume`, piece by piece.
    pub(crate) fn read(
        &mut self,
        size: u64,
        consume: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), StreamError> {
        let mut left = size;
        while left > 0 {
            let piece = self.piece(usize::try_from(left).unwrap_or(usize::MAX))?;
            if piece.is_empty() {
                return Err(TarError::Truncated.into());
            }
            consume(piece).map_err(StreamError::Write)?;
            left -= size::on_disk(piece.len());
        }
        Ok(())
    }

    /// Passes over all that is left and closes the sink.
    pub(crate) fn finish(mut self) -> Result<TarSink, StreamError> {
        while !self.piece(usize::MAX)?.is_empty() {}
        Ok(self.sink)
    }

    /// Returns at least one and at most `limit` bytes; none at the end of the stream.
    fn piece(&mut self, limit: usize) -> Result<&[u8], StreamError> {
        if self.seen == self.sink.pending().len() {
            self.fill()?;
        }
        let start = self.seen;
        let pending = self.sink.pending();
        let end = pending.len().min(start.saturating_add(limit));
        self.seen = end;
        self.offset += size::on_disk(end - start);
        Ok(&pending[start..end])
    }

    fn fill(&mut self) -> Result<(), StreamError> {
        let space = self.sink.space().map_err(StreamError::Write)?;
        let length = loop {
            match self.source.read(space) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(StreamError::Read)?,
            }
        };
        self.sink.advance(length);
        self.seen = self.sink.pending().len() - length;
        if self.offset + size::on_disk(length) > self.max_size {
            return Err(StreamError::TooLarge);
        }
        Ok(())
    }
}

/// Returns how many bytes fill the last block of `size` bytes.
pub(crate) fn padding(size: u64) -> usize {
    let block = size::on_disk(BLOCK_SIZE);
    size::in_memory(size.next_multiple_of(block) - size)
}
