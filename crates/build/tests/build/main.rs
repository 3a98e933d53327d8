//! Whole builds on a store of their own.

mod bench;
mod cache;
mod contexts;
mod copy;
mod errors;
mod mounts;
mod run;
