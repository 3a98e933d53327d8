//! The store on disk: blobs, layers, images, tags, containers, build steps, and the one `copy`
//! that moves images between stores, registries and archives.
//!
//! The format of everything under the root is specified in `docs/store-format.md`.

mod archive;
mod blob;
mod blob_writer;
mod build;
mod cache_mount;
mod census;
mod change;
mod container;
mod db;
mod db_copy;
mod error;
mod exchange;
mod format;
mod fsck;
mod held;
mod image;
mod journal;
mod kept_blob;
mod layer;
mod lock;
mod manifest;
mod manifest_list;
mod measure;
mod new_file;
mod operation;
mod prune;
mod remove;
mod reserve;
mod resolve;
mod scratch;
mod step;
mod store;
mod sweep;
mod sync;
mod tag;
mod tag_document;
mod target;
mod timestamp;
mod turn;
mod undo;
mod upload;
mod usage;
mod wal;
mod why;

pub use archive::{
    Archive, ArchiveError, ArchiveImage, ArchiveSource, Decompress, Pick, SavedImage, save,
};
pub use blob_writer::{BlobWriter, NewBlob};
pub use build::{BuildRecord, BuildStatus};
pub use cache_mount::{CacheHold, CacheMount, CacheRecord};
pub use container::{ContainerError, ContainerRecord, ContainerState, Remains};
pub use error::{StoreError, is_disk_full};
pub use exchange::{
    BlobOutcome, BlobTarget, Compress, Copied, CopyError, CopyOptions, CopyOutcome,
    DockerArchiveTarget, Event, ExchangeError, Extent, Fault, LayerId, LayoutArchiveTarget,
    LayoutTarget, ManifestPolicy, Mirrored, OpenBlob, OpenSource, Packing, Progress, Resolved,
    Reuse, Side, Source, StoreSource, StoreTarget, Target, Unpack, copy, copy_layers,
    fetch_document, image_config, mirror, push, push_layers, put_config, until_named,
};
pub use fsck::{
    BlobSource, CheckedLayer, Damage, DatabaseCheck, DatabaseRepair, Depth, Finding, Flaw, Hashed,
    Held, IndexProbe, LayerProbe, Mend, NeededBy, Probes, Renewed, Report, Role, Totals,
    examine_database, repair_database,
};
pub use image::{ImageRecord, NewImage};
pub use journal::{JournalEntry, PastImage};
pub use kept_blob::KeptBlob;
pub use layer::{LayerRecord, NewLayer};
pub use lock::Lock;
pub use manifest_list::ListEntry;
pub use operation::{Operation, Purpose, UndoWindow};
pub use prune::{
    Compressed, LabelFilter, Presence, Prune, PruneError, PruneFilter, PruneReport, PruneScope,
};
pub use remove::{Conflict, Force, Removal, RemoveError};
pub use resolve::ResolveError;
pub use scratch::Scratch;
pub use step::{StepFilter, StepMade, StepRecord, StepScope};
pub use store::{Store, StoreOptions, Unmount};
pub use sweep::Swept;
pub use sync::Recovery;
pub use tag_document::TagDocument;
pub use target::OutOfReach;
pub use timestamp::Timestamp;
pub use turn::Turn;
pub use undo::{LostImage, Restored, Undo, UndoError};
pub use upload::Upload;
pub use usage::{ImageUsage, Share, Usage};
pub use why::{Keeper, Kept, KeptThing};
