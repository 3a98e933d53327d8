//! One header block.

use std::ops::Range;

/// The unit of tar.
pub(crate) const BLOCK_SIZE: usize = 512;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
/// What the checksum counts as while it is summed.
const BLANK_CHECKSUM: &[u8] = &[b' '; 8];
const TYPE: usize = 156;
const LINK_NAME: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_TRAILER: Range<usize> = 508..512;
const GNU_SPARSE: Range<usize> = 386..482;
const GNU_IS_EXTENDED: usize = 482;
const GNU_REAL_SIZE: Range<usize> = 483..495;

/// What makes a stream no tar.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream ends inside a header or inside the content of an entry.
    #[error("unexpected end of the tar")]
    Truncated,
    /// The checksum of a header is wrong: this is no header.
    #[error("invalid tar header: wrong checksum")]
    Checksum,
    /// One block of zeros is followed by something else.
    #[error("invalid tar header: lone block of zeros")]
    LoneZeroBlock,
    /// A field that holds a number holds something else, or a number out of range.
    #[error("invalid tar header: bad number in field `{field}`")]
    Number {
        /// The name of the field.
        field: &'static str,
    },
    /// A PAX record does not have the form `length key=value`, or its value is malformed.
    #[error("invalid tar header: malformed PAX record")]
    PaxRecord,
    /// A header that describes the next entry is too long.
    #[error("invalid tar header: extended header of {size} bytes")]
    ExtensionTooLarge {
        /// Its length.
        size: u64,
    },
    /// The map of a sparse file is malformed, or does not fit the file.
    #[error("invalid tar header: malformed sparse map")]
    SparseMap,
    /// A header that describes the next entry has no next entry.
    #[error("invalid tar header: extended header without an entry")]
    DanglingExtension,
    /// Nothing is known about this type of entry.
    #[error("unhandled tar header type {}", .0.escape_ascii())]
    UnknownType(u8),
}

/// The formats whose header blocks differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    V7,
    Ustar,
    Star,
    Gnu,
}

/// A header block whose checksum is right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header<'a> {
    block: &'a [u8; BLOCK_SIZE],
    pub(crate) format: Format,
}

impl<'a> Header<'a> {
    /// Checks the checksum of `block`, summed as unsigned or, as some old tars do, signed bytes.
    pub(crate) fn parse(block: &'a [u8; BLOCK_SIZE]) -> Result<Self, TarError> {
        let stored = number(&block[CHECKSUM]).ok_or(TarError::Checksum)?;
        if stored != unsigned_sum(block) && stored != signed_sum(block) {
            return Err(TarError::Checksum);
        }
        let format = match &block[MAGIC] {
            b"ustar  \0" => Format::Gnu,
            magic if magic.starts_with(b"ustar\0") && block[STAR_TRAILER] == *b"tar\0" => {
                Format::Star
            }
            magic if magic.starts_with(b"ustar\0") => Format::Ustar,
            _ => Format::V7,
        };
        Ok(Self { block, format })
    }

    pub(crate) fn type_flag(&self) -> u8 {
        self.block[TYPE]
    }

    /// Returns the name with the prefix that ustar splits off long names.
    pub(crate) fn name(&self) -> Vec<u8> {
        let prefix = match self.format {
            Format::Ustar => text(&self.block[PREFIX]),
            Format::Star => text(&self.block[STAR_PREFIX]),
            Format::V7 | Format::Gnu => b"",
        };
        let name = text(&self.block[NAME]);
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub(crate) fn link_name(&self) -> Vec<u8> {
        text(&self.block[LINK_NAME]).to_vec()
    }

    pub(crate) fn mode(&self) -> Result<u32, TarError> {
        let mode = self.field(MODE, "mode")?;
        u32::try_from(mode & 0o7777).map_err(|_| TarError::Number { field: "mode" })
    }

    pub(crate) fn uid(&self) -> Result<u32, TarError> {
        owner(self.field(UID, "uid")?).ok_or(TarError::Number { field: "uid" })
    }

    pub(crate) fn gid(&self) -> Result<u32, TarError> {
        owner(self.field(GID, "gid")?).ok_or(TarError::Number { field: "gid" })
    }

    pub(crate) fn size(&self) -> Result<u64, TarError> {
        self.unsigned(SIZE, "size")
    }

    pub(crate) fn mtime(&self) -> Result<i64, TarError> {
        self.field(MTIME, "mtime")
    }

    /// Returns the device number; v7 has none.
    pub(crate) fn device(&self) -> Result<(u32, u32), TarError> {
        if self.format == Format::V7 {
            return Ok((0, 0));
        }
        let part = |range, field| {
            u32::try_from(self.field(range, field)?).map_err(|_| TarError::Number { field })
        };
        Ok((part(MAJOR, "devmajor")?, part(MINOR, "devminor")?))
    }

    /// Returns the part of an old GNU sparse map that is in the header.
    pub(crate) fn sparse_map(&self) -> &'a [u8] {
        &self.block[GNU_SPARSE]
    }

