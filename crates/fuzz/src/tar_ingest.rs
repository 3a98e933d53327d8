//! Tars as layers, read in user space.

use std::io::{self, Read};
use std::path::PathBuf;

use arbitrary::Unstructured;
use layer::{IngestError, LayerDir, Limits, View};

use crate::{members, model, seen};

const BLOCK: usize = 512;

/// The longest tar: what compressed input becomes must not take the time of a thousand others.
const MAX_TAR: u64 = 16 << 20;

/// What the first byte of the input chooses.
const AS_IT_IS: u8 = 0;
const SEALED: u8 = 1;

/// Makes a layer of a tar. The first byte says how the rest is one: as it is, perhaps compressed;
/// with right checksums put into what may be headers; or (all other values) as choices of which a
/// well-formed tar is made. An error says what is wrong; what becomes a layer can be read from one
/// end to the other, has only names that Linux can hold, and, when the tar was made of choices,
/// holds what the tar means.
pub fn tar_ingest(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else {
        return;
    };
    match *how {
        AS_IT_IS => read_back(rest),
        SEALED => read_back(&sealed(rest)),
        _ => compare(rest),
    }
}

/// A layer's directory that goes away.
#[derive(Debug)]
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Makes one in memory, where there is such a place: the disk would be asked for nothing.
    pub(crate) fn in_memory() -> Self {
        let memory = PathBuf::from("/dev/shm");
        let directory = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        Self(directory.expect("a directory"))
    }

    pub(crate) fn on_disk() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn layer(&self) -> LayerDir {
        LayerDir::new(self.0.path())
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.0.path()
    }

    pub(crate) fn ingest(&self, tar: &mut dyn Read) -> Result<layer::Ingested, IngestError> {
        let limits = Limits {
            max_tar_size: MAX_TAR,
            max_index_memory: 64 << 20,
            ..Limits::default()
        };
        layer::ingest(tar, self.path(), &limits)
    }
}

fn read_back(bytes: &[u8]) {
    let scratch = Scratch::in_memory();
    let Ok((_, mut tar)) = layer::decompress(Box::new(bytes)) else {
        return;
    };
    let ingested = match scratch.ingest(&mut tar) {
        Ok(ingested) => ingested,
        Err(error) => {
            assert!(!matches!(error, IngestError::Write { .. }), "{error:?}");
            let said = error.to_string();
            assert!(said.len() < 20_000, "{} bytes of message", said.len());
            assert!(!said.chars().any(char::is_control), "{said:?}");
            return;
        }
    };
    let tree = seen::of_index(&scratch.layer());
    for (path, seen) in &tree {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let is_root = path.is_empty();
        assert!(is_root || !matches!(name, b"" | b"." | b".."));
        assert!(name.len() <= 255 && !path.contains(&0));
        assert!(seen.links > 0);
        for (name, value) in &seen.entry.xattrs {
            let is_mark =
                name.starts_with(b"user.overlay.") || name.starts_with(b"trusted.overlay.");
            assert!(!is_mark || value == b"y", "an image has no say in marks");
        }
    }
    // The view of one layer has all but its whiteouts.
    let view = View::open(&[scratch.layer()]).expect("a view");
    let mut queue = vec![view.root().expect("a root")];
    let mut viewed = 0;
    while let Some(node) = queue.pop() {
        viewed += 1;
        if node.entry.kind == layer::EntryKind::Directory {
            let children = view.read_dir(&node).expect("a directory");
            queue.extend(children.into_iter().map(|(_, child)| child));
        }
    }
    let whiteout = layer::EntryKind::CharDevice { major: 0, minor: 0 };
    let shown = tree.values().filter(|seen| seen.entry.kind != whiteout);
    assert_eq!(viewed, shown.count());
    assert_eq!(
        ingested.tar_size,
        scratch.layer().tar().metadata().expect("a tar").len()
    );
}

fn compare(choices: &[u8]) {
    let Ok(items) = members::items(&mut Unstructured::new(choices)) else {
        return;
    };
    let tar = members::tar(&items);
    let scratch = Scratch::in_memory();
    let result = scratch.ingest(&mut tar.as_slice());
    match (result, model::meaning(&items)) {
        (Ok(_), Ok(expected)) => {
            seen::assert_same(&seen::of_index(&scratch.layer()), &expected);
        }
        (Err(error), Ok(_)) => panic!("refused: {error:?}\n{items:?}"),
        (Ok(_), Err(refused)) => panic!("{refused:?}, but taken:\n{items:?}"),
        (Err(IngestError::Entry { .. }), Err(_)) => {}
        (Err(error), Err(_)) => panic!("refused for a wrong reason: {error:?}"),
    }
}

/// Puts a right checksum into the first block and each that looks like a header.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut tar = bytes.to_vec();
    let (blocks, _) = tar.as_chunks_mut::<BLOCK>();
    for (number, block) in blocks.iter_mut().enumerate() {
        if number == 0 || block[257..].starts_with(b"ustar") {
            testkit::tarball::seal(block);
        }
    }
    tar
}

/// Reads as nothing but an end: for targets that are interested in what comes before.
pub(crate) fn drain(reader: &mut dyn Read) -> io::Result<u64> {
    io::copy(&mut reader.take(MAX_TAR), &mut io::sink())
}
