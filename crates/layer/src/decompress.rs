//! Decompression of layers, by what the bytes are and not by what a media type says.

use std::fmt;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;

use crate::size;

/// How the bytes of a layer are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Not at all.
    Plain,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

impl Format {
    const MAGIC_LENGTH: usize = 6;

    fn of(magic: &[u8]) -> Self {
        match magic {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::Plain,
        }
    }
}

/// An archive names its own memory need: `xz -9` takes 65 MiB.
const MAX_XZ_MEMORY: u64 = 512 << 20;

/// How far compressed input may swell.
#[derive(Debug, Clone, Copy)]
struct Swelling {
    /// This much is nobody's harm, whatever it came from.
    floor: u64,
    /// More than that may be so many times its input.
    ratio: u64,
}

/// Images of virtual machines have many zeros, but gigabytes of them beside content. gzip cannot
/// reach the ratio; zstd, xz and bzip2 make a terabyte of a few megabytes.
const SWELLING: Swelling = Swelling {
    floor: 16 << 30,
    ratio: 1100,
};

/// Returns how `reader` is packed, told by its first bytes, and a reader of what is in it.
///
/// Input that ends too early is an error ([`io::ErrorKind::UnexpectedEof`] or `InvalidData`).
/// What follows the last gzip member or zstd frame and is neither is read to its end and ignored,
/// as docker does: the caller's digest of the compressed bytes covers it. More than 16 GiB that are
/// more than 1,100 times what they came from are an error: a decompression bomb.
pub fn decompress<'a>(
    reader: Box<dyn Read + Send + 'a>,
) -> io::Result<(Format, Box<dyn Read + Send + 'a>)> {
    decompress_within(reader, SWELLING)
}

fn decompress_within<'a>(
    reader: Box<dyn Read + Send + 'a>,
    swelling: Swelling,
) -> io::Result<(Format, Box<dyn Read + Send + 'a>)> {
    let taken = Arc::new(AtomicU64::new(0));
    let counting = Counting {
        reader,
        taken: Arc::clone(&taken),
    };
    let mut input = Input::new(Box::new(counting));
    let format = Format::of(input.peek(Format::MAGIC_LENGTH)?);
    let plain: Box<dyn Read + Send + 'a> = match format {
        Format::Plain => Box::new(input),
        Format::Gzip => Box::new(Parts::<GzDecoder<_>>::new(input)?),
        Format::Zstd => Box::new(Parts::<zstd::stream::read::Decoder<'static, _>>::new(
            input,
        )?),
        Format::Bzip2 => Box::new(MultiBzDecoder::new(input)),
        Format::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(
                MAX_XZ_MEMORY,
                liblzma::stream::CONCATENATED,
            )?;
            Box::new(XzDecoder::new_stream(input, stream))
        }
    };
    if format == Format::Plain {
        return Ok((format, plain));
    }
    let watched = Watched {
        reader: plain,
        given: 0,
        taken,
        swelling,
    };
    Ok((format, Box::new(watched)))
}

/// Counts what is read.
struct Counting<'a> {
    reader: Box<dyn Read + Send + 'a>,
    taken: Arc<AtomicU64>,
}

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        self.taken
            .fetch_add(size::on_disk(length), Ordering::Relaxed);
        Ok(length)
    }
}

/// Compares what comes out with what went in.
struct Watched<'a> {
    reader: Box<dyn Read + Send + 'a>,
    given: u64,
    taken: Arc<AtomicU64>,
    swelling: Swelling,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        self.given += size::on_disk(length);
        let Swelling { floor, ratio } = self.swelling;
        if self.given > floor {
            let taken = self.taken.load(Ordering::Relaxed);
            if self.given / ratio > taken {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    Bomb {
                        taken,
                        ratio,
                        floor,
                    },
                ));
            }
        }
        Ok(length)
    }
}

/// Compressed input swells beyond all measure.
#[derive(Debug)]
struct Bomb {
    taken: u64,
    ratio: u64,
    floor: u64,
}

impl fmt::Display for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            taken,
            ratio,
            floor,
        } = self;
        write!(
            f,
            "decompression bomb: {taken} bytes give more than {floor} bytes and more than {ratio} \
             times their number; if that is intended, decompress it first"
        )
    }
}

impl std::error::Error for Bomb {}

/// A decoder of one gzip member or one zstd frame.
trait Part<'a>: Read + Sized {
    const FORMAT: Format;
    fn begin(input: Input<'a>) -> io::Result<Self>;
    fn end(self) -> Input<'a>;
}

