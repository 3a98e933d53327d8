//! Disks that fill up.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use testkit::cli::CommandLine;
use testkit::tarball::{Member, Tarball};

use crate::strata;

const SIZE: u64 = 48 << 20;

/// Of small blocks SQLite does not see to all of a page that it maps.
const KINDS: [Kind; 3] = [Kind::Tmpfs, Kind::Ext4("4096"), Kind::Ext4("1024")];

/// A small file system with the store of `strata` on it, gone at the end.
struct SmallDisk(PathBuf);

/// How a small file system is made.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// In memory.
    Tmpfs,
    /// In a file, without blocks that only root may use; of blocks of this size.
    Ext4(&'static str),
}

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

    /// Makes a disk under another name than the root, which may not hold what ext4 makes: for
    /// command lines whose root is `disk/root`.
    fn of(kind: Kind, strata: &CommandLine) -> Self {
        let path = strata.path("disk");
        std::fs::create_dir_all(&path).expect("made");
        match kind {
            Kind::Tmpfs => {
                let disk = sys::Mount::tmpfs(&[("size", &SIZE.to_string())]).expect("a disk");
                disk.attach(&path).expect("mounted");
            }
            Kind::Ext4(block) => {
                let file = strata.path("disk.img");
                let image = std::fs::File::create(&file).expect("made");
                image.set_len(SIZE).expect("sized");
                run("mkfs.ext4", &["-q", "-m", "0", "-b", block], &[&file]);
                run("mount", &["-o", "loop"], &[&file, &path]);
            }
        }
        Self(path)
    }

    /// Fills the disk to the last block.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).expect("made");
        for length in [1 << 20, 64 << 10, 4 << 10, 1] {
            while file.write_all(&vec![1; length]).is_ok() {}
        }
        // What ext4 has only promised so far is taken now.
        drop(file.sync_all());
        rustix::fs::syncfs(&file).expect("synced");
        // ext4 tells of some blocks that are for its own structures.
        assert!(std::fs::write(self.0.join("one more"), "x").is_err());
    }

    fn free(&self) -> u64 {
        let status = rustix::fs::statvfs(&self.0).expect("mounted");
        status.f_bfree * status.f_frsize
    }

    /// Waits until a process that nobody waits for has freed so much.
    fn frees(&self, bytes: u64) -> bool {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.free() < bytes {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::yield_now();
        }
        true
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

fn run(program: &str, words: &[&str], paths: &[&std::path::Path]) {
    let mut command = std::process::Command::new(program);
    let status = command.args(words).args(paths).status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?}");
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

/// Returns a command line whose store is on a disk of its own, with two images and a container.
fn on_a_disk(kind: Kind) -> (CommandLine, SmallDisk) {
    let strata = strata();
    let disk = SmallDisk::of(kind, &strata);
    let root = strata.path("disk/root");
    let strata = strata.variable("STRATA_ROOT", root.to_str().expect("a path"));
    for (name, byte) in [("one:1", 1), ("two:1", 2), ("three:1", 3)] {
        let mut tar = Tarball::new();
        tar.push(&Member::file("file", &vec![byte; 4 << 20]));
        strata
            .run_with(&["import", "-", name], &tar.finish())
            .succeeded();
    }
    strata
        .run(&["create", "--name", "web", "three:1", "x"])
        .succeeded();
    let container = root.join("containers");
    let container = std::fs::read_dir(container)
        .expect("read")
        .next()
        .expect("one");
    let written = container.expect("an entry").path().join("written");
    std::fs::write(written, vec![1; 4 << 20]).expect("written");
    strata.settle();
    (strata, disk)
}

#[test]
fn privileged_commands_that_free_space_work_on_a_full_disk() {
    let commands = [
        &["rmi", "one:1"][..],
        &["image", "prune", "-a", "-f"],
        &["system", "prune", "-a", "-f"],
        &["rm", "web"],
        &["container", "prune", "-f"],
    ];
    for kind in KINDS {
        for words in commands {
            let (strata, disk) = on_a_disk(kind);
            let reserve = strata.path("disk/root/reserve");
            let length = || std::fs::metadata(&reserve).expect("there").len();
            assert_eq!(length(), 1 << 20);
            disk.fill();
            let before = disk.free();
            let outcome = strata.run(words);
            assert_eq!(
                (outcome.code, outcome.stderr.as_str()),
                (0, ""),
                "{kind:?} {words:?}"
            );
            assert!(
                disk.frees(before + (3 << 20)),
                "{kind:?} {words:?}: {}",
                disk.free()
            );
            strata.settle();
            strata.run(&["images"]).succeeded();
            let words = ["import", "-", "new:1"];
            strata.run_with(&words, &zeros(1 << 20)).succeeded();
            // With room again, there is room for the next time.
            std::fs::remove_file(strata.path("disk/filler")).expect("removed");
            strata.run(&["rmi", "new:1"]).succeeded();
            strata.settle();
            assert_eq!(length(), 1 << 20, "{kind:?} {words:?}");
        }
    }
}

#[test]
fn privileged_what_a_full_disk_needs_is_told() {
    for kind in [Kind::Tmpfs, Kind::Ext4("4096")] {
        let (strata, disk) = on_a_disk(kind);
        strata.write("Dockerfile", "FROM one:1\nCOPY big /big\n");
        strata.write("big", vec![1; 2 << 20]);
        disk.fill();
        strata.run(&["images"]).succeeded();
        let told = strata.run(&["system", "prune", "-a", "--dry-run"]);
        assert!(told.stdout().contains("Would delete Images:"), "{kind:?}");
        for (words, input) in [
            (&["import", "-", "new:1"][..], zeros(2 << 20)),
            (&["tag", "one:1", "other:1"], Vec::new()),
            (&["create", "one:1", "x"], Vec::new()),
            (&["build", "."], Vec::new()),
        ] {
            let outcome = strata.run_with(words, &input);
            if outcome.code == 0 {
                // Records fit where the log of the database has room.
                assert!(["tag", "create"].contains(&words[0]), "{kind:?} {outcome}");
                continue;
            }
            assert!(
                outcome.stderr.contains(" left, more is needed\n")
                    && outcome.stderr.contains("'strata system prune' frees ")
                    && outcome.stderr.contains(", with -a "),
                "{kind:?} {words:?} {outcome}"
            );
        }
        let frees = strata.run(&["system", "prune", "-a", "-f"]);
        frees.succeeded();
        assert!(disk.frees(12 << 20), "{kind:?}: {}", disk.free());
    }
}