    /// Tells whether more of an old GNU sparse map follows in blocks of its own.
    pub(crate) fn sparse_map_continues(&self) -> bool {
        self.block[GNU_IS_EXTENDED] != 0
    }

    /// Returns the length of an old GNU sparse file with its holes.
    pub(crate) fn sparse_size(&self) -> Result<u64, TarError> {
        self.unsigned(GNU_REAL_SIZE, "realsize")
    }

    fn unsigned(&self, range: Range<usize>, field: &'static str) -> Result<u64, TarError> {
        u64::try_from(self.field(range, field)?).map_err(|_| TarError::Number { field })
    }

    fn field(&self, range: Range<usize>, field: &'static str) -> Result<i64, TarError> {
        number(&self.block[range]).ok_or(TarError::Number { field })
    }
}

/// Returns an owner; what older programs write as -2 is 4294967294.
pub(crate) fn owner(number: i64) -> Option<u32> {
    u32::try_from(number)
        .ok()
        .or_else(|| i32::try_from(number).ok().map(i32::cast_unsigned))
}

/// Returns the bytes before the first NUL.
pub(crate) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0);
    &field[..end.unwrap_or(field.len())]
}

/// Reads octal digits among spaces and NULs, or GNU's base 256 (the first bit set, two's
/// complement). An empty field is 0.
pub(crate) fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base256(field),
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Option<i64> {
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| !blank(byte));
    let Some(start) = start else { return Some(0) };
    let digits = &field[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    if digits[end..].iter().any(|byte| !blank(byte)) {
        return None;
    }
    let mut value: i64 = 0;
    for digit in &digits[..end] {
        if !(b'0'..=b'7').contains(digit) {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(i64::from(digit - b'0'))?;
    }
    Some(value)
}

fn base256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let mut value: i64 = if negative { -1 } else { 0 };
    for (position, &byte) in field.iter().enumerate() {
        // The first byte carries the marker bit, which takes the sign's place.
        let byte = match (position, negative) {
            (0, true) => byte | 0x80,
            (0, false) => byte & 0x7f,
            _ => byte,
        };
        value = value.checked_mul(256)?.checked_add(i64::from(byte))?;
        if position == 0 && negative {
            value = i64::from(byte.cast_signed());
        }
    }
    Some(value)
}

/// Sums all bytes, those of the checksum itself as spaces.
fn unsigned_sum(block: &[u8; BLOCK_SIZE]) -> i64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
    i64::from(sum(&block[..CHECKSUM.start]) + sum(&block[CHECKSUM.end..]) + sum(BLANK_CHECKSUM))
}

fn signed_sum(block: &[u8; BLOCK_SIZE]) -> i64 {
    let sum = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| i64::from(byte.cast_signed()))
            .sum::<i64>()
    };
    sum(&block[..CHECKSUM.start]) + sum(&block[CHECKSUM.end..]) + sum(BLANK_CHECKSUM)
}

/// Writes the fields of a ustar header.
#[derive(Debug)]
pub(crate) struct HeaderBuilder([u8; BLOCK_SIZE]);

impl HeaderBuilder {
    pub(crate) fn new(type_flag: u8) -> Self {
        let mut block = [0; BLOCK_SIZE];
        block[TYPE] = type_flag;
        block[MAGIC].copy_from_slice(b"ustar\x0000");
        Self(block)
    }

