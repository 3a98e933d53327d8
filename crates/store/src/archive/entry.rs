//! Entries of the archives that are written. They depend on nothing but name and content.

use std::io::{self, Write};

use oci::Digest;
use tar::{EntryType, Header};

/// What the content of an entry is padded to.
const BLOCK: u64 = 512;

/// How long a header is.
pub(crate) const HEADER: u64 = BLOCK;

/// The end of a tar.
pub(crate) const END: [u8; 1024] = [0; 1024];

/// Where blobs lie, parents first.
pub(crate) const DIRECTORIES: [&str; 2] = ["blobs/", "blobs/sha256/"];

/// Returns where a blob lies.
pub(crate) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Returns how much room content of `size` bytes takes, padding and all.
pub(crate) fn padded(size: u64) -> Option<u64> {
    size.checked_next_multiple_of(BLOCK)
}

/// Writes a header.
pub(crate) fn write_header(
    out: &mut dyn Write,
    name: &str,
    kind: EntryType,
    size: u64,
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(kind);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    out.write_all(header.as_bytes())
}

/// Writes what follows content of `size` bytes.
pub(crate) fn write_padding(out: &mut dyn Write, size: u64) -> io::Result<()> {
    let length = usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or(0);
    out.write_all(&END[..length])
}

/// Writes a whole file.
pub(crate) fn write_document(out: &mut dyn Write, name: &str, bytes: &[u8]) -> io::Result<()> {
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    write_header(out, name, EntryType::Regular, size)?;
    out.write_all(bytes)?;
    write_padding(out, size)
}
