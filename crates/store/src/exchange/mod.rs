//! Moving images: where they come from ([`Source`]), where they go ([`Target`]), [`copy`], [`push`]
//! and [`mirror`].

mod arrival;
mod blob_target;
mod checked;
mod copy;
mod copy_error;
mod docker_archive_target;
mod error;
mod event;
mod layout_archive_target;
mod layout_target;
mod mirror;
mod opener;
mod push;
mod store_source;
mod store_target;
mod stream;
mod traits;
mod transfer;
mod until_named;

pub use blob_target::BlobTarget;
pub(crate) use copy::MAX_LAYERS;
pub use copy::{
    Copied, CopyOptions, CopyOutcome, copy, copy_layers, fetch_document, image_config, put_config,
};
pub use copy_error::{CopyError, Side};
pub use docker_archive_target::DockerArchiveTarget;
pub use error::{ExchangeError, Fault};
pub use event::{Event, LayerId};
pub use layout_archive_target::LayoutArchiveTarget;
pub use layout_target::LayoutTarget;
pub use mirror::{Extent, Mirrored, mirror};
pub use opener::OpenSource;
pub use push::{Compress, Packing, Reuse, push, push_layers};
pub use store_source::StoreSource;
pub use store_target::{ManifestPolicy, StoreTarget, Unpack};
pub use traits::{BlobOutcome, OpenBlob, Progress, Resolved, Source, Target};
pub use until_named::until_named;
