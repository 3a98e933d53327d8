//! Sizes in memory and on disk. Strata runs on 64-bit machines only, where both are one.

/// Returns the length of something in memory as a size on disk.
pub(crate) fn on_disk(length: usize) -> u64 {
    u64::try_from(length).expect("invariant: usize has at most 64 bits")
}

/// Returns a size on disk, bounded by the caller, as a length in memory.
pub(crate) fn in_memory(size: u64) -> usize {
    usize::try_from(size).expect("invariant: usize has at least 64 bits")
}
