//! The maps of sparse files, of which a tar stores only the data between the holes.

use crate::tar::TarError;
use crate::tar::header::{BLOCK_SIZE, number};
use crate::tar::pax::{Records, decimal};
use crate::tar::stream::{StreamError, Tee};

/// The most segments of one file; each costs 16 bytes of memory.
const MAX_SEGMENTS: usize = 1 << 20;
/// Offset and length, 12 bytes each.
const OLD_SEGMENT: usize = 24;
/// Whether more blocks follow, after 21 segments.
const OLD_IS_EXTENDED: usize = 504;

/// Stored bytes of a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where in the file they belong.
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// Which form of sparse map an entry has.
#[derive(Debug)]
pub(crate) enum PaxForm {
    /// 0.0 and 0.1: the map is in the records.
    Records { segments: Vec<Segment>, size: u64 },
    /// 1.0: the map precedes the data.
    InData { size: u64 },
}

/// Finds the sparse form that PAX records describe.
pub(crate) fn pax_form(records: &Records) -> Result<Option<PaxForm>, TarError> {
    let version = (
        records.number("GNU.sparse.major")?,
        records.number("GNU.sparse.minor")?,
    );
    if version == (Some(1), Some(0)) {
        let size = records
            .number("GNU.sparse.realsize")?
            .ok_or(TarError::SparseMap)?;
        return Ok(Some(PaxForm::InData { size }));
    }
    if version.0.is_some_and(|major| major > 1) {
        return Err(TarError::SparseMap);
    }
    let Some(size) = records.number("GNU.sparse.size")? else {
        return Ok(None);
    };
    let numbers: Vec<u64> = match records.get(b"GNU.sparse.map") {
        Some(map) => map
            .split(|&byte| byte == b',')
            .map(|text| decimal(text).ok_or(TarError::SparseMap))
            .collect::<Result<_, _>>()?,
        None => numbers_of_records(records)?,
    };
    let segments = pairs(&numbers)?;
    if let Some(count) = records.number("GNU.sparse.numblocks")?
        && count != crate::size::on_disk(segments.len())
    {
        return Err(TarError::SparseMap);
    }
    Ok(Some(PaxForm::Records { segments, size }))
}

fn numbers_of_records(records: &Records) -> Result<Vec<u64>, TarError> {
    let mut numbers = Vec::new();
    for (key, value) in records.iter() {
        let expects_length = numbers.len() % 2 == 1;
        match key {
            b"GNU.sparse.offset" if !expects_length => {}
            b"GNU.sparse.numbytes" if expects_length => {}
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => return Err(TarError::SparseMap),
            _ => continue,
        }
        numbers.push(decimal(value).ok_or(TarError::SparseMap)?);
    }
    Ok(numbers)
}

fn pairs(numbers: &[u64]) -> Result<Vec<Segment>, TarError> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() || pairs.len() > MAX_SEGMENTS {
        return Err(TarError::SparseMap);
    }
    Ok(pairs
        .iter()
        .map(|&[offset, length]| Segment { offset, length })
        .collect())
}

/// Reads a map of form 1.0 from the start of the data: decimal numbers, one a line, padded to a
/// block. Returns it with the bytes it took.
pub(crate) fn read_map(tee: &mut Tee<'_>) -> Result<(Vec<Segment>, u64), StreamError> {
    let mut lines = Lines {
        tee,
        block: [0; BLOCK_SIZE],
        next: BLOCK_SIZE,
        taken: 0,
    };
    let count = lines.number()?;
    let count = usize::try_from(count)
        .ok()
        .filter(|count| *count <= MAX_SEGMENTS);
    let count = count.ok_or(TarError::SparseMap)?;
    let mut segments = Vec::new();
    for _ in 0..count {
        let (offset, length) = (lines.number()?, lines.number()?);
        segments.push(Segment { offset, length });
    }
    let taken = lines.taken;
    Ok((segments, taken))
}

struct Lines<'a, 'b> {
    tee: &'a mut Tee<'b>,
    block: [u8; BLOCK_SIZE],
    next: usize,
    taken: u64,
}

impl Lines<'_, '_> {
    fn number(&mut self) -> Result<u64, StreamError> {
        let mut digits = Vec::new();
        loop {
            if self.next == BLOCK_SIZE {
                self.block = self.tee.block()?.ok_or(TarError::Truncated)?;
                self.taken += crate::size::on_disk(BLOCK_SIZE);
                self.next = 0;
            }
            let byte = self.block[self.next];
            self.next += 1;
            match byte {
                b'\n' => return Ok(decimal(&digits).ok_or(TarError::SparseMap)?),
                // 20 digits hold every 64-bit number.
                b'0'..=b'9' if digits.len() < 20 => digits.push(byte),
                _ => return Err(TarError::SparseMap.into()),
            }
        }
    }
}

/// Reads an old GNU map: `first` from the header, then blocks of their own while they say so.
pub(crate) fn read_old_map(
    first: &[u8],
    continues: bool,
    tee: &mut Tee<'_>,
) -> Result<Vec<Segment>, StreamError> {
    let mut segments = old_segments(first)?;
    let mut continues = continues;
    while continues {
        let block = tee.block()?.ok_or(TarError::Truncated)?;
        segments.extend(old_segments(&block[..OLD_IS_EXTENDED])?);
        if segments.len() > MAX_SEGMENTS {
            return Err(TarError::SparseMap.into());
        }
        continues = block[OLD_IS_EXTENDED] != 0;
    }
    Ok(segments)
}

fn old_segments(map: &[u8]) -> Result<Vec<Segment>, TarError> {
    let mut segments = Vec::new();
    for segment in map.chunks_exact(OLD_SEGMENT) {
        if segment[0] == 0 {
            break;
        }
        let (offset, length) = segment.split_at(OLD_SEGMENT / 2);
        let part = |field| number(field).and_then(|value| u64::try_from(value).ok());
        let (Some(offset), Some(length)) = (part(offset), part(length)) else {
            return Err(TarError::SparseMap);
        };
        segments.push(Segment { offset, length });
    }
    Ok(segments)
}

/// Checks that the segments come in order, do not overlap, lie in the file, and are all that is
/// stored. Empty ones, which mark the end of a file, are dropped.
pub(crate) fn check(
    mut segments: Vec<Segment>,
    size: u64,
    stored: u64,
) -> Result<Vec<Segment>, TarError> {
    let (mut end, mut total) = (0_u64, 0_u64);
    for segment in &segments {
        if segment.offset < end {
            return Err(TarError::SparseMap);
        }
        end = segment
            .offset
            .checked_add(segment.length)
            .ok_or(TarError::SparseMap)?;
        total += segment.length;
    }
    if end > size || total != stored {
        return Err(TarError::SparseMap);
    }
    segments.retain(|segment| segment.length > 0);
    Ok(segments)
}