    /// Stores `name`, split where ustar can split it. Returns false, with the name cut, when it
    /// does not fit.
    pub(crate) fn name(&mut self, name: &[u8]) -> bool {
        if name.len() <= NAME.len() {
            self.0[..name.len()].copy_from_slice(name);
            return true;
        }
        let fits = |at: &usize| *at <= PREFIX.len() && name.len() - at - 1 <= NAME.len();
        let mut slashes = (1..name.len() - 1).filter(|&at| name[at] == b'/');
        if let Some(at) = slashes.find(fits) {
            let (prefix, rest) = (&name[..at], &name[at + 1..]);
            self.0[PREFIX.start..PREFIX.start + prefix.len()].copy_from_slice(prefix);
            self.0[..rest.len()].copy_from_slice(rest);
            return true;
        }
        self.0[NAME].copy_from_slice(&name[..NAME.len()]);
        false
    }

    /// Stores the target of a link. Returns false, with the target cut, when it does not fit.
    pub(crate) fn link_name(&mut self, target: &[u8]) -> bool {
        let length = target.len().min(LINK_NAME.len());
        self.0[LINK_NAME.start..LINK_NAME.start + length].copy_from_slice(&target[..length]);
        target.len() <= LINK_NAME.len()
    }

    pub(crate) fn mode(&mut self, mode: u32) {
        let fits = self.octal(MODE, u64::from(mode));
        debug_assert!(fits, "a mode has 12 bits");
    }

    /// Stores the owner; 0 and false when it does not fit.
    pub(crate) fn uid(&mut self, uid: u32) -> bool {
        self.octal(UID, u64::from(uid))
    }

    /// Stores the group; 0 and false when it does not fit.
    pub(crate) fn gid(&mut self, gid: u32) -> bool {
        self.octal(GID, u64::from(gid))
    }

    /// Stores the length of the content; 0 and false when it does not fit.
    pub(crate) fn size(&mut self, size: u64) -> bool {
        self.octal(SIZE, size)
    }

    /// Stores the seconds; 0 and false when they do not fit.
    pub(crate) fn mtime(&mut self, seconds: i64) -> bool {
        match u64::try_from(seconds) {
            Ok(seconds) => self.octal(MTIME, seconds),
            Err(_) => {
                self.octal(MTIME, 0);
                false
            }
        }
    }

    /// Stores a device number. Linux has 12 and 20 bits, which fit.
    pub(crate) fn device(&mut self, major: u32, minor: u32) {
        let fits = self.octal(MAJOR, u64::from(major)) && self.octal(MINOR, u64::from(minor));
        debug_assert!(fits, "a device number has 12 and 20 bits");
    }

    /// Adds the checksum.
    pub(crate) fn finish(mut self) -> [u8; BLOCK_SIZE] {
        let sum = unsigned_sum(&self.0);
        let text = format!("{sum:06o}\0 ");
        self.0[CHECKSUM].copy_from_slice(text.as_bytes());
        self.0
    }

    fn octal(&mut self, range: Range<usize>, value: u64) -> bool {
        let width = range.len() - 1;
        let text = format!("{value:0width$o}");
        let fits = text.len() == width;
        let zeros = "0".repeat(width);
        let digits = if fits { &text } else { &zeros };
        self.0[range.start..range.start + width].copy_from_slice(digits.as_bytes());
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777", Some(0o7777_7777)),
            (b"0000844\0", None),
            (b"1 2\0\0\0\0\0", None),
            (b"-1\0\0\0\0\0\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (
                b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
                Some(i64::MAX),
            ),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN)),
        ] {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }

    #[test]
    fn a_written_header_reads_back() {
        let mut builder = HeaderBuilder::new(b'0');
        let long = [&[b'd'; 120][..], b"/", &[b'f'; 90]].concat();
        assert!(builder.name(&long));
        builder.mode(0o4755);
        assert!(builder.uid(1000) && builder.mtime(1_700_000_000) && builder.size(12));
        assert!(!builder.gid(u32::MAX));
        let block = builder.finish();
        let header = Header::parse(&block).expect("valid");
        assert_eq!(header.format, Format::Ustar);
        assert_eq!(header.name(), long);
        assert_eq!(header.mode().ok(), Some(0o4755));
        assert_eq!(header.uid().ok(), Some(1000));
        assert_eq!(header.gid().ok(), Some(0));
        assert_eq!(header.mtime().ok(), Some(1_700_000_000));
        assert_eq!(header.size().ok(), Some(12));
    }

    #[test]
    fn a_changed_header_is_refused() {
        let mut block = HeaderBuilder::new(b'0').finish();
        block[0] = b'x';
        assert!(matches!(Header::parse(&block), Err(TarError::Checksum)));
    }
}
