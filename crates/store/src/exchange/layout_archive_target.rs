//! An OCI layout in a tar as a target.

use std::collections::HashMap;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use oci::{Descriptor, DiffId, Digest, MediaType};
use tar::EntryType;

use super::layout_target::{LAYOUT, named, receive};
use super::{BlobOutcome, ExchangeError, OpenBlob, Progress, Target};
use crate::StoreError;
use crate::archive::documents::index;
use crate::archive::entry::{
    DIRECTORIES, END, HEADER, blob_name, padded, write_document, write_header,
};
use crate::error::at;
use crate::new_file::NewFile;

/// A new tar that is an
/// [OCI image layout](https://github.com/opencontainers/image-spec/blob/main/image-layout.md).
/// The file is there when [`finish`](Self::finish) has returned, and not before; equal content
/// gives equal bytes.
///
/// Blobs have their places before they come, so they come in parallel.
#[derive(Debug)]
pub struct LayoutArchiveTarget {
    file: NewFile,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Where the next entry begins.
    end: u64,
    /// Where the entries of blobs begin.
    places: HashMap<Digest, u64>,
    /// Manifests, in the order in which they came; each once.
    documents: Vec<(Digest, Vec<u8>)>,
}

/// More than file systems take; offsets up to there can be computed with.
const LONGEST: u64 = 1 << 62;

impl LayoutArchiveTarget {
    /// Begins the archive `path`, which must not be there, or be an empty file.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let file = NewFile::create(path)?;
        let mut start = Vec::new();
        let written = write_document(&mut start, "oci-layout", LAYOUT).and_then(|()| {
            DIRECTORIES
                .iter()
                .try_for_each(|name| write_header(&mut start, name, EntryType::Directory, 0))
        });
        written
            .and_then(|()| file.file().write_all_at(&start, 0))
            .map_err(at("write", path))?;
        let state = State {
            end: u64::try_from(start.len()).unwrap_or(LONGEST),
            places: HashMap::new(),
            documents: Vec::new(),
        };
        Ok(Self {
            file,
            state: Mutex::new(state),
        })
    }

    /// Lists `document` in the archive, under `name` if there is one, and gives the file its name,
    /// when all of it is on the disk.
    pub fn finish(self, document: &Descriptor, name: Option<&str>) -> Result<(), StoreError> {
        let path = self.file.path().to_owned();
        let state = self.state.into_inner();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let end = || -> io::Result<()> {
            let mut out = BufWriter::new(self.file.file());
            out.seek(SeekFrom::Start(state.end))?;
            for (digest, bytes) in &state.documents {
                write_document(&mut out, &blob_name(digest), bytes)?;
            }
            let listed = index(vec![named(document, name)]);
            write_document(&mut out, "index.json", &listed)?;
            out.write_all(&END)?;
            out.flush()
        };
        end().map_err(at("write", &path))?;
        self.file.commit()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_blob(
        &self,
        start: u64,
        blob: &Descriptor,
        open: &OpenBlob<'_>,
        progress: &Progress<'_>,
    ) -> Result<(), ExchangeError> {
        let mut out = Place {
            file: &self.file,
            offset: start,
        };
        write_header(
            &mut out,
            &blob_name(&blob.digest),
            EntryType::Regular,
            blob.size,
        )
        .map_err(ExchangeError::permanent)?;
        // What a file is not told to be is zeros: so is the padding.
        receive(&mut out, blob, open, progress)
    }
}

impl State {
    /// Returns where the entry of a blob begins.
    fn place(&mut self, blob: &Descriptor) -> io::Result<u64> {
        if let Some(start) = self.places.get(&blob.digest) {
            return Ok(*start);
        }
        let start = self.end;
        let end = padded(blob.size)
            .and_then(|size| size.checked_add(HEADER)?.checked_add(start))
            .filter(|end| *end < LONGEST);
        self.end = end.ok_or(io::ErrorKind::FileTooLarge)?;
        self.places.insert(blob.digest, start);
        Ok(start)
    }
}

impl Target for LayoutArchiveTarget {
    fn has_blob(
        &self,
        _descriptor: &Descriptor,
        _diff_id: Option<&DiffId>,
    ) -> Result<bool, ExchangeError> {
        Ok(false)
    }

    fn expect(&self, layers: &[&Descriptor]) -> Result<(), ExchangeError> {
        let mut state = self.state();
        let places = layers
            .iter()
            .try_for_each(|blob| state.place(blob).map(drop));
        places.map_err(ExchangeError::permanent)
    }

    fn put_blob(
        &self,
        descriptor: &Descriptor,
        _diff_id: Option<&DiffId>,
        open: &OpenBlob<'_>,
        progress: &Progress<'_>,
    ) -> Result<BlobOutcome, ExchangeError> {
        let start = self.state().place(descriptor);
        let start = start.map_err(ExchangeError::permanent)?;
        self.write_blob(start, descriptor, open, progress)?;
        Ok(BlobOutcome::Stored)
    }

    fn put_manifest(&self, _media_type: &MediaType, bytes: &[u8]) -> Result<Digest, ExchangeError> {
        let digest = Digest::of(bytes);
        let mut state = self.state();
        let is_known = state.places.contains_key(&digest)
            || state.documents.iter().any(|(known, _)| *known == digest);
        if !is_known {
            state.documents.push((digest, bytes.to_vec()));
        }
        Ok(digest)
    }
}

/// Writes from an offset on, whatever others do to the file.
struct Place<'a> {
    file: &'a NewFile,
    offset: u64,
}

impl Write for Place<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.file().write_at(bytes, self.offset)?;
        self.offset += u64::try_from(count).unwrap_or(LONGEST);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
