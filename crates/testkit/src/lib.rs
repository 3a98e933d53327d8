//! What tests of several crates share.

pub mod cli;
pub mod flat;
pub mod random;
pub mod tarball;
pub mod traces;
