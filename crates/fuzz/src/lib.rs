//! The fuzz targets: one function each, which takes any bytes and panics when a law is broken.
//!
//! `fuzz/` hands them to libFuzzer; the tests of this crate hand them the kept corpus. What each
//! input means is said at its function, how to run them in docs/fuzzing.md.

mod config;
mod docker_archive;
mod dockerfile;
mod erofs_writer;
mod expansion;
mod http_answers;
mod ignore;
mod manifest;
mod members;
mod model;
mod parts;
mod reference;
mod script;
mod seen;
mod tar_ingest;

pub use self::dockerfile::dockerfile;
pub use config::config;
pub use docker_archive::docker_archive;
pub use erofs_writer::erofs_writer;
pub use expansion::expansion;
pub use http_answers::http_answers;
pub use ignore::ignore;
pub use manifest::manifest;
pub use reference::reference;
pub use tar_ingest::tar_ingest;
