//! Tars made byte by byte: well-formed ones, random ones and broken ones.
//!
//! ```
//! use testkit::tarball::{Member, Tarball};
//!
//! let mut tar = Tarball::new();
//! tar.push(&Member::directory("etc")).push(&Member::file("etc/hello", b"hello"));
//! let bytes = tar.finish();
//! assert_eq!(bytes.len() % 512, 0);
//! ```

use std::collections::BTreeMap;

const BLOCK: usize = 512;

/// How a member is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Before POSIX: no magic number, no prefix.
    V7,
    /// POSIX.1-1988: names up to 255 bytes.
    Ustar,
    /// GNU: long names in members of their own, numbers in base 256.
    Gnu,
    /// POSIX.1-2001: what does not fit is in a member of its own, as are times with nanoseconds
    /// and extended attributes.
    #[default]
    Pax,
}

/// One member of a tar.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// How it is written.
    pub format: Format,
    /// The type flag.
    pub flag: u8,
    /// The name as written, with or without slashes at its ends.
    pub name: Vec<u8>,
    /// The target of a link.
    pub link_name: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u64,
    /// The group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Written only as PAX.
    pub nanoseconds: u32,
    /// Major and minor number.
    pub device: (u64, u64),
    /// Extended attributes, written only as PAX.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Further PAX records, in order.
    pub records: Vec<(Vec<u8>, Vec<u8>)>,
    /// What follows the header.
    pub content: Vec<u8>,
    /// A size for the header that is not that of the content.
    pub claimed_size: Option<u64>,
}

impl Member {
    /// Returns a member of type `flag`.
    pub fn new(flag: u8, name: impl AsRef<[u8]>) -> Self {
        let mode = if flag == b'5' { 0o755 } else { 0o644 };
        Self {
            flag,
            name: name.as_ref().to_vec(),
            mode,
            ..Self::default()
        }
    }

    /// Returns a regular file.
    pub fn file(name: impl AsRef<[u8]>, content: &[u8]) -> Self {
        Self {
            content: content.to_vec(),
            ..Self::new(b'0', name)
        }
    }

    /// Returns a directory; its name gets a slash at its end.
    pub fn directory(name: impl AsRef<[u8]>) -> Self {
        Self::new(b'5', [name.as_ref(), b"/"].concat())
    }

    /// Returns a symbolic link.
    pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self {
            link_name: target.as_ref().to_vec(),
            mode: 0o777,
            ..Self::new(b'2', name)
        }
    }

    /// Returns a hard link to the member `target`.
    pub fn hardlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self {
            link_name: target.as_ref().to_vec(),
            ..Self::new(b'1', name)
        }
    }

    /// Returns a character device.
    pub fn char_device(name: impl AsRef<[u8]>, major: u64, minor: u64) -> Self {
        Self {
            device: (major, minor),
            ..Self::new(b'3', name)
        }
    }

    /// Returns a named pipe.
    pub fn fifo(name: impl AsRef<[u8]>) -> Self {
        Self::new(b'6', name)
    }

    /// Sets an extended attribute.
    pub fn xattr(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.xattrs
            .insert(name.as_ref().to_vec(), value.as_ref().to_vec());
        self
    }

    /// Adds a PAX record.
    pub fn record(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.records
            .push((key.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Sets the format.
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }
}

/// A tar being made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tarball {
    bytes: Vec<u8>,
}

impl Tarball {
    /// Returns a tar without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a member, with what its format needs before it.
    pub fn push(&mut self, member: &Member) -> &mut Self {
        match member.format {
            Format::Gnu => {
                self.long(b'L', &member.name);
                self.long(b'K', &member.link_name);
            }
            Format::Pax => {
                let records = pax_records(member);
                if !records.is_empty() {
                    self.extension(b'x', &encode_records(&records));
                }
            }
            Format::V7 | Format::Ustar => {}
        }
        self.bytes.extend_from_slice(&header(member));
        self.padded(&member.content)
    }

    /// Adds a global PAX header.
    pub fn global(&mut self, records: &[(&str, &str)]) -> &mut Self {
        let records: Vec<(Vec<u8>, Vec<u8>)> = records
            .iter()
            .map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        self.extension(b'g', &encode_records(&records))
    }

    /// Adds a member that describes the next one: `x`, `g`, `L` or `K`.
    pub fn extension(&mut self, flag: u8, content: &[u8]) -> &mut Self {
        let member = Member {
            format: Format::Ustar,
            content: content.to_vec(),
            ..Member::new(flag, "././@LongLink")
        };
        self.bytes.extend_from_slice(&header(&member));
        self.padded(content)
    }

