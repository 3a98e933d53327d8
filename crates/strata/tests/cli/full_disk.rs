//! Disks that fill up.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use testkit::cli::CommandLine;
use testkit::tarball::{Member, Tarball};

use crate::strata;

const SIZE: u64 = 48 << 20;

/// A small file system with the store of `strata` on it, gone at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn under(strata: &CommandLine) -> Self {
        let root = strata.path("root");
        std::fs::create_dir_all(&root).expect("made");
        let disk = sys::Mount::tmpfs(&[("size", &SIZE.to_string())]).expect("a disk");
        disk.attach(&root).expect("mounted");
        let disk = Self(root);
        // The store's first use says that it is in memory.
        strata.run(&["images", "-q"]).succeeded();
        disk
    }

    fn used(&self) -> u64 {
        let status = rustix::fs::statvfs(&self.0).expect("mounted");
        (status.f_blocks - status.f_bfree) * status.f_frsize
    }

    /// Waits until a process that nobody waits for has given the space back.
    fn settles_below(&self, limit: u64) -> bool {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.used() >= limit {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        sys::unmount(&self.0, sys::Unmount::Lazy).expect("unmounted");
    }
}

/// Writes a tar of a file of `length` zeros.
fn zeros(length: usize) -> Vec<u8> {
    let mut tar = Tarball::new();
    tar.push(&Member::file("zeros", &vec![0; length]));
    tar.finish()
}

fn write(strata: &CommandLine, name: &str, content: &[u8]) {
    std::fs::write(strata.work(name), content).expect("written");
}

/// Makes an image of a file of `length` zeros, and `saved.tar` of it.
fn save_large(strata: &CommandLine, name: &str, length: usize) {
    write(strata, "large.tar", &zeros(length));
    strata.run(&["import", "large.tar", name]).succeeded();
    strata.run(&["save", "-o", "saved.tar", name]).succeeded();
}

#[test]
fn privileged_what_a_killed_command_left_makes_way_for_an_archive_from_a_pipe() {
    let source = strata();
    save_large(&source, "large:1", 14 << 20);
    let saved = std::fs::read(source.work("saved.tar")).expect("read");
    let strata = strata();
    let _disk = SmallDisk::under(&strata);
    assert_eq!(strata.run(&["images", "-q"]).stdout(), "");
    let left = strata.path("root").join("ingest/killed.scratch");
    std::fs::create_dir(&left).expect("made");
    std::fs::write(left.join("tar"), vec![1; 40 << 20]).expect("written");
    strata.run_with(&["load"], &saved).succeeded();
    assert!(!left.exists());
}

#[test]
fn privileged_what_does_not_fit_is_told_before_it_is_fetched() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let name = format!("{}/large:1", served.address());
    let source = strata();
    save_large(&source, &name, 64 << 20);
    source.run(&["push", &name]).succeeded();
    let strata = strata();
    let disk = SmallDisk::under(&strata);
    let saved = source.work("saved.tar");
    let outcome = strata.run(&["load", "-i", saved.to_str().expect("a path")]);
    assert!(
        outcome.stderr.starts_with("not enough space in `")
            && outcome.stderr.contains("MB are needed"),
        "{outcome}"
    );
    assert_eq!(outcome.code, 1);
    assert!(disk.settles_below(4 << 20), "{}", disk.used());
    // Compressed it seems to fit, until it does not.
    let outcome = strata.run(&["pull", &name]);
    assert!(
        outcome.stderr.contains("No space left on device"),
        "{outcome}"
    );
    assert_eq!(outcome.code, 1);
    assert!(disk.settles_below(4 << 20), "{}", disk.used());
    assert_eq!(strata.run(&["images", "-q"]).stdout(), "");
}

#[test]
fn privileged_what_is_held_for_an_undo_makes_way_for_what_comes() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let name = format!("{}/large:1", served.address());
    let source = strata();
    save_large(&source, &name, 28 << 20);
    source.run(&["push", &name]).succeeded();
    let saved = source.work("saved.tar");
    let strata = strata().variable("STRATA_UNDO_WINDOW", "1h");
    let disk = SmallDisk::under(&strata);
    let load = ["load", "-i", saved.to_str().expect("a path")];
    // Another file, so that no layer is there already.
    let mut tar = Tarball::new();
    tar.push(&Member::file("ones", &vec![1; 28 << 20]));
    let other = tar.finish();
    for (held, words) in [("first:1", &load[..]), ("second:1", &["pull", &name])] {
        strata.run_with(&["import", "-", held], &other).succeeded();
        strata.run(&["rmi", held]).succeeded();
        assert!(disk.used() > 28 << 20, "{held} stays");
        strata.run(words).succeeded();
        let mut rmi = strata.command(&["rmi", &name]);
        let status = rmi.env("STRATA_UNDO_WINDOW", "0").status();
        assert!(status.is_ok_and(|status| status.success()));
        assert!(disk.settles_below(4 << 20), "{}", disk.used());
    }
}

/// Layers there cannot be mounted as they are: the kernel wants a real file system below.
#[test]
fn privileged_a_store_in_memory_runs_containers_too() {
    let strata = strata();
    let _disk = SmallDisk::under(&strata);
    strata.import_busybox("busybox");
    let words = ["run", "--rm", "--network", "none", "busybox", "echo", "hi"];
    assert_eq!(strata.run(&words).stdout(), "hi\n");
}

#[test]
fn privileged_a_failed_import_gives_its_space_back() {
    let strata = strata();
    let disk = SmallDisk::under(&strata);
    write(&strata, "large.tar", &zeros(64 << 20));
    write(&strata, "small.tar", &zeros(1 << 20));
    let outcome = strata.run(&["import", "large.tar", "large:1"]);
    assert!(
        outcome.stderr.contains("No space left on device"),
        "{outcome}"
    );
    assert!(disk.settles_below(4 << 20), "{}", disk.used());
    strata.run(&["import", "small.tar", "small:1"]).succeeded();
}

#[test]
fn privileged_a_decompression_bomb_is_told_and_leaves_nothing() {
    let strata = strata();
    let disk = SmallDisk::under(&strata);
    let length = 1 << 30;
    let bomb = Member {
        claimed_size: Some(length),
        ..Member::file("zeros", b"")
    };
    let head = Tarball::new().push(&bomb).unfinished();
    let mut tar = head.as_slice().chain(std::io::repeat(0).take(length));
    let mut packed = Vec::new();
    let zstd = layer::Compression::Zstd { level: 1 };
    layer::compress(&mut tar, &mut packed, zstd).expect("compressed");
    assert!(packed.len() < 1 << 20, "{}", packed.len());
    write(&strata, "bomb.tar.zst", &packed);
    let outcome = strata.run(&["import", "bomb.tar.zst", "bomb:1"]);
    assert!(
        outcome.stderr.contains("No space left on device: ")
            && outcome.stderr.contains("are not for layers"),
        "{outcome}"
    );
    assert_eq!(outcome.code, 1);
    assert!(disk.settles_below(4 << 20), "{}", disk.used());
    assert_eq!(strata.run(&["images", "-q"]).stdout(), "");
    write(&strata, "small.tar", &zeros(1 << 20));
    strata.run(&["import", "small.tar", "small:1"]).succeeded();
}
