//! Opening a store, and where its directories are.

use std::path::{Path, PathBuf};

use crate::{Recovery, StoreError};

/// An open store. Cheap to open, may be shared by threads; any number of processes may have it open.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    run: PathBuf,
}

/// What differs from the defaults when a store is opened.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    /// The identity of the running boot; `None` asks the kernel. Tests simulate reboots with it.
    pub boot_id: Option<String>,
}

impl Store {
    /// Opens the store under `root`, making it when it does not exist. `run` is the directory
    /// for what does not outlive a boot.
    pub fn open(root: &Path, run: &Path) -> Result<Self, StoreError> {
        Self::open_with(root, run, &StoreOptions::default())
    }

    /// Opens a store as [`Store::open`] does, with options.
    pub fn open_with(root: &Path, run: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let _ = options;
        Ok(Self {
            root: root.to_owned(),
            run: run.to_owned(),
        })
    }

    /// Returns the root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the directory of what does not outlive a boot.
    pub fn run_dir(&self) -> &Path {
        &self.run
    }

    /// Returns the directory of partial downloads and scratch.
    pub fn ingest_dir(&self) -> PathBuf {
        self.root.join("ingest")
    }

    /// Returns the directory of the shared layer mounts. It exists.
    pub fn layer_mounts_dir(&self) -> PathBuf {
        self.run.join("layers")
    }

    /// Returns where the state of files in the build context `context` is remembered. The
    /// directory exists, the file perhaps not.
    pub fn stat_cache_path(&self, context: &Path) -> PathBuf {
        let _ = context;
        unimplemented!()
    }

    /// Returns what this opening had to discard because the machine went down before it was
    /// safely on disk; `None` in all but the first opening after a boot.
    pub fn recovery(&self) -> Option<&Recovery> {
        unimplemented!()
    }
}
