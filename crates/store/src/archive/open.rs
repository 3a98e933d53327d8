//! Opening archives.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use super::contents::Contents;
use super::read::{Reading, compression};
use super::{Archive, ArchiveError};
use crate::error::at;
use crate::new_file::NewFile;
use crate::scratch::unique_name;
use crate::{Store, StoreError};

/// Undoes whole-file compression, found by the first bytes; what is not compressed passes.
pub type Decompress<'a> =
    dyn Fn(Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> + Sync + 'a;

impl Archive {
    /// Opens a file or a directory. A compressed file is first decompressed to a file of the
    /// store that has no name.
    pub fn open(
        store: &Store,
        path: &Path,
        decompress: &Decompress<'_>,
    ) -> Result<Self, ArchiveError> {
        match Self::seekable(path)? {
            Ok(archive) => Ok(archive),
            Err(stream) => Self::read(store, Box::new(stream), decompress),
        }
    }

    /// Reads an archive from a stream, which is first written to a file of the store that has no
    /// name.
    pub fn read(
        store: &Store,
        stream: Box<dyn Read + Send>,
        decompress: &Decompress<'_>,
    ) -> Result<Self, ArchiveError> {
        let mut file = spool_file(store)?;
        let mut stream = decompress(stream).map_err(ArchiveError::Read)?;
        io::copy(&mut stream, &mut file).map_err(ArchiveError::Read)?;
        file.seek(SeekFrom::Start(0)).map_err(ArchiveError::Read)?;
        Ok(Self::of(Contents::of_tar(file)?))
    }

    /// Opens a file or a directory without a store. A compressed file is first decompressed to a
    /// file in the directory `spool` that has no name.
    pub fn open_outside(
        path: &Path,
        spool: &Path,
        decompress: &Decompress<'_>,
    ) -> Result<Self, ArchiveError> {
        let metadata = fs::metadata(path).map_err(ArchiveError::Read)?;
        // Opening a pipe would wait for its other end.
        if !metadata.is_file() && !metadata.is_dir() {
            return Err(ArchiveError::NoFile);
        }
        match Self::seekable(path)? {
            Ok(archive) => Ok(archive),
            Err(file) => {
                let plain = decompress(Box::new(file)).map_err(ArchiveError::Read)?;
                Ok(Self::of(Contents::of_tar(spooled(plain, spool)?)?))
            }
        }
    }

    /// Has `index.json` read where there is docker's `manifest.json` too.
    #[must_use]
    pub fn as_layout(self) -> Self {
        Self {
            reading: Reading::Layout,
            ..self
        }
    }

    fn of(contents: Contents) -> Self {
        Self {
            contents: Arc::new(contents),
            reading: Reading::Docker,
        }
    }

    /// Opens what can be read where it lies; gives the file back when it must be read as a stream.
    fn seekable(path: &Path) -> Result<Result<Self, File>, ArchiveError> {
        let file = File::open(path).map_err(ArchiveError::Read)?;
        let metadata = file.metadata().map_err(ArchiveError::Read)?;
        let contents = match metadata.is_dir() {
            true => Contents::of_directory(path)?,
            false => {
                let mut magic = [0; 6];
                if !metadata.is_file() {
                    return Ok(Err(file));
                }
                let count = file.read_at(&mut magic, 0).map_err(ArchiveError::Read)?;
                if compression(&magic[..count]).is_some() {
                    return Ok(Err(file));
                }
                Contents::of_tar(file)?
            }
        };
        Ok(Ok(Self::of(contents)))
    }
}

/// Writes `content` to a file in the directory `spool` that goes away with its last user.
fn spooled(mut content: Box<dyn Read + Send>, spool: &Path) -> Result<File, ArchiveError> {
    let mut file = NewFile::unnamed(spool)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => {
                file.seek(SeekFrom::Start(0)).map_err(ArchiveError::Read)?;
                return Ok(file);
            }
            Ok(count) => file
                .write_all(&buffer[..count])
                .map_err(at("write a decompressed archive to", spool))?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(ArchiveError::Read(error)),
        }
    }
}

/// Makes a file in the store that goes away with its last user.
fn spool_file(store: &Store) -> Result<File, StoreError> {
    store.check_writable()?;
    let path = store.ingest_dir().join(format!("{}.new", unique_name()));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(at("create", &path))?;
    fs::remove_file(&path).map_err(at("remove", &path))?;
    Ok(file)
}
