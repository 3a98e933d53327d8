//! Indexes of layers, as the kernel reads them.

use std::path::Path;

use arbitrary::Unstructured;
use layer::EntryKind;
use sys::{Mount, Unmount};

use crate::seen::Tree;
use crate::tar_ingest::Scratch;
use crate::{members, model, seen};

/// Makes a tar of the choices in `data`, and a layer of the tar; mounts its index read-only with
/// the tar as its device, and compares every path, type, owner, mode, time, attribute, number of
/// links and content with what the tar means. A sixteenth of the layers is unpacked, too, and compared.
/// Needs root, and best a mount namespace of its own.
pub fn erofs_writer(data: &[u8]) {
    let Ok(items) = members::items(&mut Unstructured::new(data)) else {
        return;
    };
    let Ok(mut expected) = model::meaning(&items) else {
        return;
    };
    // EROFS is mounted from files of disks only.
    let scratch = Scratch::on_disk();
    let tar = members::tar(&items);
    let result = scratch.ingest(&mut tar.as_slice());
    result.unwrap_or_else(|error| panic!("refused: {error:?}\n{items:?}"));
    let at = scratch.path().join("mounted");
    std::fs::create_dir(&at).expect("a directory");
    let mounted = Mounted::new(&scratch, &at);
    hide_unreadable(&mut expected);
    seen::assert_same(&seen::of_directory(&at), &expected);
    drop(mounted);
    if data.len().is_multiple_of(16) && fits_a_disk(&expected) {
        let layer = scratch.layer();
        layer::tree::unpack(&layer).unwrap_or_else(|error| panic!("{error:?}\n{items:?}"));
        let mut unpacked = seen::of_directory(&layer.tree());
        for (seen, expected) in unpacked.values_mut().zip(expected.values()) {
            // Links have no mode, and not every file system counts directories in directories.
            match seen.entry.kind {
                EntryKind::Symlink { .. } => seen.entry.mode = expected.entry.mode,
                EntryKind::Directory => seen.links = expected.links,
                _ => {}
            }
        }
        seen::assert_same(&unpacked, &expected);
    }
}

/// Tells whether ext4 takes the attributes of every file: it has a block for those of one.
fn fits_a_disk(tree: &Tree) -> bool {
    tree.values().all(|seen| {
        let xattrs = seen.entry.xattrs.iter();
        let sizes = xattrs.map(|(name, value)| name.len() + value.len() + 32);
        sizes.sum::<usize>() < 3500
    })
}

struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(scratch: &Scratch, at: &'a Path) -> Self {
        let layer = scratch.layer();
        let mount = Mount::erofs(&layer.index(), &layer.tar()).expect("a mount");
        mount.attach(at).expect("attached");
        Self(at)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        sys::unmount(self.0, Unmount::Lazy).expect("unmounted");
    }
}

/// The kernel shows attributes of users for files and directories only.
fn hide_unreadable(tree: &mut Tree) {
    for seen in tree.values_mut() {
        if !matches!(
            seen.entry.kind,
            EntryKind::File { .. } | EntryKind::Directory
        ) {
            seen.entry
                .xattrs
                .retain(|name, _| !name.starts_with(b"user."));
        }
    }
}