impl<'a> Part<'a> for GzDecoder<Input<'a>> {
    const FORMAT: Format = Format::Gzip;

    fn begin(input: Input<'a>) -> io::Result<Self> {
        Ok(Self::new(input))
    }

    fn end(self) -> Input<'a> {
        self.into_inner()
    }
}

impl<'a> Part<'a> for zstd::stream::read::Decoder<'static, Input<'a>> {
    const FORMAT: Format = Format::Zstd;

    fn begin(input: Input<'a>) -> io::Result<Self> {
        Ok(Self::with_buffer(input)?.single_frame())
    }

    fn end(self) -> Input<'a> {
        self.finish()
    }
}

/// Reads parts one after another as one stream.
struct Parts<P>(Option<P>);

impl<'a, P: Part<'a>> Parts<P> {
    fn new(input: Input<'a>) -> io::Result<Self> {
        Ok(Self(Some(P::begin(input)?)))
    }
}

impl<'a, P: Part<'a>> Read for Parts<P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(part) = self.0.as_mut() else {
                return Ok(0);
            };
            let length = part.read(buffer)?;
            if length > 0 {
                return Ok(length);
            }
            let Some(part) = self.0.take() else {
                return Ok(0);
            };
            let mut input = part.end();
            if Format::of(input.peek(Format::MAGIC_LENGTH)?) != P::FORMAT {
                io::copy(&mut input, &mut io::sink())?;
                return Ok(0);
            }
            self.0 = Some(P::begin(input)?);
        }
    }
}

