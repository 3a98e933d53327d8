//! An archive of docker's as a target.

use std::collections::HashMap;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use oci::{
    Descriptor, DiffId, Digest, Hasher, ImageConfig, ManifestError, ManifestOrIndex, MediaType,
    Platform, Reference,
};
use tar::EntryType;

use super::layout_target::receive;
use super::stream::{BUFFER, Stream, channel};
use super::{BlobOutcome, ExchangeError, OpenBlob, Progress, Target};
use crate::archive::documents::Documents;
use crate::archive::entry::{
    DIRECTORIES, END, HEADER, blob_name, padded, write_document, write_header,
};
use crate::error::at;
use crate::new_file::NewFile;
use crate::{Decompress, StoreError};

/// A new archive of one image in docker 28's form, which is that of `docker save`: the layers are
/// not compressed. The file is there when [`finish`](Self::finish) has returned, and not before;
/// equal images and names give equal bytes when layers come one at a time, which they should: they
/// wait for each other.
///
/// The target of a [`copy`](super::copy()): a manifest that comes is not kept, the configuration
/// is.
pub struct DockerArchiveTarget<'a> {
    decompress: &'a Decompress<'a>,
    names: Vec<Reference>,
    archive: Mutex<Archive>,
}

struct Archive {
    file: NewFile,
    /// Where the next entry begins.
    end: u64,
    /// The layers that are there, and how long they are.
    layers: HashMap<DiffId, u64>,
    /// The configuration.
    config: Option<Vec<u8>>,
    /// Known when the manifest has come.
    platform: Option<Platform>,
}

impl std::fmt::Debug for DockerArchiveTarget<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerArchiveTarget")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl<'a> DockerArchiveTarget<'a> {
    /// Begins the archive `path`, which must not be there, or be an empty file. The image will
    /// have `names`, which have tags.
    pub fn create(
        path: &Path,
        names: &[Reference],
        decompress: &'a Decompress<'a>,
    ) -> Result<Self, StoreError> {
        let file = NewFile::create(path)?;
        let mut archive = Archive {
            file,
            end: 0,
            layers: HashMap::new(),
            config: None,
            platform: None,
        };
        let mut start = Vec::new();
        DIRECTORIES
            .iter()
            .try_for_each(|name| write_header(&mut start, name, EntryType::Directory, 0))
            .and_then(|()| archive.append(&start))
            .map_err(at("write", path))?;
        Ok(Self {
            decompress,
            names: names.to_vec(),
            archive: Mutex::new(archive),
        })
    }

    /// Gives the file its name, when all of it is on the disk. Returns what the image is for.
    pub fn finish(self) -> Result<Option<Platform>, StoreError> {
        let archive = self.archive.into_inner();
        let archive = archive.unwrap_or_else(PoisonError::into_inner);
        archive.file.commit()?;
        Ok(archive.platform)
    }
}

impl Target for DockerArchiveTarget<'_> {
    fn has_blob(
        &self,
        _descriptor: &Descriptor,
        _diff_id: Option<&DiffId>,
    ) -> Result<bool, ExchangeError> {
        Ok(false)
    }

    fn put_blob(
        &self,
        descriptor: &Descriptor,
        diff_id: Option<&DiffId>,
        open: &OpenBlob<'_>,
        progress: &Progress<'_>,
    ) -> Result<BlobOutcome, ExchangeError> {
        let mut archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(diff_id) = diff_id else {
            let mut config = Vec::new();
            receive(&mut config, descriptor, open, progress)?;
            archive.config = Some(config);
            return Ok(BlobOutcome::Stored);
        };
        // Several blobs may be the same layer in different compressions.
        if archive.layers.contains_key(diff_id) {
            return Ok(BlobOutcome::Existed);
        }
        let start = archive.end;
        let layer = archive.begin_layer().and_then(|()| {
            let stream = Stream::new(descriptor, 0, open, progress);
            match *diff_id.digest() == descriptor.digest {
                true => archive.write_tar(stream),
                false => archive.write_compressed(stream, self.decompress),
            }
        });
        let ended = layer.and_then(|(found, size)| {
            if found != *diff_id.digest() {
                return Err(ExchangeError::permanent(StoreError::DiffIdMismatch {
                    expected: *diff_id,
                    found: DiffId(found),
                }));
            }
            archive.end_layer(*diff_id, size)
        });
        match ended {
            Ok(()) => Ok(BlobOutcome::Stored),
            Err(error) => {
                archive.end = start;
                Err(error)
            }
        }
    }

    fn put_manifest(&self, media_type: &MediaType, bytes: &[u8]) -> Result<Digest, ExchangeError> {
        let mut archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        archive
            .put_image(media_type, bytes, &self.names)
            .map_err(ExchangeError::permanent)?;
        Ok(Digest::of(bytes))
    }
}

impl Archive {
    fn failed(&self, error: io::Error) -> ExchangeError {
        ExchangeError::permanent(at("write", self.file.path())(error))
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.file().write_all(bytes)?;
        self.end = self.file.file().stream_position()?;
        Ok(())
    }

    /// Leaves room for the header of a layer, whose length is known when it has come. What an
    /// earlier try left goes away.
    fn begin_layer(&mut self) -> Result<(), ExchangeError> {
        let file = self.file.file();
        let begun = || {
            file.set_len(self.end)?;
            (&mut &*file).seek(SeekFrom::Start(self.end + HEADER))
        };
        begun().map(drop).map_err(|error| self.failed(error))
    }

