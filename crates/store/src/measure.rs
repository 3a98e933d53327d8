//! How many bytes of disk files take, as `du` counts.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use oci::Digest;

use crate::Store;
use crate::sweep::Needed;

/// The unit of `st_blocks`, whatever the file system's own is.
const BLOCK: u64 = 512;

/// Adds up disk usage, by several threads. A file with several names counts where it is met
/// first.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    seen: Mutex<HashSet<(u64, u64)>>,
}

impl Meter {
    /// Returns the bytes of disk under a path that were not counted before. What cannot be read
    /// counts as nothing: another process may have removed it.
    pub(crate) fn tree(&self, path: &Path) -> u64 {
        let Ok(metadata) = fs::symlink_metadata(path) else {
            return 0;
        };
        let own = self.one(&metadata);
        match metadata.is_dir() {
            true => own + self.children(path),
            false => own,
        }
    }

    /// Returns what a file or directory itself takes.
    pub(crate) fn one(&self, metadata: &Metadata) -> u64 {
        let has_other_names = !metadata.is_dir() && metadata.nlink() > 1;
        if has_other_names {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if !seen.insert((metadata.dev(), metadata.ino())) {
                return 0;
            }
        }
        metadata.blocks() * BLOCK
    }

    /// Returns what is in a directory takes.
    fn children(&self, directory: &Path) -> u64 {
        let mut bytes = 0;
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            // Relative to the open directory, which is faster than by path.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            bytes += self.one(&metadata);
            if metadata.is_dir() {
                bytes += self.children(&entry.path());
            }
        }
        bytes
    }
}

/// Returns the bytes of disk under a path. What cannot be read counts as nothing.
pub(crate) fn disk_usage(path: &Path) -> u64 {
    Meter::default().tree(path)
}

impl Store {
    /// Returns the bytes of disk that layers, blobs and containers take together.
    pub(crate) fn disk_usage_of(&self, parts: &Needed) -> u64 {
        let meter = Meter::default();
        let under = |directory: &str, name: &str| {
            let path = self.root().join(directory).join(name);
            meter.tree(&path)
        };
        let all = |directory, digests: &HashSet<Digest>| -> u64 {
            let digests = digests.iter();
            digests.map(|digest| under(directory, &digest.hex())).sum()
        };
        let parts_of_images = all("layers", &parts.layers) + all("blobs/sha256", &parts.blobs);
        let containers = parts.containers.iter();
        let containers = containers.map(|id| under("containers", id));
        parts_of_images + containers.sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_counts_once_and_a_directory_counts_too() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        fs::create_dir(path.join("a")).expect("made");
        fs::write(path.join("a/file"), vec![1; 100_000]).expect("written");
        fs::hard_link(path.join("a/file"), path.join("b")).expect("linked");
        let du = std::process::Command::new("du")
            .args(["-s", "--block-size=1"])
            .arg(path)
            .output()
            .expect("du runs");
        let du = String::from_utf8(du.stdout).expect("text");
        let expected: u64 = du.split('\t').next().expect("a size").parse().expect("one");
        assert!(expected >= 100_000);
        assert_eq!(disk_usage(path), expected);
        let meter = Meter::default();
        let (first, second) = (meter.tree(&path.join("a")), meter.tree(&path.join("b")));
        assert!(first >= 100_000);
        assert_eq!(second, 0);
        assert_eq!(disk_usage(&path.join("nothing")), 0);
    }
}
