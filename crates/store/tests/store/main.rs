//! Laws of the store, tested through its public interface.

mod archive_targets;
mod archives;
mod checking;
mod copying;
mod durability;
mod fixture;
mod memory;
mod mirroring;
mod processes;
mod pruning;
mod records;
mod removal;
mod undoing;
mod usage;
