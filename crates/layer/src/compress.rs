//! Compression of layers: the same bytes on any machine, with any number of threads.
//!
//! The input is cut into blocks of fixed length, and each becomes a gzip member or a zstd frame
//! of its own. Both formats define a file as a sequence of those, and every engine and registry
//! reads them so: eStargz and zstd:chunked layers are made the same way.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use libdeflater::{CompressionLvl, Compressor as Deflate};

/// A compression of layer tars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// The tar as it is.
    None,
    /// gzip.
    Gzip {
        /// 1 (fast) to 12 (small).
        level: i32,
    },
    /// Zstandard.
    Zstd {
        /// 1 (fast) to 19 (small).
        level: i32,
    },
}

impl Compression {
    /// What a layer gets when nobody asks for another: four times faster than `gzip -6`, 4 % larger.
    pub const DEFAULT: Self = Self::Gzip { level: 2 };

    /// Cutting every MiB costs gzip 0.3 % in size; zstd finds matches further away.
    const fn block_size(self) -> u64 {
        match self {
            Self::None | Self::Gzip { .. } => 1 << 20,
            Self::Zstd { .. } => 4 << 20,
        }
    }
}

/// Each worker has one block in work and one waiting.
const BLOCKS_PER_WORKER: usize = 2;

/// More threads than this wait for the one that reads and writes.
const MAX_WORKERS: usize = 8;

/// Compresses all of `input` to `output`, and returns how many bytes were written.
pub fn compress(
    input: &mut dyn Read,
    output: &mut dyn Write,
    compression: Compression,
) -> io::Result<u64> {
    if compression == Compression::None {
        return io::copy(input, output);
    }
    let mut first = Block::default();
    let mut encoder = Encoder::new(compression)?;
    if !first.fill(input, compression.block_size())? {
        encoder.encode(&mut first)?;
        output.write_all(&first.packed)?;
        return Ok(length(&first.packed));
    }
    drop(encoder);
    thread::scope(|scope| {
        let count = thread::available_parallelism().map_or(1, |count| count.get().min(MAX_WORKERS));
        let mut workers = Vec::with_capacity(count);
        for _ in 0..count {
            let (work, jobs) = sync_channel(BLOCKS_PER_WORKER);
            let (done, results) = sync_channel(BLOCKS_PER_WORKER);
            let encoder = Encoder::new(compression)?;
            scope.spawn(move || run_worker(encoder, &jobs, &done));
            workers.push(Worker { work, results });
        }
        feed(input, output, first, &workers, compression.block_size())
    })
}

/// Deals blocks to the workers in turn and takes the results back in the same order.
fn feed(
    input: &mut dyn Read,
    output: &mut dyn Write,
    first: Block,
    workers: &[Worker],
    block_size: u64,
) -> io::Result<u64> {
    let turns = workers.len() * BLOCKS_PER_WORKER;
    let mut written = 0;
    let mut next = Some(first);
    let mut sent = 0;
    let mut taken = 0;
    while taken < sent || next.is_some() {
        if let Some(block) = next.take() {
            let more = block.full;
            workers[sent % workers.len()]
                .work
                .send(block)
                .map_err(|_| stopped())?;
            sent += 1;
            if !more {
                continue;
            }
            let mut block = Block::default();
            if sent - taken >= turns {
                block = take(output, &workers[taken % workers.len()], &mut written)?;
                taken += 1;
            }
            block.fill(input, block_size)?;
            // The input ended with the block before, which is then the last.
            next = (!block.plain.is_empty()).then_some(block);
            continue;
        }
        take(output, &workers[taken % workers.len()], &mut written)?;
        taken += 1;
    }
    Ok(written)
}

fn take(output: &mut dyn Write, worker: &Worker, written: &mut u64) -> io::Result<Block> {
    let block = worker.results.recv().map_err(|_| stopped())??;
    output.write_all(&block.packed)?;
    *written += length(&block.packed);
    Ok(block)
}

fn stopped() -> io::Error {
    io::Error::other("a compression thread stopped")
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("invariant: a buffer's length fits in 64 bits")
}

struct Worker {
    work: SyncSender<Block>,
    results: Receiver<io::Result<Block>>,
}

fn run_worker(mut encoder: Encoder, jobs: &Receiver<Block>, done: &SyncSender<io::Result<Block>>) {
    while let Ok(mut block) = jobs.recv() {
        let result = encoder.encode(&mut block).map(|()| block);
        // Nobody listens any more when writing failed.
        if done.send(result).is_err() {
            return;
        }
    }
}

