//! Writing blobs: to `ingest` first, then under their name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use oci::{Descriptor, Digest, Hasher, MediaType};

use crate::error::at;
use crate::scratch::unique_name;
use crate::{Store, StoreError};

const READ_BUFFER: usize = 1 << 20;

/// Receives a blob whose name is known. Bytes that were written before the process died are kept
/// and found again by the next writer of the same blob. While one process writes a blob, the
/// others that want to wait for it in [`Store::blob_writer`].
///
/// ```text
/// blob_writer(descriptor) -> offset() bytes are there -> write… -> commit()
///                                                          \-> drop: kept for the next writer
/// ```
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    descriptor: Descriptor,
    path: PathBuf,
    state: WriterState,
}

#[derive(Debug)]
enum WriterState {
    /// The blob is in the store.
    Complete,
    /// The file is locked by this writer.
    Partial {
        file: File,
        hasher: Hasher,
        written: u64,
    },
}

impl BlobWriter {
    /// Returns how many bytes are there already; the next write continues here. It is the blob's
    /// size when the store has the blob, perhaps because another process has completed it.
    pub fn offset(&self) -> u64 {
        match &self.state {
            WriterState::Complete => self.descriptor.size,
            WriterState::Partial { written, .. } => *written,
        }
    }

    /// Tells whether the store has the blob, so that nothing needs writing.
    pub fn is_complete(&self) -> bool {
        matches!(self.state, WriterState::Complete)
    }

    /// Opens the file of the blob for reading, also while it is being written.
    pub fn file(&self) -> Result<File, StoreError> {
        if matches!(self.state, WriterState::Complete) {
            let digest = self.descriptor.digest;
            let file = self.store.open_blob(&digest)?;
            return file.ok_or(StoreError::BlobNotFound(digest));
        }
        File::open(&self.path).map_err(at("open", &self.path))
    }

    /// Checks size and digest, gives the blob its name and records it. On a mismatch the bytes
    /// are discarded.
    pub fn commit(self) -> Result<(), StoreError> {
        let WriterState::Partial {
            file,
            hasher,
            written,
        } = self.state
        else {
            return Ok(());
        };
        let Descriptor { digest, size, .. } = self.descriptor;
        let found = hasher.finish();
        let mismatch = if written != size {
            Some(StoreError::SizeMismatch {
                digest,
                expected: size,
                found: written,
            })
        } else {
            (found != digest).then_some(StoreError::DigestMismatch {
                expected: digest,
                found,
            })
        };
        if let Some(error) = mismatch {
            fs::remove_file(&self.path).map_err(at("remove", &self.path))?;
            return Err(error);
        }
        self.store
            .name_blob(&self.path, &self.descriptor.media_type, &digest, size)?;
        drop(file);
        Ok(())
    }

