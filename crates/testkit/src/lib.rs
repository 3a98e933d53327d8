//! What tests of several crates share.

pub mod cli;
pub mod random;
pub mod tarball;