/// A piece of the input and what becomes of it. Both buffers are used again: fresh memory costs
/// more than compressing it fast.
#[derive(Default)]
struct Block {
    plain: Vec<u8>,
    packed: Vec<u8>,
    full: bool,
}

impl Block {
    /// Reads the next block, and tells whether it is full, so that there may be more.
    fn fill(&mut self, input: &mut dyn Read, size: u64) -> io::Result<bool> {
        self.plain.clear();
        input.take(size).read_to_end(&mut self.plain)?;
        self.full = length(&self.plain) == size;
        Ok(self.full)
    }
}

enum Encoder {
    Gzip(Deflate),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Encoder {
    fn new(compression: Compression) -> io::Result<Self> {
        let invalid = |level| {
            let text = format!("invalid compression level {level}");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        };
        match compression {
            Compression::Gzip { level } => {
                let level = CompressionLvl::new(level).map_err(|_| invalid(level))?;
                Ok(Self::Gzip(Deflate::new(level)))
            }
            Compression::Zstd { level } => {
                if !zstd::compression_level_range().contains(&level) {
                    return Err(invalid(level));
                }
                let mut encoder = zstd::bulk::Compressor::new(level)?;
                encoder.include_checksum(true)?;
                Ok(Self::Zstd(encoder))
            }
            Compression::None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn encode(&mut self, block: &mut Block) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => {
                let bound = encoder.gzip_compress_bound(block.plain.len());
                block.packed.resize(bound, 0);
                let length = encoder
                    .gzip_compress(&block.plain, &mut block.packed)
                    .map_err(io::Error::other)?;
                block.packed.truncate(length);
            }
            Self::Zstd(encoder) => {
                block.packed.clear();
                block
                    .packed
                    .reserve(zstd::zstd_safe::compress_bound(block.plain.len()));
                encoder.compress_to_buffer(&block.plain, &mut block.packed)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decompress;

    /// Compressible text with a long period, from a fixed linear congruence.
    fn sample(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut bytes = Vec::with_capacity(length + 4);
        while bytes.len() < length {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let word = state.to_be_bytes();
            bytes.extend_from_slice(&[word[0] & 0x1f, word[0] & 0x1f, b'x', word[1] & 3]);
        }
        bytes.truncate(length);
        bytes
    }

    const KINDS: [Compression; 5] = [
        Compression::None,
        Compression::DEFAULT,
        Compression::Gzip { level: 9 },
        Compression::Zstd { level: 1 },
        Compression::Zstd { level: 3 },
    ];

    #[test]
    fn what_was_compressed_decompresses_to_the_same() {
        let mib = 1 << 20;
        for length in [0, 1, mib - 1, mib, mib + 1, 4 * mib, 9 * mib + 17] {
            let plain = sample(length);
            for compression in KINDS {
                let mut packed = Vec::new();
                let written = compress(&mut &plain[..], &mut packed, compression).unwrap();
                assert_eq!(written, u64::try_from(packed.len()).unwrap());
                let (_, mut reader) = decompress(Box::new(&packed[..])).unwrap();
                let mut unpacked = Vec::new();
                reader.read_to_end(&mut unpacked).unwrap();
                assert!(unpacked == plain, "{compression:?} {length}");
            }
        }
    }

    #[test]
    fn the_bytes_are_those_of_blocks_compressed_one_by_one() {
        let plain = sample((9 << 20) + 5);
        for compression in [Compression::DEFAULT, Compression::Zstd { level: 3 }] {
            let mut packed = Vec::new();
            compress(&mut &plain[..], &mut packed, compression).unwrap();
            let mut expected = Vec::new();
            let size = usize::try_from(compression.block_size()).unwrap();
            for piece in plain.chunks(size) {
                compress(&mut &piece[..], &mut expected, compression).unwrap();
            }
            assert!(packed == expected, "{compression:?}");
        }
    }

    #[test]
    fn reading_and_writing_errors_end_the_work() {
        struct Failing(u64);
        impl Read for Failing {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if self.0 == 0 {
                    return Err(io::Error::other("no more"));
                }
                self.0 -= 1;
                Ok(buffer.len().min(65536))
            }
        }
        impl Write for Failing {
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                Read::read(self, &mut vec![0; buffer.len()])
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let plain = sample(20 << 20);
        for compression in KINDS {
            compress(&mut Failing(100), &mut io::sink(), compression).unwrap_err();
            compress(&mut &plain[..], &mut Failing(1), compression).unwrap_err();
        }
    }

    #[test]
    fn levels_that_do_not_exist_are_refused() {
        for compression in [
            Compression::Gzip { level: 13 },
            Compression::Zstd { level: 99 },
        ] {
            let error = compress(&mut &b"x"[..], &mut io::sink(), compression).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
