//! Moving images: where they come from ([`Source`]), where they go ([`Target`]), and [`copy`].

mod copy;
mod error;
mod store_source;
mod store_target;
mod traits;

pub use copy::{Copied, CopyError, CopyOptions, CopyOutcome, Event, LayerId, Side, copy};
pub use error::{ExchangeError, Fault};
pub use store_source::{Compress, LayerForm, StoreSource};
pub use store_target::{ManifestPolicy, StoreTarget, Unpack};
pub use traits::{BlobOutcome, OpenBlob, Progress, Resolved, Source, Target};
