//! Stores on file systems that they should not be on.

use std::path::PathBuf;

use sys::{Lower, Mount, OverlayOptions, Unmount, Upper};
use testkit::cli::CommandLine;

use crate::strata;

/// A file system at the root of a store, gone at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn at_root_of(strata: &CommandLine, mount: &Mount) -> Self {
        let root = strata.path("root");
        std::fs::create_dir_all(&root).expect("made");
        mount.attach(&root).expect("mounted");
        Self(root)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        sys::unmount(&self.0, Unmount::Lazy).expect("unmounted");
    }
}

fn overlay(strata: &CommandLine) -> Mount {
    let [lower, upper, work] = ["lower", "upper", "overlay-work"].map(|name| {
        let path = strata.path(name);
        std::fs::create_dir(&path).expect("made");
        path
    });
    let options = OverlayOptions {
        lower: &[Lower::Path(&lower)],
        upper: Some(Upper {
            upper: &upper,
            work: &work,
        }),
        volatile: false,
    };
    Mount::overlay(&options).expect("an overlay")
}

#[test]
fn privileged_the_first_use_of_a_store_on_overlayfs_says_that_containers_cannot_write_there() {
    let strata = strata();
    let _root = Mounted::at_root_of(&strata, &overlay(&strata));
    let said = "is on overlayfs, which cannot hold what ";
    // What needs no container works, and says it once.
    let outcome = strata.run_with(&["import", "-", "empty:1"], &[0; 1024]);
    assert!(
        outcome.stderr.starts_with("WARNING: the store `"),
        "{outcome}"
    );
    assert!(outcome.stderr.contains(said), "{outcome}");
    assert_eq!(outcome.code, 0);
    let outcome = strata.run(&["images"]);
    assert_eq!((outcome.stderr.as_str(), outcome.code), ("", 0));
    let info = strata.run(&["info"]);
    assert!(info.stderr.contains(said), "{info}");
    assert!(info.stdout.contains(" Backing Filesystem: overlayfs\n"));
    // What needs one says why it does not, and leaves none behind.
    let outcome = strata.run(&["run", "--rm", "--network", "none", "empty:1", "/x"]);
    assert!(outcome.stderr.contains(said), "{outcome}");
    assert!(outcome.stderr.contains("have the store on a local disk"));
    assert_eq!(outcome.code, 125);
    assert_eq!(strata.run(&["ps", "-aq"]).stdout(), "");
}

#[test]
fn privileged_the_first_use_of_a_store_in_memory_says_what_it_holds() {
    let strata = strata();
    let memory = Mount::tmpfs(&[("size", "32m")]).expect("a file system");
    let _root = Mounted::at_root_of(&strata, &memory);
    let outcome = strata.run(&["images"]);
    let said = "is in memory (tmpfs, 33 MB in all)";
    assert!(outcome.stderr.contains(said), "{outcome}");
    assert_eq!(outcome.code, 0);
    assert_eq!(strata.run(&["images"]).stderr, "");
}

#[test]
fn a_store_on_a_disk_needs_no_warning() {
    let strata = strata();
    assert_eq!(strata.run(&["images"]).stderr, "");
    assert_eq!(strata.run(&["info"]).stderr, "");
}