    /// Adds bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Returns the bytes so far, without an end marker.
    pub fn unfinished(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    /// Returns the bytes with an end marker.
    pub fn finish(&self) -> Vec<u8> {
        [self.bytes.as_slice(), &[0; 2 * BLOCK]].concat()
    }

    fn long(&mut self, flag: u8, name: &[u8]) {
        if name.len() > 100 {
            self.extension(flag, &[name, b"\0"].concat());
        }
    }

    fn padded(&mut self, content: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(content);
        self.bytes
            .resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        self
    }
}

/// Returns the header block of `member`, with a right checksum.
pub fn header(member: &Member) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let (prefix, name) = split_name(member);
    put(&mut block, 0, cut(name, 100));
    number(&mut block, 100, 8, i128::from(member.mode), member.format);
    number(&mut block, 108, 8, i128::from(member.uid), member.format);
    number(&mut block, 116, 8, i128::from(member.gid), member.format);
    let size = u64::try_from(member.content.len()).expect("invariant: 64 bits");
    let size = member.claimed_size.unwrap_or(size);
    number(&mut block, 124, 12, i128::from(size), member.format);
    number(&mut block, 136, 12, i128::from(member.mtime), member.format);
    block[156] = member.flag;
    put(&mut block, 157, cut(&member.link_name, 100));
    match member.format {
        Format::V7 => {}
        Format::Gnu => put(&mut block, 257, b"ustar  \0"),
        Format::Ustar | Format::Pax => put(&mut block, 257, b"ustar\x0000"),
    }
    if member.format != Format::V7 {
        number(
            &mut block,
            329,
            8,
            i128::from(member.device.0),
            member.format,
        );
        number(
            &mut block,
            337,
            8,
            i128::from(member.device.1),
            member.format,
        );
    }
    put(&mut block, 345, cut(prefix, 155));
    seal(&mut block);
    block
}

/// Writes the checksum of a header block.
pub fn seal(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    put(block, 148, format!("{sum:06o}\0 ").as_bytes());
}

/// Returns PAX records as the content of an extended header.
pub fn encode_records(records: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let fits = |length: &usize| rest + length.to_string().len() == *length;
        let length = (rest..).find(fits).unwrap_or(rest);
        bytes.extend_from_slice(format!("{length} ").as_bytes());
        bytes.extend_from_slice(&[key, &b"="[..], value, b"\n"].concat());
    }
    bytes
}

fn pax_records(member: &Member) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut records = Vec::new();
    let mut record = |key: &str, value: Vec<u8>| records.push((key.as_bytes().to_vec(), value));
    if split_name(member).1.len() > 100 {
        record("path", member.name.clone());
    }
    if member.link_name.len() > 100 {
        record("linkpath", member.link_name.clone());
    }
    for (key, value) in [("uid", member.uid), ("gid", member.gid)] {
        if value > 0o7_777_777 {
            record(key, value.to_string().into_bytes());
        }
    }
    if member.nanoseconds > 0 || member.mtime < 0 {
        let text = format!("{}.{:09}", member.mtime, member.nanoseconds);
        record("mtime", text.into_bytes());
    }
    for (name, value) in &member.xattrs {
        records.push(([b"SCHILY.xattr.", name.as_slice()].concat(), value.clone()));
    }
    records.extend(member.records.iter().cloned());
    records
}

/// Splits a long name at a slash, where the format can.
fn split_name(member: &Member) -> (&[u8], &[u8]) {
    let name = member.name.as_slice();
    let can_split = matches!(member.format, Format::Ustar | Format::Pax);
    if name.len() > 100 && can_split {
        let fits = |at: &usize| *at <= 155 && (2..=101).contains(&(name.len() - at));
        let at = (1..name.len()).filter(|&at| name[at] == b'/').find(fits);
        if let Some(at) = at {
            return (&name[..at], &name[at + 1..]);
        }
    }
    (b"", name)
}

fn number(block: &mut [u8; BLOCK], offset: usize, width: usize, value: i128, format: Format) {
    let digits = width - 1;
    let text = format!("{value:0digits$o}");
    if value >= 0 && text.len() <= digits {
        put(block, offset, text.as_bytes());
    } else if format == Format::Gnu {
        let bytes = value.to_be_bytes();
        put(block, offset, &bytes[bytes.len() - width..]);
        block[offset] |= 0x80;
    } else {
        put(block, offset, "0".repeat(digits).as_bytes());
    }
}

fn put(block: &mut [u8; BLOCK], offset: usize, bytes: &[u8]) {
    block[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn cut(bytes: &[u8], length: usize) -> &[u8] {
    &bytes[..bytes.len().min(length)]
}
