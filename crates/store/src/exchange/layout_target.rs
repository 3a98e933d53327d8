//! An OCI layout as a target.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use oci::{
    Descriptor, DiffId, Digest, Hasher, Index, MAX_MANIFEST_SIZE, ManifestError, ManifestOrIndex,
    MediaType,
};

use super::stream::Stream;
use super::{BlobOutcome, ExchangeError, OpenBlob, Progress, Target};
use crate::StoreError;
use crate::error::at;
use crate::scratch::unique_name;

/// A directory in the form of the
/// [OCI image layout](https://github.com/opencontainers/image-spec/blob/main/image-layout.md).
///
/// ```text
/// oci-layout          the version
/// index.json          names and what they lead to; written by `name`
/// blobs/sha256/<hex>  everything; complete when it is there
/// .<name>.partial     what was being written when a copy was killed; the next one removes it
/// ```
///
/// One copy at a time writes to a layout; others wait for its lock.
#[derive(Debug)]
pub struct LayoutTarget {
    root: PathBuf,
    /// The root, locked.
    directory: File,
    /// The directories that were not there before, from the root up.
    made: Vec<PathBuf>,
}

pub(super) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const NAME: &str = "org.opencontainers.image.ref.name";
const PARTIAL: &str = "partial";
const BUFFER: usize = 256 << 10;

