//! The codecs that the store is given: from a blob to a layer, and back.

use std::error::Error;
use std::io::{self, Read, Write};
use std::path::Path;

use layer::{Compression, Limits};
use oci::MediaType;
use store::NewLayer;

/// Turns the bytes of a layer, compressed or not, into a layer in the directory `scratch`.
pub fn unpack(
    blob: &mut (dyn Read + Send),
    scratch: &Path,
) -> Result<NewLayer, Box<dyn Error + Send + Sync>> {
    let (_, mut tar) = layer::decompress(Box::new(blob))?;
    let ingested = layer::ingest(&mut tar, scratch, &Limits::default())?;
    Ok(new_layer(&ingested))
}

/// Compresses a layer's tar for a registry.
pub fn compress(
    tar: &mut dyn Read,
    out: &mut dyn Write,
    compression: Compression,
) -> Result<MediaType, Box<dyn Error + Send + Sync>> {
    layer::compress(tar, out, compression)?;
    Ok(media_type(compression))
}

/// Returns what a layer's tar becomes.
pub fn media_type(compression: Compression) -> MediaType {
    MediaType::from(match compression {
        Compression::None => MediaType::OCI_LAYER,
        Compression::Gzip { .. } => MediaType::OCI_LAYER_GZIP,
        Compression::Zstd { .. } => MediaType::OCI_LAYER_ZSTD,
    })
}

/// Undoes whatever compression an archive has.
pub fn decompress(reader: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    layer::decompress(reader).map(|(_, plain)| plain)
}

/// What the store records of a layer that was written.
pub(crate) fn new_layer(ingested: &layer::Ingested) -> NewLayer {
    NewLayer {
        diff_id: ingested.diff_id,
        tar_size: ingested.tar_size,
        content_size: ingested.content_size,
        entries: ingested.entries,
    }
}