    /// Throws away the bytes received so far.
    pub fn discard(self) -> Result<(), StoreError> {
        match self.state {
            WriterState::Complete => Ok(()),
            WriterState::Partial { .. } => {
                fs::remove_file(&self.path).map_err(at("remove", &self.path))
            }
        }
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let too_long = |size: u64, extra: usize| {
            let extra = u64::try_from(extra).unwrap_or(u64::MAX);
            io::Error::new(
                ErrorKind::InvalidData,
                StoreError::SizeMismatch {
                    digest: self.descriptor.digest,
                    expected: self.descriptor.size,
                    found: size.saturating_add(extra),
                },
            )
        };
        match &mut self.state {
            WriterState::Complete if bytes.is_empty() => Ok(0),
            WriterState::Complete => Err(too_long(self.descriptor.size, bytes.len())),
            WriterState::Partial {
                file,
                hasher,
                written,
            } => {
                let room = self.descriptor.size.saturating_sub(*written);
                if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > room {
                    return Err(too_long(*written, bytes.len()));
                }
                let count = file.write(bytes)?;
                hasher.update(&bytes[..count]);
                *written += u64::try_from(count).unwrap_or(u64::MAX);
                Ok(count)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Receives a blob whose name is not known yet: a layer being compressed. Dropped without commit,
/// it leaves nothing.
#[derive(Debug)]
pub struct NewBlob {
    store: Store,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    size: u64,
}

impl NewBlob {
    /// Gives the blob its name and records it.
    pub fn commit(self, media_type: &MediaType) -> Result<Descriptor, StoreError> {
        let digest = self.hasher.clone().finish();
        self.store
            .name_blob(&self.path, media_type, &digest, self.size)?;
        Ok(Descriptor::new(&media_type.0, digest, self.size))
    }
}

impl Drop for NewBlob {
    fn drop(&mut self) {
        // After a commit nothing has the name; otherwise a failure leaves the file to a sweep.
        drop(fs::remove_file(&self.path));
    }
}

impl Write for NewBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += u64::try_from(count).unwrap_or(u64::MAX);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Store {
    /// Starts or resumes receiving a blob. Waits while another process receives it.
    pub fn blob_writer(&self, descriptor: &Descriptor) -> Result<BlobWriter, StoreError> {
        self.check_writable()?;
        let path = self
            .ingest_dir()
            .join(format!("{}.blob", descriptor.digest.hex()));
        let state = loop {
            let file = open_ingest(&path, Existing::Continue)?;
            file.lock().map_err(at("lock", &path))?;
            if self.stored_blob(&descriptor.digest)?.is_some() {
                if is_at(&file, &path)? {
                    fs::remove_file(&path).map_err(at("remove", &path))?;
                }
                break WriterState::Complete;
            }
            // The one before may have given the file its name, or discarded it.
            if is_at(&file, &path)? {
                break resume(file, &path, descriptor.size)?;
            }
        };
        Ok(BlobWriter {
            store: self.clone(),
            descriptor: descriptor.clone(),
            path,
            state,
        })
    }

    /// Returns how much of a blob an earlier writer left.
    pub(crate) fn partial_size(&self, digest: &Digest) -> u64 {
        let path = self.ingest_dir().join(format!("{}.blob", digest.hex()));
        fs::metadata(path).map_or(0, |metadata| metadata.len())
    }

    /// Starts receiving a blob whose digest is not known.
    pub fn new_blob(&self) -> Result<NewBlob, StoreError> {
        self.check_writable()?;
        // No sweep may see the file before it is locked.
        let _lock = self.lock_shared()?;
        let path = self.ingest_dir().join(format!("{}.new", unique_name()));
        let file = open_ingest(&path, Existing::Refuse)?;
        file.lock().map_err(at("lock", &path))?;
        Ok(NewBlob {
            store: self.clone(),
            path,
            file,
            hasher: Hasher::new(),
            size: 0,
        })
    }
}

/// Whether a file that exists is continued.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Continue,
    Refuse,
}

fn open_ingest(path: &Path, existing: Existing) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(existing == Existing::Continue)
        .create_new(existing == Existing::Refuse)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(at("create", path))
}

/// Tells whether `path` still names `file`.
pub(crate) fn is_at(file: &File, path: &Path) -> Result<bool, StoreError> {
    let mine = file.metadata().map_err(at("stat", path))?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((mine.dev(), mine.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at("stat", path)(error)),
    }
}

/// Hashes what an earlier writer left. A file that is too long cannot become the blob.
fn resume(mut file: File, path: &Path, size: u64) -> Result<WriterState, StoreError> {
    if file.metadata().map_err(at("stat", path))?.len() > size {
        file.set_len(0).map_err(at("truncate", path))?;
    }
    let (hasher, written) = hash_what_is_there(&mut file, path)?;
    Ok(WriterState::Partial {
        file,
        hasher,
        written,
    })
}

/// Hashes a file from its start. The next write goes to its end.
pub(crate) fn hash_what_is_there(
    file: &mut File,
    path: &Path,
) -> Result<(Hasher, u64), StoreError> {
    file.seek(SeekFrom::Start(0)).map_err(at("read", path))?;
    let mut hasher = Hasher::new();
    let mut written = 0;
    let mut buffer = vec![0; READ_BUFFER];
    loop {
        let count = file.read(&mut buffer).map_err(at("read", path))?;
        if count == 0 {
            return Ok((hasher, written));
        }
        hasher.update(&buffer[..count]);
        written += u64::try_from(count).unwrap_or(u64::MAX);
    }
}
