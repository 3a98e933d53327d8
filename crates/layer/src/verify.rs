//! Whether the files of a layer still are what its tar says.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::ingest::index;
use crate::metadata::FileError;
use crate::{IngestError, Ingested, LayerDir};

/// What the tar of a layer is, and whether its index is the one of this tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// The tar as it is now.
    pub tar: Ingested,
    /// Whether every byte of the index is as the tar gives it. The index is a function of the tar.
    pub index_is_right: bool,
}

/// Why a layer could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The tar cannot be read, or is none.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Reads the tar of `layer` once, hashes it, writes its index again into the directory `scratch`
/// and compares that with the index of the layer, which may be missing. The new index stays in
/// `scratch`. `progress` is told how many bytes were read.
pub fn verify(
    layer: &LayerDir,
    scratch: &Path,
    progress: &dyn Fn(u64),
) -> Result<Verified, VerifyError> {
    let path = layer.tar();
    let file = File::open(&path).map_err(|source| FileError::new("open", &path, source))?;
    let mut reader = Counted { file, progress };
    let tar = index(&mut reader, scratch)?;
    let (old, new) = (layer.index(), LayerDir::new(scratch).index());
    let index_is_right = is_same_file(&old, &new)?;
    Ok(Verified {
        tar,
        index_is_right,
    })
}

struct Counted<'a> {
    file: File,
    progress: &'a dyn Fn(u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        (self.progress)(u64::try_from(count).unwrap_or(0));
        Ok(count)
    }
}

fn is_same_file(old: &Path, new: &Path) -> Result<bool, FileError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| FileError::new("read", &path, source)
    };
    match fs::symlink_metadata(old) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(old)(error)),
    }
    let one = File::open(old).map_err(failed(old))?;
    let other = File::open(new).map_err(failed(new))?;
    let length = one.metadata().map_err(failed(old))?.len();
    if length != other.metadata().map_err(failed(new))?.len() {
        return Ok(false);
    }
    // A disk that cannot read a block any more has lost it.
    match is_same_content(&one, &other, length) {
        Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(false),
        result => result.map_err(failed(old)),
    }
}

const COMPARED_AT_ONCE: usize = 64 << 10;

/// Compares two files of `length` bytes. Where both have holes nothing is read: sparse files of
/// an image can be far longer than what is stored of them.
fn is_same_content(one: &File, other: &File, length: u64) -> io::Result<bool> {
    let mut buffers = (vec![0; COMPARED_AT_ONCE], vec![0; COMPARED_AT_ONCE]);
    let mut position = 0;
    loop {
        position = match (next_data(one, position)?, next_data(other, position)?) {
            (None, None) => return Ok(true),
            (Some(data), None) | (None, Some(data)) => data,
            (Some(one), Some(other)) => one.min(other),
        };
        let room = usize::try_from(length - position).unwrap_or(usize::MAX);
        let count = room.min(COMPARED_AT_ONCE);
        one.read_exact_at(&mut buffers.0[..count], position)?;
        other.read_exact_at(&mut buffers.1[..count], position)?;
        if buffers.0[..count] != buffers.1[..count] {
            return Ok(false);
        }
        position += u64::try_from(count).unwrap_or(0);
        if position >= length {
            return Ok(true);
        }
    }
}

/// Returns where data begins at `position` or later; `None` when only a hole follows.
fn next_data(file: &File, position: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(position)) {
        Ok(data) => Ok(Some(data)),
        Err(Errno::NXIO) => Ok(None),
        // A file system that does not know its holes has none.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(position)),
        Err(errno) => Err(errno.into()),
    }
}
