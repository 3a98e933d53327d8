//! Compression of layers.

use std::io::{self, Read, Write};

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
    /// bzip2; only read.
    Bzip2,
    /// xz; only read.
    Xz,
}

/// Returns the compression of `reader`, told by its first bytes, and a reader of what is in it.
pub fn decompress<'a>(
    reader: Box<dyn Read + Send + 'a>,
) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    unimplemented!("{:p}", reader)
}

/// Compresses all of `input` to `output`, and returns how many bytes were written.
pub fn compress(
    input: &mut dyn Read,
    output: &mut dyn Write,
    compression: Compression,
) -> io::Result<u64> {
    unimplemented!("{:p} {:p} {compression:?}", input, output)
}