    fn end_layer(&mut self, diff_id: DiffId, size: u64) -> Result<(), ExchangeError> {
        let name = blob_name(diff_id.digest());
        let end = self.end + HEADER + padded(size).unwrap_or(size);
        let mut file = self.file.file();
        let ended = file.seek(SeekFrom::Start(self.end)).and_then(|_| {
            write_header(&mut file, &name, EntryType::Regular, size)?;
            file.set_len(end)?;
            file.seek(SeekFrom::Start(end))
        });
        ended.map_err(|error| self.failed(error))?;
        self.end = end;
        self.layers.insert(diff_id, size);
        Ok(())
    }

    /// Writes a layer that is not compressed. Returns its digest and length.
    fn write_tar(&self, mut stream: Stream<'_>) -> Result<(Digest, u64), ExchangeError> {
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; BUFFER];
        let mut size = 0;
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    size += u64::try_from(count).unwrap_or(u64::MAX);
                    let mut file = self.file.file();
                    file.write_all(&buffer[..count])
                        .map_err(|error| self.failed(error))?;
                }
                Err(error) => {
                    let failure = stream.into_failure();
                    return Err(failure.unwrap_or_else(|| ExchangeError::permanent(error)));
                }
            }
        }
        let expected = stream.blob().digest;
        match hasher.finish() {
            found if found == expected => Ok((found, size)),
            found => Err(ExchangeError::corrupt(StoreError::DigestMismatch {
                expected,
                found,
            })),
        }
    }

    /// Writes what is in a compressed layer: one thread fetches and hashes, this one inflates.
    /// Returns the digest and length of what was written.
    fn write_compressed(
        &self,
        mut stream: Stream<'_>,
        decompress: &Decompress<'_>,
    ) -> Result<(Digest, u64), ExchangeError> {
        let expected = stream.blob().digest;
        let is_disk_full = AtomicBool::new(false);
        let (fetched, inflated) = thread::scope(|scope| {
            let (buffers, reader) = channel();
            let is_disk_full = &is_disk_full;
            let fetcher = scope.spawn(move || {
                let mut hasher = Hasher::new();
                loop {
                    if is_disk_full.load(Ordering::Relaxed) {
                        return Ok(expected);
                    }
                    match buffers.fill(&mut stream) {
                        Ok(None) => return Ok(hasher.finish()),
                        Ok(Some(buffer)) => {
                            hasher.update(&buffer);
                            buffers.send(buffer);
                        }
                        Err(error) => {
                            buffers.break_off();
                            let failure = stream.into_failure();
                            return Err(failure.unwrap_or_else(|| ExchangeError::permanent(error)));
                        }
                    }
                }
            });
            let inflated = self.inflate(decompress(Box::new(reader)));
            if let Err(error) = &inflated
                && matches!(error.inner().downcast_ref(), Some(StoreError::Io { .. }))
            {
                // The rest would be fetched for nothing.
                is_disk_full.store(true, Ordering::Relaxed);
            }
            let fetched = fetcher.join();
            let fetched = fetched.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (fetched, inflated)
        });
        // Broken content has a wrong digest too, and that is the better message.
        match fetched? {
            found if found == expected => inflated,
            found => Err(ExchangeError::corrupt(StoreError::DigestMismatch {
                expected,
                found,
            })),
        }
    }

    fn inflate(
        &self,
        content: io::Result<Box<dyn Read + Send>>,
    ) -> Result<(Digest, u64), ExchangeError> {
        let mut content = content.map_err(undone)?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; BUFFER];
        let mut size = 0;
        loop {
            match content.read(&mut buffer) {
                Ok(0) => return Ok((hasher.finish(), size)),
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    size += u64::try_from(count).unwrap_or(u64::MAX);
                    let mut file = self.file.file();
                    file.write_all(&buffer[..count])
                        .map_err(|error| self.failed(error))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(undone(error)),
            }
        }
    }

    fn put_image(
        &mut self,
        media_type: &MediaType,
        bytes: &[u8],
        names: &[Reference],
    ) -> Result<(), StoreError> {
        let ManifestOrIndex::Manifest(manifest) = ManifestOrIndex::parse(Some(media_type), bytes)?
        else {
            let error = ManifestError::UnsupportedMediaType(media_type.clone());
            return Err(error.into());
        };
        let config = self.config.take().unwrap_or_default();
        let found = Digest::of(&config);
        if found != manifest.config.digest {
            return Err(StoreError::ManifestConfigMismatch {
                expected: found,
                found: manifest.config.digest,
            });
        }
        let parsed = ImageConfig::parse(&config)?;
        self.platform = Some(parsed.platform());
        let sizes = parsed.rootfs.diff_ids.iter().map(|diff_id| {
            let size = self.layers.get(diff_id).copied();
            Ok((*diff_id, size.ok_or(StoreError::LayerNotFound(*diff_id))?))
        });
        let layers: Vec<(DiffId, u64)> = sizes.collect::<Result<_, StoreError>>()?;
        let mut documents = Documents::default();
        let manifest = documents.add(names, &config, &layers);
        let path = self.file.path().to_owned();
        let write = || -> io::Result<()> {
            let mut rest = Vec::new();
            for document in [config, manifest] {
                write_document(&mut rest, &blob_name(&Digest::of(&document)), &document)?;
            }
            for (name, bytes) in documents.files() {
                write_document(&mut rest, name, &bytes)?;
            }
            rest.extend_from_slice(&END);
            self.append(&rest)
        };
        write().map_err(at("write", &path))
    }
}

/// The error that a layer cannot be decompressed.
fn undone(error: io::Error) -> ExchangeError {
    ExchangeError::permanent(StoreError::Undone(error))
}
