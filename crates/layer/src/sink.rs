//! The tar file being written, and its digest.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use oci::{DiffId, Hasher};

use crate::size;

/// Large enough that handing a buffer over costs nothing, small enough for the second cache.
const BUFFER_SIZE: usize = 1 << 18;
/// Buffers on their way to the thread that hashes and writes.
const BUFFERS_IN_FLIGHT: usize = 4;
/// How much is written before the kernel is asked to move it to disk.
const WRITEBACK_STEP: u64 = 8 << 20;

/// The part of a disk that layers leave free, so that whatever else writes there goes on when one
/// turns out to have no end; on large disks no more than the other number.
const RESERVED_PART: u64 = 256;
const MOST_RESERVED: u64 = 256 << 20;

/// Takes the bytes of a tar, hashes them and writes them to a file. From the second buffer on a
/// thread does that, while the caller fills the next.
#[derive(Debug)]
pub(crate) struct TarSink {
    buffer: Vec<u8>,
    filled: usize,
    /// `None` only while the sink changes its state, and after an error.
    output: Option<Output>,
}

#[derive(Debug)]
enum Output {
    /// Nobody wants the bytes.
    Nothing,
    Inline(Tar),
    Thread(Worker),
}

#[derive(Debug)]
struct Worker {
    full: SyncSender<(Vec<u8>, usize)>,
    free: Receiver<Vec<u8>>,
    thread: JoinHandle<io::Result<Tar>>,
}

#[derive(Debug)]
struct Tar {
    /// `None` when only the digest is wanted.
    file: Option<File>,
    hasher: Hasher,
    size: u64,
    /// Up to where writing to disk has begun.
    written_back: u64,
}

impl Tar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.size += size::on_disk(bytes.len());
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        // A thousandth of the time that the write takes.
        if bytes.len() == BUFFER_SIZE {
            leave_room(file)?;
        }
        file.write_all(bytes)?;
        let length = self.size - self.written_back;
        if length >= WRITEBACK_STEP {
            sys::boot::start_writeback(&*file, self.written_back, length)?;
            self.written_back = self.size;
        }
        Ok(())
    }
}

/// Fails when nearly nothing is left on the disk.
fn leave_room(file: &File) -> io::Result<()> {
    let status = rustix::fs::fstatvfs(file)?;
    let bytes = |blocks: u64| blocks.saturating_mul(status.f_frsize);
    let free = bytes(status.f_bfree);
    let reserved = (bytes(status.f_blocks) / RESERVED_PART).min(MOST_RESERVED);
    if free >= reserved + size::on_disk(BUFFER_SIZE) {
        return Ok(());
    }
    let error = LowOnSpace { free, reserved };
    Err(io::Error::new(io::ErrorKind::StorageFull, error))
}

/// The text begins as that of a disk that is full.
#[derive(Debug, thiserror::Error)]
#[error(
    "No space left on device: {free} bytes are free, and the last {reserved} are not for layers; \
     free some, or do without this image if its size is absurd"
)]
struct LowOnSpace {
    free: u64,
    reserved: u64,
}

impl TarSink {
    /// Creates the file.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self::new(Some(File::create(path)?)))
    }

    /// Makes a sink that hashes and keeps nothing.
    pub(crate) fn nowhere() -> Self {
        Self::new(None)
    }

    fn new(file: Option<File>) -> Self {
        let tar = Tar {
            file,
            hasher: Hasher::new(),
            size: 0,
            written_back: 0,
        };
        Self {
            buffer: vec![0; BUFFER_SIZE],
            filled: 0,
            output: Some(Output::Inline(tar)),
        }
    }

    /// Returns a sink that keeps nothing, for reading only.
    pub(crate) fn discarding() -> Self {
        Self {
            buffer: vec![0; BUFFER_SIZE],
            filled: 0,
            output: Some(Output::Nothing),
        }
    }

    /// Returns the bytes since the last full buffer.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// Returns room for at least one byte; [`TarSink::advance`] says how much was used. Pending
    /// bytes are gone when there was no room.
    pub(crate) fn space(&mut self) -> io::Result<&mut [u8]> {
        if self.filled == BUFFER_SIZE {
            self.submit()?;
        }
        Ok(&mut self.buffer[self.filled..])
    }

    /// Adds the first `length` bytes of the space.
    pub(crate) fn advance(&mut self, length: usize) {
        self.filled = (self.filled + length).min(BUFFER_SIZE);
    }

    /// Adds `bytes`.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let space = self.space()?;
            let length = space.len().min(bytes.len());
            space[..length].copy_from_slice(&bytes[..length]);
            self.advance(length);
            bytes = &bytes[length..];
        }
        Ok(())
    }

    /// Writes what is pending. Returns the digest and the length of the tar.
    pub(crate) fn finish(mut self) -> io::Result<(DiffId, u64)> {
        let mut tar = match self.output.take() {
            Some(Output::Inline(tar)) => tar,
            Some(Output::Thread(worker)) => worker.join()?,
            Some(Output::Nothing) | None => return Err(stopped()),
        };
        tar.write(&self.buffer[..self.filled])?;
        Ok((DiffId(tar.hasher.finish()), tar.size))
    }

    fn submit(&mut self) -> io::Result<()> {
        let worker = match self.output.take() {
            Some(Output::Inline(tar)) => Worker::start(tar)?,
            Some(Output::Thread(worker)) => worker,
            Some(Output::Nothing) => {
                self.output = Some(Output::Nothing);
                self.filled = 0;
                return Ok(());
            }
            None => return Err(stopped()),
        };
        let fresh = worker
            .free
            .try_recv()
            .unwrap_or_else(|_| vec![0; BUFFER_SIZE]);
        let full = std::mem::replace(&mut self.buffer, fresh);
        let filled = std::mem::take(&mut self.filled);
        if worker.full.send((full, filled)).is_err() {
            return Err(worker.join().err().unwrap_or_else(stopped));
        }
        self.output = Some(Output::Thread(worker));
        Ok(())
    }
}

/// Nothing may write to the directory any more when the sink is gone.
impl Drop for TarSink {
    fn drop(&mut self) {
        if let Some(Output::Thread(worker)) = self.output.take() {
            drop(worker.join());
        }
    }
}

impl Worker {
    fn start(mut tar: Tar) -> io::Result<Self> {
        let (full, work) = mpsc::sync_channel::<(Vec<u8>, usize)>(BUFFERS_IN_FLIGHT);
        let (done, free) = mpsc::channel();
        let run = move || {
            for (buffer, filled) in work {
                tar.write(&buffer[..filled])?;
                // Nobody needs the buffer back once the sink is finished.
                drop(done.send(buffer));
            }
            Ok(tar)
        };
        let thread = thread::Builder::new()
            .name("layer-tar".to_owned())
            .spawn(run)?;
        Ok(Self { full, free, thread })
    }

    fn join(self) -> io::Result<Tar> {
        drop(self.full);
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn stopped() -> io::Error {
    io::Error::other("writing the tar has failed before")
}