impl LayoutTarget {
    /// Opens a layout, or makes one where there is nothing.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        loop {
            let layout = Self::lock(root)?;
            // Who held the lock before may have taken away what it had made.
            if layout.is_in_place()? {
                return layout.ready();
            }
        }
    }

    /// Locks the directory, making it where it is not there.
    fn lock(root: &Path) -> Result<Self, StoreError> {
        let made = make(root)?;
        let directory = File::open(root).map_err(at("open", root))?;
        directory.lock().map_err(at("lock", root))?;
        Ok(Self {
            root: root.to_owned(),
            directory,
            made,
        })
    }

    fn is_in_place(&self) -> Result<bool, StoreError> {
        let held = self.directory.metadata().map_err(at("open", &self.root))?;
        match fs::metadata(&self.root) {
            Ok(found) => Ok((found.dev(), found.ino()) == (held.dev(), held.ino())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(at("open", &self.root)(error)),
        }
    }

    /// Makes what is not there of a layout that is locked, and reads the rest.
    fn ready(mut self) -> Result<Self, StoreError> {
        let root = &self.root;
        let mark = root.join("oci-layout");
        let is_empty = fs::read_dir(root)
            .map_err(at("read", root))?
            .next()
            .is_none();
        if !is_empty && !mark.exists() {
            return Err(StoreError::NotALayout { path: root.clone() });
        }
        if !is_empty {
            // Another process was faster with the lock: what is there is its work.
            self.made.clear();
        }
        let blobs = root.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(at("create", &blobs))?;
        self.remove_partials().map_err(at("tidy", root))?;
        if is_empty {
            self.write_index(&empty_index())?;
            self.write(&mark, LAYOUT)?;
        }
        let version = read_limited(&mark)?.unwrap_or_default();
        if !is_supported(&version) {
            return Err(StoreError::UnknownLayout { path: root.clone() });
        }
        self.index()?;
        Ok(self)
    }

    /// Takes away what [`open`](Self::open) made, for a copy that failed; a layout that was there
    /// before stays, with the blobs that came. What cannot be removed stays too.
    pub fn abandon(self) {
        if let Some(directories) = self.made.split_first()
            && fs::remove_dir_all(directories.0).is_ok()
        {
            for directory in directories.1 {
                // Others may have put something there.
                if fs::remove_dir(directory).is_err() {
                    break;
                }
            }
        }
    }

    /// Lists what was copied in `index.json`, under `name` if there is one, after everything is on
    /// the disk. What had the name before loses it.
    pub fn name(&self, document: &Descriptor, name: Option<&str>) -> Result<(), StoreError> {
        let mut index = self.index()?;
        let name_of = |entry: &Descriptor| {
            let annotations = entry.annotations.as_ref()?;
            annotations.get(NAME).cloned()
        };
        index.manifests.retain(|entry| match name {
            Some(name) => name_of(entry).as_deref() != Some(name),
            None => entry.digest != document.digest || name_of(entry).is_some(),
        });
        index.manifests.push(named(document, name));
        rustix::fs::syncfs(&self.directory)
            .map_err(|error| at("sync", &self.root)(error.into()))?;
        self.write_index(&index)
    }

    fn index(&self) -> Result<Index, StoreError> {
        let path = self.root.join("index.json");
        let Some(bytes) = read_limited(&path)? else {
            return Ok(empty_index());
        };
        let unsupported = || ManifestError::UnsupportedMediaType(MediaType::OCI_MANIFEST.into());
        let parsed = match ManifestOrIndex::parse(None, &bytes) {
            Ok(ManifestOrIndex::Index(index)) => Ok(index),
            Ok(ManifestOrIndex::Manifest(_)) => Err(unsupported()),
            Err(error) => Err(error),
        };
        parsed.map_err(|source| StoreError::LayoutIndex { path, source })
    }

    fn write_index(&self, index: &Index) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(index).expect("invariant: an index has string keys");
        self.write(&self.root.join("index.json"), &bytes)
    }

    /// Writes a file in one step.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let (mut file, partial) = self.partial()?;
        file.write_all(bytes).map_err(at("write", &partial))?;
        fs::rename(&partial, path).map_err(at("rename", &partial))
    }

    fn remove_partials(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == PARTIAL) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn partial(&self) -> Result<(File, PathBuf), StoreError> {
        let path = self.root.join(format!(".{}.{PARTIAL}", unique_name()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        Ok((file.map_err(at("create", &path))?, path))
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    fn receive(
        &self,
        blob: &Descriptor,
        open: &OpenBlob<'_>,
        progress: &Progress<'_>,
    ) -> Result<(), ExchangeError> {
        let (mut file, partial) = self.partial().map_err(ExchangeError::permanent)?;
        let received = receive(&mut file, blob, open, progress);
        let named = received.and_then(|()| {
            let renamed = fs::rename(&partial, self.blob_path(&blob.digest));
            renamed.map_err(|error| ExchangeError::permanent(at("rename", &partial)(error)))
        });
        if named.is_err() {
            // The first error is the one to tell.
            drop(fs::remove_file(&partial));
        }
        named
    }
}

impl Target for LayoutTarget {
    fn has_blob(
        &self,
        descriptor: &Descriptor,
        _diff_id: Option<&DiffId>,
    ) -> Result<bool, ExchangeError> {
        let file = match File::open(self.blob_path(&descriptor.digest)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(ExchangeError::permanent(error)),
        };
        let found = digest_of(file).map_err(ExchangeError::permanent)?;
        Ok(found == descriptor.digest)
    }

    fn put_blob(
        &self,
        descriptor: &Descriptor,
        _diff_id: Option<&DiffId>,
        open: &OpenBlob<'_>,
        progress: &Progress<'_>,
    ) -> Result<BlobOutcome, ExchangeError> {
        self.receive(descriptor, open, progress)?;
        Ok(BlobOutcome::Stored)
    }

    fn put_manifest(&self, _media_type: &MediaType, bytes: &[u8]) -> Result<Digest, ExchangeError> {
        let digest = Digest::of(bytes);
        self.write(&self.blob_path(&digest), bytes)
            .map_err(ExchangeError::permanent)?;
        Ok(digest)
    }
}

/// Makes a directory and those above it. Returns those that were not there, from `root` up.
fn make(root: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let is_new = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<&Path> = root.ancestors().take_while(is_new).collect();
    let mut made = Vec::new();
    for directory in missing.into_iter().rev() {
        match fs::create_dir(directory) {
            Ok(()) => made.insert(0, directory.to_owned()),
            // Another process was faster.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(at("create", directory)(error)),
        }
    }
    // What is below a directory of somebody else is taken away with nothing above it.
    if made.first().is_none_or(|first| first != root) {
        made.clear();
    }
    Ok(made)
}

/// Tells whether `oci-layout` names a version that is known.
fn is_supported(mark: &[u8]) -> bool {
    let mark: Option<serde_json::Value> = serde_json::from_slice(mark).ok();
    mark.is_some_and(|mark| {
        let version = mark["imageLayoutVersion"].as_str().unwrap_or_default();
        version.starts_with("1.")
    })
}

fn digest_of(mut file: File) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn empty_index() -> Index {
    Index {
        schema_version: 2,
        media_type: Some(MediaType::OCI_INDEX.into()),
        manifests: Vec::new(),
        annotations: None,
    }
}

/// Returns `document` as the list of a layout has it.
pub(super) fn named(document: &Descriptor, name: Option<&str>) -> Descriptor {
    let annotations = name.map(|name| BTreeMap::from([(NAME.to_owned(), name.to_owned())]));
    Descriptor {
        annotations: annotations.or_else(|| document.annotations.clone()),
        ..document.clone()
    }
}

/// Writes a blob to `out`; fails when it is not what its digest says.
pub(super) fn receive(
    out: &mut dyn Write,
    blob: &Descriptor,
    open: &OpenBlob<'_>,
    progress: &Progress<'_>,
) -> Result<(), ExchangeError> {
    let mut stream = Stream::new(blob, 0, open, progress);
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                let failure = stream.into_failure();
                return Err(failure.unwrap_or_else(|| ExchangeError::permanent(error)));
            }
        };
        hasher.update(&buffer[..count]);
        out.write_all(&buffer[..count])
            .map_err(ExchangeError::permanent)?;
    }
    let (expected, found) = (blob.digest, hasher.finish());
    if found != expected {
        return Err(ExchangeError::corrupt(StoreError::DigestMismatch {
            expected,
            found,
        }));
    }
    Ok(())
}

fn read_limited(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at("open", path)(error)),
    };
    let mut bytes = Vec::new();
    let read: io::Result<usize> = file.take(MAX_MANIFEST_SIZE + 1).read_to_end(&mut bytes);
    read.map_err(at("read", path))?;
    Ok(Some(bytes))
}
