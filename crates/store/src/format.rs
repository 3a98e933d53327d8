//! The file `format`: which version of the store this is, and which features it uses.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::error::at;

/// The format that this program writes.
const VERSION: u32 = 1;

/// The features that this program knows; there are none yet.
const KNOWN: &[&str] = &[];

/// The content of `format`, as JSON. Unknown fields are ignored.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Format {
    version: u32,
    #[serde(default)]
    may_ignore: Vec<String>,
    #[serde(default)]
    read_only: Vec<String>,
    #[serde(default)]
    must_refuse: Vec<String>,
}

impl Format {
    /// Returns the format of a new store.
    pub(crate) fn current() -> Self {
        Self {
            version: VERSION,
            may_ignore: Vec::new(),
            read_only: Vec::new(),
            must_refuse: Vec::new(),
        }
    }

    /// Reads the file; `None` when there is none.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at("read", path)(error)),
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| StoreError::MalformedFormat {
                path: path.to_owned(),
                source,
            })
    }

    /// Writes the file in one step.
    pub(crate) fn write(&self, path: &Path) -> Result<(), StoreError> {
        let partial = path.with_extension("partial");
        let mut bytes = serde_json::to_vec(self).expect("invariant: a format has string keys");
        bytes.push(b'\n');
        let mut file = fs::File::create(&partial).map_err(at("create", &partial))?;
        file.write_all(&bytes).map_err(at("write", &partial))?;
        file.sync_all().map_err(at("write", &partial))?;
        fs::rename(&partial, path).map_err(at("rename", &partial))
    }

    /// Returns the features that forbid writing.
    pub(crate) fn check(self, root: &Path) -> Result<Vec<String>, StoreError> {
        if self.version > VERSION {
            return Err(StoreError::NewerFormat {
                root: root.to_owned(),
                found: self.version,
                supported: VERSION,
            });
        }
        let unknown = |mut features: Vec<String>| {
            features.retain(|feature| !KNOWN.contains(&feature.as_str()));
            features
        };
        let features = unknown(self.must_refuse);
        if !features.is_empty() {
            return Err(StoreError::UnknownFeatures {
                root: root.to_owned(),
                features,
            });
        }
        Ok(unknown(self.read_only))
    }
}
