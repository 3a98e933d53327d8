//! One check of the store.

use std::error::Error;
use std::path::Path;

use oci::DiffId;

use super::records::{Needs, Records};
use super::{Finding, Hashed, documents, files, hashes, relations};
use crate::measure::disk_usage;
use crate::{Store, StoreError};

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The records, the documents that they were made of, and of files whether they are there and
    /// how long they are.
    Quick,
    /// Every byte.
    Full,
}

/// What a layer's files were found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedLayer {
    /// The digest of the tar as it is; `None` when it is no tar at all.
    pub diff_id: Option<DiffId>,
    /// The sum of the sizes of its files.
    pub content_size: u64,
    /// The number of its entries.
    pub entries: u64,
    /// Whether the index is the one of this tar.
    pub index_is_right: bool,
    /// What is wrong with the unpacked form, if the layer has one.
    pub tree: Option<String>,
}

/// What the store cannot do itself.
pub struct Probes<'a> {
    /// Looks at the index in a layer's directory without reading all of it.
    pub index: &'a IndexProbe<'a>,
    /// Reads a layer's directory whole. The second directory is for work and the function's own; the
    /// last argument is told of bytes that were read.
    pub layer: &'a LayerProbe<'a>,
    /// Is told how far the full check is, from several threads.
    pub progress: &'a (dyn Fn(Hashed) + Sync),
}

/// Says what is wrong with the index of the layer in a directory.
pub type IndexProbe<'a> = dyn Fn(&Path) -> Result<(), String> + Sync + 'a;

/// Reads the layer in a directory.
pub type LayerProbe<'a> = dyn Fn(&Path, &Path, &dyn Fn(u64)) -> Result<CheckedLayer, Box<dyn Error + Send + Sync>>
    + Sync
    + 'a;

impl std::fmt::Debug for Probes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probes").finish_non_exhaustive()
    }
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The damage.
    pub findings: Vec<Finding>,
    /// What was looked at, and what is worth a word without being damage.
    pub totals: Totals,
}

/// Counts of a check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Images.
    pub images: usize,
    /// Containers.
    pub containers: usize,
    /// Layers.
    pub layers: usize,
    /// Blobs with a file of their own.
    pub blobs: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// Files and directories that no record names: the next sweep takes them.
    pub unused: usize,
    /// The bytes that they take on disk.
    pub unused_bytes: u64,
    /// Partial downloads and scratch.
    pub ingest: usize,
    /// What waits to be deleted.
    pub trash: usize,
}

impl Store {
    /// Checks records and files. The caller holds the root's lock shared, so that no sweep removes
    /// what is being looked at; other commands may write meanwhile. Nothing is changed but for
    /// scratch.
    pub fn examine(&self, depth: Depth, probes: &Probes<'_>) -> Result<Report, StoreError> {
        // Before the records: what is renamed into place later has its row later too.
        let listing = files::Listing::read(self)?;
        let (records, unreadable) = Records::read(self)?;
        let unused = listing.unused(self, &records);
        let mut report = Report {
            findings: unreadable,
            totals: Totals {
                images: records.images.len(),
                containers: records.containers.len(),
                layers: records.layers.len(),
                blobs: records.blobs.len(),
                ingest: listing.ingest,
                trash: listing.trash,
                unused: unused.len(),
                unused_bytes: unused.iter().map(|path| disk_usage(path)).sum(),
                ..Totals::default()
            },
        };
        let needs = Needs::of(self, &records);
        let findings = &mut report.findings;
        files::check_directories(self, findings)?;
        relations::check(self, &records, &needs, findings);
        let sound = files::check(self, &records, &needs, probes, findings)?;
        if depth == Depth::Full {
            let jobs = hashes::jobs(self, &records, &sound);
            report.totals.bytes = jobs.iter().map(hashes::Job::size).sum();
            let found = hashes::check(self, &jobs, &records, &needs, probes)?;
            report.findings.extend(found);
        }
        let wrong = report.findings.iter().filter_map(Finding::digest).collect();
        documents::check(self, &records, &wrong, &mut report.findings)?;
        Ok(report)
    }
}
