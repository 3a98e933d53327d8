//! Moving images: where they come from ([`Source`]), where they go ([`Target`]), [`copy`] and
//! [`push`].

mod copy;
mod copy_error;
mod error;
mod event;
mod opener;
mod push;
mod store_source;
mod store_target;
mod stream;
mod traits;
mod transfer;

pub use copy::{Copied, CopyOptions, CopyOutcome, copy};
pub use copy_error::{CopyError, Side};
pub use error::{ExchangeError, Fault};
pub use event::{Event, LayerId};
pub use opener::OpenSource;
pub use push::{Compress, Packing, Reuse, push};
pub use store_source::StoreSource;
pub use store_target::{ManifestPolicy, StoreTarget, Unpack};
pub use traits::{BlobOutcome, OpenBlob, Progress, Resolved, Source, Target};
