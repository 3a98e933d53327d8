//! Whether the store is as it was written, and how it becomes that again.
//!
//! A check goes from the inside out: the database ([`examine_database`], before the store is
//! opened), the records among themselves, the records against files, and in full every byte. What
//! the store cannot do itself (read a layer's tar, ask a registry) it is handed as functions.
//! `docs/fsck.md` lists what is found and what is done about it.

mod database;
mod documents;
mod files;
mod finding;
mod found;
mod hashes;
mod mend;
mod records;
mod relations;
mod renew;
mod report;
mod restore;
mod salvage;
mod sources;

pub use database::{DatabaseCheck, examine_database};
pub use finding::{Damage, Finding, Flaw, NeededBy, Role};
pub use hashes::Hashed;
pub use mend::Mend;
pub use renew::{Held, Renewed};
pub use report::{CheckedLayer, Depth, IndexProbe, LayerProbe, Probes, Report, Totals};
pub use restore::{DatabaseRepair, repair_database};
pub use sources::BlobSource;
