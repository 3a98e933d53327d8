//! What tests of several crates share.

pub mod random;
pub mod tarball;
