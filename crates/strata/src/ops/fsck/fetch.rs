//! Content from the registries that have it.

use std::io::{Cursor, Read};

use oci::{Descriptor, Reference};
use store::{BlobSource, ExchangeError, Source as _};

use crate::{Engine, describe};

/// Opens a blob at the first repository that has it, and takes it with `take`. Returns the name of
/// that repository, or why none could give it.
pub(super) fn fetch<E: std::error::Error + 'static>(
    engine: &Engine,
    source: &BlobSource,
    mut take: impl FnMut(&mut (dyn Read + Send)) -> Result<(), E>,
) -> Result<String, String> {
    if source.repositories.is_empty() {
        return Err("no registry is known to have it".to_owned());
    }
    let mut failures = Vec::new();
    for repository in &source.repositories {
        let taken = open(engine, repository, &source.descriptor)
            .map_err(|error| describe(&error))
            .and_then(|mut reader| take(&mut *reader).map_err(|error| describe(&error)));
        match taken {
            Ok(()) => return Ok(repository.clone()),
            Err(failure) => failures.push(format!("{repository}: {failure}")),
        }
    }
    Err(failures.join("; "))
}

fn open(
    engine: &Engine,
    repository: &str,
    blob: &Descriptor,
) -> Result<Box<dyn Read + Send>, ExchangeError> {
    let name = Reference::parse(repository).map_err(ExchangeError::permanent)?;
    let client = engine.client().map_err(ExchangeError::permanent)?;
    let remote = client.repository(&name).map_err(ExchangeError::permanent)?;
    if blob.media_type.is_manifest() || blob.media_type.is_index() {
        return Ok(Box::new(Cursor::new(remote.manifest(blob)?)));
    }
    remote.open_blob(blob, 0)
}
