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
/// links and content with what the tar means. Needs root, and best a mount namespace of its own.
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
