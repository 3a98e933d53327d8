//! A source in memory that misbehaves on request.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::Mutex;

use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder};
use oci::{Descriptor, DiffId, Digest, Manifest, MediaType};
use store::{CopyOptions, Event, ExchangeError, NewLayer, Resolved, Source};

use crate::fixture::{config_with, write_layer};

/// What goes wrong when a blob is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// The stream ends after some bytes.
    EndsAfter(usize),
    /// The stream fails after some bytes.
    FailsAfter(usize),
    /// The first byte is wrong.
    Corrupt,
    /// It cannot be opened, and never will.
    Refused,
    /// There is more content than announced.
    TooLong,
}

#[derive(Default)]
pub(crate) struct MemorySource {
    pub(crate) blobs: HashMap<Digest, Vec<u8>>,
    pub(crate) root: Option<Descriptor>,
    /// The troubles of the next openings of a blob.
    pub(crate) troubles: Mutex<BTreeMap<Digest, Vec<Trouble>>>,
    /// What was opened, at which offset.
    pub(crate) opened: Mutex<Vec<(Digest, u64)>>,
}

impl MemorySource {
    /// Makes an image with one layer for each tar.
    pub(crate) fn image(tars: &[&[u8]], form: LayerBytes) -> Self {
        let diff_ids: Vec<DiffId> = tars.iter().map(|tar| DiffId(Digest::of(tar))).collect();
        let mut source = Self::default();
        let layers = tars.iter().map(|tar| match form {
            LayerBytes::Tar => source.add(MediaType::OCI_LAYER, tar.to_vec()),
            LayerBytes::Gzip => source.add(MediaType::OCI_LAYER_GZIP, gzip(tar)),
        });
        let layers = layers.collect();
        let config = config_with(&diff_ids, "from memory");
        source.set_manifest(config, layers);
        source
    }

    pub(crate) fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::of(media_type, &bytes);
        self.blobs.insert(descriptor.digest, bytes);
        descriptor
    }

    pub(crate) fn set_manifest(&mut self, config: Vec<u8>, layers: Vec<Descriptor>) {
        let config = self.add(MediaType::OCI_CONFIG, config);
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MediaType::OCI_MANIFEST.into()),
            config,
            layers,
            annotations: None,
        };
        let bytes = serde_json::to_vec(&manifest).expect("json");
        self.root = Some(self.add(MediaType::OCI_MANIFEST, bytes));
    }

    pub(crate) fn manifest_of(&self, digest: &Digest) -> Manifest {
        serde_json::from_slice(&self.blobs[digest]).expect("a manifest")
    }

    pub(crate) fn root(&self) -> &Descriptor {
        self.root.as_ref().expect("an image")
    }

    pub(crate) fn layer(&self, index: usize) -> Descriptor {
        self.manifest_of(&self.root().digest).layers[index].clone()
    }

    pub(crate) fn trouble(&self, digest: Digest, troubles: &[Trouble]) {
        let mut troubles = troubles.to_vec();
        troubles.reverse();
        self.troubles.lock().expect("lock").insert(digest, troubles);
    }

    pub(crate) fn offsets(&self, digest: &Digest) -> Vec<u64> {
        let opened = self.opened.lock().expect("lock");
        let of_blob = opened.iter().filter(|(opened, _)| opened == digest);
        of_blob.map(|(_, offset)| *offset).collect()
    }
}

#[derive(Clone, Copy)]
pub(crate) enum LayerBytes {
    Tar,
    Gzip,
}

impl Source for MemorySource {
    fn resolve(&self) -> Result<Resolved, ExchangeError> {
        let descriptor = self.root().clone();
        let bytes = self.blobs[&descriptor.digest].clone();
        Ok(Resolved { descriptor, bytes })
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ExchangeError> {
        Ok(self.blobs[&descriptor.digest].clone())
    }

    fn open_blob(
        &self,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>, ExchangeError> {
        let digest = descriptor.digest;
        self.opened.lock().expect("lock").push((digest, offset));
        let mut bytes = self.blobs[&digest].clone();
        let mut troubles = self.troubles.lock().expect("lock");
        let trouble = troubles.get_mut(&digest).and_then(Vec::pop);
        let start = usize::try_from(offset).expect("small");
        match trouble {
            None => Ok(Box::new(Cursor::new(bytes.split_off(start)))),
            Some(Trouble::Corrupt) => {
                bytes[0] ^= 1;
                Ok(Box::new(Cursor::new(bytes.split_off(start))))
            }
            Some(Trouble::TooLong) => {
                bytes.push(0);
                Ok(Box::new(Cursor::new(bytes.split_off(start))))
            }
            Some(Trouble::EndsAfter(count)) => {
                bytes.truncate(start + count);
                Ok(Box::new(Cursor::new(bytes.split_off(start))))
            }
            Some(Trouble::FailsAfter(count)) => {
                bytes.truncate(start + count);
                let good = Cursor::new(bytes.split_off(start));
                Ok(Box::new(good.chain(Failing)))
            }
            Some(Trouble::Refused) => Err(ExchangeError::permanent("refused")),
        }
    }
}

struct Failing;

impl Read for Failing {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = GzEncoder::new(bytes, Compression::fast());
    encoder.read_to_end(&mut out).expect("in memory");
    out
}

/// Unpacks as the real one does: by the first bytes, whatever the media type says.
pub(crate) fn unpack(
    mut stream: &mut (dyn Read + Send),
    directory: &Path,
) -> Result<NewLayer, Box<dyn std::error::Error + Send + Sync>> {
    let mut magic = Vec::new();
    Read::take(&mut stream, 2).read_to_end(&mut magic)?;
    let gzipped = magic == [0x1f, 0x8b];
    let whole = Cursor::new(magic).chain(stream);
    if gzipped {
        write_layer(&mut GzDecoder::new(whole), directory)
    } else {
        write_layer(&mut { whole }, directory)
    }
}

pub(crate) fn decompress(mut stream: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let mut magic = Vec::new();
    stream.by_ref().take(2).read_to_end(&mut magic)?;
    let gzipped = magic == [0x1f, 0x8b];
    let whole = Cursor::new(magic).chain(stream);
    Ok(if gzipped {
        Box::new(GzDecoder::new(whole))
    } else {
        Box::new(whole)
    })
}

pub(crate) fn options(events: &(dyn Fn(Event) + Sync)) -> CopyOptions<'_> {
    CopyOptions {
        platform: "linux/amd64".parse().expect("valid"),
        parallel: 3,
        events,
    }
}
