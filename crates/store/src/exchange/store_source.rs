//! An image of the store as a source.

use std::error::Error;
use std::io::{Read, Write};

use oci::{Descriptor, ImageId, MediaType};

use super::{ExchangeError, Resolved, Source};
use crate::{Store, StoreError};

/// Compresses a layer's tar and says which media type that makes. The same tar must always give
/// the same bytes.
pub type Compress<'a> = dyn Fn(&mut dyn Read, &mut dyn Write) -> Result<MediaType, Box<dyn Error + Send + Sync>>
    + Sync
    + 'a;

/// In which form layers leave the store.
#[derive(Clone, Copy)]
pub enum LayerForm<'a> {
    /// As they are; uncompressed where no compressed blob is kept.
    AsStored,
    /// Compressed; what is not is compressed first, recorded and kept.
    Compressed(&'a Compress<'a>),
}

impl std::fmt::Debug for LayerForm<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AsStored => "AsStored",
            Self::Compressed(_) => "Compressed",
        })
    }
}

/// An image of the store as a source.
#[derive(Debug)]
pub struct StoreSource<'a> {
    store: &'a Store,
    image: ImageId,
    form: LayerForm<'a>,
}

impl<'a> StoreSource<'a> {
    /// Prepares an image for copying. With [`LayerForm::Compressed`] this compresses layers, on
    /// `parallel` threads; the manifest it makes is recorded with the image.
    pub fn new(
        store: &'a Store,
        image: ImageId,
        form: LayerForm<'a>,
        parallel: usize,
    ) -> Result<Self, StoreError> {
        let _ = parallel;
        Ok(Self { store, image, form })
    }
}

impl Source for StoreSource<'_> {
    fn resolve(&self) -> Result<Resolved, ExchangeError> {
        let _ = (self.store, self.image, self.form);
        unimplemented!()
    }

    fn manifest(&self, _descriptor: &Descriptor) -> Result<Vec<u8>, ExchangeError> {
        unimplemented!()
    }

    fn open_blob(
        &self,
        _descriptor: &Descriptor,
        _offset: u64,
    ) -> Result<Box<dyn Read + Send>, ExchangeError> {
        unimplemented!()
    }
}