/// A buffered reader whose next bytes can be looked at.
struct Input<'a> {
    reader: Box<dyn Read + Send + 'a>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<'a> Input<'a> {
    const BUFFER_SIZE: usize = 128 << 10;

    fn new(reader: Box<dyn Read + Send + 'a>) -> Self {
        Self {
            reader,
            buffer: vec![0; Self::BUFFER_SIZE].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// Returns the next `length` bytes without taking them; fewer only at the end.
    fn peek(&mut self, length: usize) -> io::Result<&[u8]> {
        while self.end - self.start < length {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let end = self.end.min(self.start + length);
        Ok(&self.buffer[self.start..end])
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A large read of plain bytes needs no copy in between.
        if self.start == self.end && buffer.len() >= self.buffer.len() {
            return self.reader.read(buffer);
        }
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Input<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            self.end = self.reader.read(&mut self.buffer)?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, length: usize) {
        self.start = self.end.min(self.start + length);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const TEXT: &[u8] = b"a layer is a tar, and a tar is a layer of bytes";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn packed(format: Format) -> Vec<u8> {
        match format {
            Format::Plain => TEXT.to_vec(),
            Format::Gzip => gzip(TEXT),
            Format::Zstd => zstd::stream::encode_all(TEXT, 1).unwrap(),
            Format::Bzip2 => {
                let mut encoder =
                    bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(TEXT).unwrap();
                encoder.finish().unwrap()
            }
            Format::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
                encoder.write_all(TEXT).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    const PACKED: [Format; 4] = [Format::Gzip, Format::Zstd, Format::Bzip2, Format::Xz];

    /// Gives one byte a read, as a slow connection may.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(1);
            self.0.read(&mut buffer[..length])
        }
    }

    fn unpack(bytes: &[u8]) -> io::Result<(Format, Vec<u8>)> {
        let read = |reader: Box<dyn Read + Send + '_>| {
            let (format, mut reader) = decompress(reader)?;
            let mut plain = Vec::new();
            reader.read_to_end(&mut plain)?;
            Ok((format, plain))
        };
        let fast: io::Result<_> = read(Box::new(bytes));
        let slow: io::Result<_> = read(Box::new(Slow(bytes)));
        assert_eq!(fast.as_ref().ok(), slow.as_ref().ok());
        fast
    }

    #[test]
    fn the_format_is_told_by_the_bytes() {
        for format in [&PACKED[..], &[Format::Plain]].concat() {
            assert_eq!(unpack(&packed(format)).unwrap(), (format, TEXT.to_vec()));
        }
        assert_eq!(unpack(b"").unwrap(), (Format::Plain, Vec::new()));
    }

    #[test]
    fn what_swells_beyond_measure_is_an_error() {
        let swelling = Swelling {
            floor: 4 << 20,
            ratio: 1100,
        };
        let zeros = |format, length: u64| {
            let zeros = io::repeat(0).take(length);
            match format {
                Format::Zstd => zstd::stream::encode_all(zeros, 1).unwrap(),
                _ => {
                    let mut packed = bzip2::read::BzEncoder::new(zeros, bzip2::Compression::fast());
                    let mut bytes = Vec::new();
                    packed.read_to_end(&mut bytes).unwrap();
                    bytes
                }
            }
        };
        let read = |bytes: &[u8]| {
            let (_, mut reader) = decompress_within(Box::new(bytes), swelling)?;
            io::copy(&mut reader, &mut io::sink())
        };
        for format in [Format::Zstd, Format::Bzip2] {
            assert_eq!(read(&zeros(format, 4 << 20)).unwrap(), 4 << 20);
            let error = read(&zeros(format, 8 << 20)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().starts_with("decompression bomb"));
        }
        // What is beside them counts: 32 KiB that do not shrink carry 32 MiB of zeros.
        let noise = testkit::random::Random::new(1).bytes(32 << 10);
        let noise = zstd::stream::encode_all(noise.as_slice(), 1).unwrap();
        let both = [noise, zeros(Format::Zstd, 32 << 20)].concat();
        assert_eq!(read(&both).unwrap(), (32 << 10) + (32 << 20));
        // gzip cannot do it.
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 8 << 20]).unwrap();
        assert_eq!(read(&encoder.finish().unwrap()).unwrap(), 8 << 20);
    }

    #[test]
    fn a_window_of_gigabytes_is_refused() {
        // A frame of one empty block that asks for a window of 2 GiB.
        let zstd = b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00";
        assert!(unpack(zstd).is_err());
        let mut allowed = *zstd;
        allowed[5] = 0x88;
        assert_eq!(unpack(&allowed).unwrap(), (Format::Zstd, Vec::new()));
    }

    #[test]
    fn a_dictionary_of_gigabytes_is_refused() {
        // The dictionary's size is byte 16: in the block's header, which is bytes 12 to 23 with
        // its checksum.
        let asking = |size: u8| {
            let mut xz = packed(Format::Xz);
            xz[16] = size;
            let mut sum = flate2::Crc::new();
            sum.update(&xz[12..20]);
            xz[20..24].copy_from_slice(&sum.sum().to_le_bytes());
            xz
        };
        let (mib_384, gib_3) = (33, 39);
        assert_eq!(
            unpack(&asking(mib_384)).unwrap(),
            (Format::Xz, TEXT.to_vec())
        );
        assert!(unpack(&asking(gib_3)).is_err());
    }

    #[test]
    fn several_parts_are_one_stream() {
        for format in PACKED {
            let twice = [packed(format), packed(format)].concat();
            assert_eq!(unpack(&twice).unwrap(), (format, [TEXT, TEXT].concat()));
        }
        let skippable = [
            b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec(),
            packed(Format::Zstd),
        ]
        .concat();
        assert_eq!(unpack(&skippable).unwrap(), (Format::Zstd, TEXT.to_vec()));
        let empty = [gzip(b""), gzip(b""), gzip(TEXT)].concat();
        assert_eq!(unpack(&empty).unwrap(), (Format::Gzip, TEXT.to_vec()));
    }

    #[test]
    fn input_that_ends_early_is_an_error() {
        for format in PACKED {
            let whole = packed(format);
            for length in Format::MAGIC_LENGTH..whole.len() {
                assert!(unpack(&whole[..length]).is_err(), "{format:?} {length}");
            }
        }
        for format in [Format::Gzip, Format::Zstd] {
            let whole = packed(format);
            let second = [&whole[..], &whole[..whole.len() - 1]].concat();
            assert!(unpack(&second).is_err(), "{format:?}");
        }
    }

    #[test]
    fn damage_is_an_error() {
        for format in PACKED {
            let mut bytes = packed(format);
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
            let result = unpack(&bytes);
            // A zstd frame need not carry a checksum; then the digest of the layer tells.
            assert!(result.is_err() || result.unwrap().1 != TEXT, "{format:?}");
        }
    }

    #[test]
    fn bytes_after_the_last_part_are_read_and_ignored() {
        for format in [Format::Gzip, Format::Zstd] {
            for trailer in [&b"\0\0\0\0"[..], b"\x1f", b"garbage"] {
                let bytes = [&packed(format)[..], trailer].concat();
                let mut rest = &bytes[..];
                let (_, mut reader) = decompress(Box::new(&mut rest)).unwrap();
                let mut plain = Vec::new();
                reader.read_to_end(&mut plain).unwrap();
                drop(reader);
                assert_eq!(plain, TEXT);
                assert!(rest.is_empty(), "{format:?}");
            }
        }
    }
}
