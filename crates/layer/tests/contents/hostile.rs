//! Hostile tars: each ends in a clear error or a correct layer.

use std::error::Error as _;

use layer::{IngestError, Limits};
use testkit::random::Random;
use testkit::tarball::{self, Format, Member, Tarball};

use crate::compare::{Layer, of_view};

fn tar_of(members: &[Member]) -> Vec<u8> {
    let mut tar = Tarball::new();
    for member in members {
        tar.push(member);
    }
    tar.finish()
}

/// Returns the error's chain as one line.
fn told(error: &IngestError) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn check(tar: &[u8], expected: &str) {
    let error = Layer::try_of(tar).expect_err(expected);
    assert_eq!(told(&error), expected);
}

fn check_members(members: &[Member], expected: &str) {
    check(&tar_of(members), expected);
}

#[test]
fn paths_through_the_parent_directory_are_refused() {
    for name in ["../x", "a/../../x", "/../x", "..", "a/.."] {
        let expected = format!(
            "invalid entry `{name}` in the layer: path leads through `..`, outside of the layer"
        );
        check_members(&[Member::file(name, b"x")], &expected);
    }
}

#[test]
fn absolute_paths_are_inside_the_layer() {
    let layer = Layer::of(&tar_of(&[
        Member::file("/etc/x", b"x"),
        Member::file("//y", b"y"),
    ]));
    let tree = of_view(&layer.view());
    assert!(tree.contains_key("etc/x") && tree.contains_key("y"));
}

#[test]
fn a_symbolic_link_cannot_lead_an_entry_out_of_the_layer() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let up = format!("{}{}", "../".repeat(30), &target[1..]);
    let layer = Layer::of(&tar_of(&[
        Member::symlink("abs", target),
        Member::file("abs/x", b"x"),
        Member::symlink("up", &up),
        Member::file("up/y", b"y"),
    ]));
    assert_eq!(outside.path().read_dir().unwrap().count(), 0);
    let tree = of_view(&layer.view());
    for name in ["x", "y"] {
        let inside = format!("{}/{name}", &target[1..]);
        assert_eq!(tree[&inside].kind, "file");
    }
}

#[test]
fn links_in_a_circle_are_refused() {
    check_members(
        &[
            Member::symlink("a", "b"),
            Member::symlink("b", "a"),
            Member::file("a/x", b""),
        ],
        "invalid entry `a/x` in the layer: too many levels of symbolic links",
    );
}

#[test]
fn a_hard_link_cannot_leave_the_layer() {
    for (target, expected) in [
        (
            "../etc/passwd",
            "path leads through `..`, outside of the layer".to_owned(),
        ),
        (
            "/etc/passwd",
            "target `etc/passwd` of the hard link is not in this layer".to_owned(),
        ),
        (
            "later",
            "target `later` of the hard link is not in this layer".to_owned(),
        ),
        (
            "x",
            "target `x` of the hard link is not in this layer".to_owned(),
        ),
        ("d", "target `d` of the hard link is a directory".to_owned()),
    ] {
        let members = [
            Member::directory("d"),
            Member::hardlink("x", target),
            Member::file("later", b""),
        ];
        check_members(
            &members,
            &format!("invalid entry `x` in the layer: {expected}"),
        );
    }
}

#[test]
fn a_hard_link_through_a_symbolic_link_stays_in_the_layer() {
    check_members(
        &[
            Member::symlink("etc", "/etc"),
            Member::hardlink("x", "etc/passwd"),
        ],
        "invalid entry `x` in the layer: too many levels of symbolic links",
    );
    check_members(
        &[
            Member::symlink("e", "/etc"),
            Member::hardlink("x", "e/passwd"),
        ],
        "invalid entry `x` in the layer: target `e/passwd` of the hard link is not in this layer",
    );
}

#[test]
fn a_hard_link_that_replaces_its_target_is_refused() {
    check_members(
        &[Member::file("d/x", b""), Member::hardlink("d", "d/x")],
        "invalid entry `d` in the layer: target `d/x` of the hard link is not in this layer",
    );
}

#[test]
fn a_file_is_no_directory() {
    check_members(
        &[Member::file("a", b""), Member::file("a/b", b"")],
        "invalid entry `a/b` in the layer: `a` is not a directory",
    );
    check_members(
        &[Member::file(".", b"")],
        "invalid entry `.` in the layer: root of the layer is not a directory",
    );
}

/// The index's own names: a view leaves whiteouts out.
fn names_in_root(layer: &Layer) -> Vec<String> {
    let index = layer::Index::open(&layer.dir()).unwrap();
    let names = index.read_dir(&index.root().unwrap()).unwrap();
    let text = |(name, _): &(Vec<u8>, u64)| name.escape_ascii().to_string();
    names.iter().map(text).collect()
}

#[test]
fn a_whiteout_that_replaces_a_link_on_its_own_way_hides_the_links_name() {
    let layer = Layer::of(&tar_of(&[
        Member::symlink("c", ".."),
        Member::char_device("c/c", 0, 0),
    ]));
    assert_eq!(names_in_root(&layer), ["c"]);
    let index = layer::Index::open(&layer.dir()).unwrap();
    let nid = index.lookup(&index.root().unwrap(), b"c").unwrap().unwrap();
    assert!(index.inode(nid).unwrap().is_whiteout());
}

#[test]
fn device_numbers_out_of_range_are_refused() {
    check_members(
        &[Member::char_device("a", 4096, 0)],
        "invalid entry `a` in the layer: device number 4096:0 out of range",
    );
}

#[test]
fn whiteouts_of_no_name_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh...", ".wh.a/b"] {
        let expected = format!("invalid entry `{name}` in the layer: invalid whiteout");
        check_members(&[Member::file(name, b"")], &expected);
    }
}

#[test]
fn names_that_linux_cannot_hold_are_refused() {
    for (member, expected) in [
        (
            Member::file("n".repeat(256), b""),
            "name of more than 255 bytes",
        ),
        (
            Member::file("d/".repeat(2050) + "x", b""),
            "path of more than 4095 bytes",
        ),
        (
            Member::symlink("x", ""),
            "symbolic link to a path of 0 bytes",
        ),
        (
            Member::symlink("x", "y".repeat(4096)),
            "symbolic link to a path of 4096 bytes",
        ),
    ] {
        let error = Layer::try_of(&tar_of(&[member])).expect_err(expected);
        assert_eq!(error.source().unwrap().to_string(), expected);
    }
}

#[test]
fn a_tar_that_ends_early_is_refused() {
    let tar = tar_of(&[Member::file("a", &[1; 5000]), Member::file("b", b"b")]);
    let first = 512 + 5120;
    for length in [1, 511, 513, 1000, 5511, first + 1, first + 512] {
        let error = Layer::try_of(&tar[..length]).expect_err("truncated");
        assert_eq!(
            error.source().unwrap().to_string(),
            "unexpected end of the tar",
            "{length}"
        );
    }
}

#[test]
fn a_huge_claimed_size_is_an_early_end() {
    let claims = [1 << 20, 1 << 33, (1 << 40) - 1];
    for claimed_size in claims {
        let member = Member {
            claimed_size: Some(claimed_size),
            format: Format::Gnu,
            ..Member::file("a", b"x")
        };
        let error = Layer::try_of(&tar_of(&[member])).expect_err("huge");
        assert_eq!(
            error.source().unwrap().to_string(),
            "unexpected end of the tar"
        );
    }
    for claimed_size in [(1 << 40) + 1, i64::MAX.unsigned_abs()] {
        let member = Member {
            claimed_size: Some(claimed_size),
            format: Format::Gnu,
            ..Member::file("a", b"x")
        };
        let error = Layer::try_of(&tar_of(&[member])).expect_err("huge");
        let expected = format!(
            "file of {claimed_size} bytes exceeds the limit of {}",
            1_u64 << 40
        );
        assert_eq!(error.source().unwrap().to_string(), expected);
    }
    check_members(
        &[Member::file("a", b"x").record("size", "99999999999999999999999")],
        "malformed layer at byte 1536: invalid tar header: bad number in field `size`",
    );
}

/// Of two sizes the one in the record counts, and what is no file has none: otherwise the content
/// of a file would be entries to one reader and content to another (CVE-2025-62518).
#[test]
fn a_tar_in_a_tar_stays_content() {
    let inner = tar_of(&[Member::file("smuggled", b"x")]);
    let size = inner.len().to_string();
    for claimed in [0, 512, 1 << 33] {
        let outer = Member {
            claimed_size: Some(claimed),
            ..Member::file("outer", &inner).record("size", &size)
        };
        let link = Member {
            claimed_size: Some(1024),
            ..Member::symlink("link", "outer").record("size", "2048")
        };
        let layer = Layer::of(&tar_of(&[link, outer, Member::file("last", b"")]));
        assert_eq!(
            names_in_root(&layer),
            ["last", "link", "outer"],
            "{claimed}"
        );
        let tree = of_view(&layer.view());
        assert_eq!(tree["outer"].content, Some(oci::Digest::of(&inner)));
    }
}

#[test]
fn names_and_targets_may_have_any_bytes() {
    let name: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    let (first, second) = name.split_at(127);
    let layer = Layer::of(&tar_of(&[
        Member::file(first, b"1"),
        Member::symlink(second, &name),
    ]));
    let expected: Vec<String> = [first, second]
        .map(|name| name.escape_ascii().to_string())
        .to_vec();
    let found: Vec<String> = names_in_root(&layer);
    assert_eq!(found, expected);
    assert_eq!(of_view(&layer.view())[&expected[1]].target, name);
}

#[test]
fn huge_extended_headers_are_refused() {
    let mut tar = Tarball::new();
    tar.raw(&tarball::header(&Member {
        claimed_size: Some(1 << 32),
        ..Member::new(b'x', "x")
    }));
    check(
        &tar.finish(),
        "malformed layer at byte 512: invalid tar header: extended header of 4294967296 bytes",
    );
    let mut tar = Tarball::new();
    let long = "c".repeat(40_000);
    tar.global(&[("comment", &long)])
        .global(&[("comment", &long)]);
    let error = Layer::try_of(&tar.finish()).expect_err("global");
    assert!(
        told(&error).contains("extended header of 80030 bytes"),
        "{}",
        told(&error)
    );
}

#[test]
fn many_extended_headers_for_one_entry_are_refused() {
    // Each is small enough; without a limit on all of them they would fill the memory.
    for flag in [b'x', b'L', b'K'] {
        let mut tar = Tarball::new();
        for number in 0..20 {
            let value = vec![b'v'; 100_000];
            let records = [(format!("k{number}").into_bytes(), value)];
            tar.extension(flag, &tarball::encode_records(&records));
        }
        tar.push(&Member::file("a", b""));
        let error = Layer::try_of(&tar.finish()).expect_err("many headers");
        assert!(
            told(&error).contains("invalid tar header: extended header of 11"),
            "{}",
            told(&error)
        );
    }
}

#[test]
fn messages_have_a_length_whatever_a_tar_says() {
    let long = "n".repeat(1_000_000);
    let key = format!("SCHILY.xattr.user.{long}");
    for member in [
        Member::file("x", b"").record("path", &long),
        Member::hardlink("x", "y").record("linkpath", format!("a/{long}")),
        Member::file("x", b"").record(key, "v"),
        Member::file("x", b"").record("path", "\u{1b}[2J".repeat(200_000)),
    ] {
        let error = Layer::try_of(&tar_of(&[member])).expect_err("too long");
        let told = told(&error);
        assert!(told.len() < 2000, "{} bytes", told.len());
        assert!(!told.chars().any(char::is_control), "{told}");
    }
}

#[test]
fn hostile_sparse_maps_are_refused() {
    for (size, map) in [
        ("10", "0,1,5"),
        ("10", "5,1,0,1"),
        ("10", "0,3,2,2"),
        ("3", "0,5"),
        ("10", "0,4"),
        ("10", "0,6"),
        ("10", "18446744073709551615,5"),
        ("10", "-1,5"),
        ("10", "a"),
    ] {
        let member = Member::file("a", b"abcde")
            .record("GNU.sparse.size", size)
            .record("GNU.sparse.map", map);
        let error = Layer::try_of(&tar_of(&[member])).expect_err(map);
        assert!(
            told(&error).ends_with("malformed sparse map"),
            "{map}: {}",
            told(&error)
        );
    }
    for content in ["", "x\n", "99999999999\n", "1\n0\n5\n"] {
        let member = Member::file("a", content.as_bytes())
            .record("GNU.sparse.major", "1")
            .record("GNU.sparse.minor", "0")
            .record("GNU.sparse.realsize", "5");
        Layer::try_of(&tar_of(&[member])).expect_err(content);
    }
    let huge = Member::file("a", b"")
        .record("GNU.sparse.size", (1_u64 << 50).to_string())
        .record("GNU.sparse.map", "0,0");
    check_members(&[huge], "layer exceeds the limit of 1099511627776 bytes");
}

#[test]
fn what_is_no_tar_is_refused() {
    check(
        &[b'x'; 600],
        "malformed layer at byte 512: invalid tar header: wrong checksum",
    );
    let mut tar = Tarball::new();
    tar.push(&Member::file("a", b""))
        .raw(&[0; 512])
        .push(&Member::file("b", b""));
    check(
        &tar.finish(),
        "malformed layer at byte 1536: invalid tar header: lone block of zeros",
    );
    check_members(
        &[Member::new(b'M', "a")],
        "malformed layer at byte 512: unhandled tar header type M",
    );
    let mut tar = Tarball::new();
    tar.extension(b'L', b"name\0");
    check(
        &tar.finish(),
        "malformed layer at byte 2048: invalid tar header: extended header without an entry",
    );
}

#[test]
fn limits_hold() {
    let tar = tar_of(&[Member::file("a", b""), Member::file("b", b"")]);
    let temp = tempfile::tempdir().unwrap();
    let ingest = |limits: Limits| {
        let error = layer::ingest(&mut tar.as_slice(), temp.path(), &limits).expect_err("limit");
        told(&error)
    };
    let default = Limits::default();
    let found = ingest(Limits {
        max_entries: 1,
        ..default
    });
    assert_eq!(found, "layer exceeds the limit of 1 entries");
    let found = ingest(Limits {
        max_tar_size: 1024,
        ..default
    });
    assert_eq!(found, "layer exceeds the limit of 1024 bytes");
    let found = ingest(Limits {
        max_index_memory: 100,
        ..default
    });
    assert!(
        found.ends_with("exceeds the memory limit of 100 bytes"),
        "{found}"
    );
}

#[test]
fn what_overlayfs_reads_cannot_come_from_an_image() {
    let layer = Layer::of(&tar_of(&[
        Member::directory("d")
            .xattr("user.overlay.opaque", "y")
            .xattr("user.kept", "k"),
        Member::file("f", b"").xattr("trusted.overlay.redirect", "/etc"),
    ]));
    let index = layer::Index::open(&layer.dir()).unwrap();
    let root = index.root().unwrap();
    for (name, expected) in [(&b"d"[..], 1), (b"f", 0)] {
        let nid = index.lookup(&root, name).unwrap().unwrap();
        let inode = index.inode(nid).unwrap();
        assert_eq!(inode.entry.xattrs.len(), expected);
        assert!(!inode.is_opaque());
    }
}

#[test]
fn damaged_tars_never_panic() {
    let tar = testkit::random::tar(3, 60);
    let mut random = Random::new(5);
    for _ in 0..300 {
        let mut tar = tar.clone();
        for _ in 0..=random.below(3) {
            let block = random.below(tar.len() / 512) * 512;
            let at = block + random.below(512);
            tar[at] = *random.choice(b"\0\x01 07/.=\x80\xff");
            // A right checksum lets the change through to what reads the field.
            if let Some(header) = tar[block..].first_chunk_mut::<512>() {
                tarball::seal(header);
            }
        }
        drop(Layer::try_of(&tar));
    }
}

#[test]
fn damaged_indexes_are_errors_and_never_panic() {
    let layer = Layer::of(&testkit::random::tar(4, 60));
    let index = std::fs::read(layer.dir().index()).unwrap();
    let mut random = Random::new(6);
    for _ in 0..1500 {
        let mut index = index.clone();
        for _ in 0..=random.below(4) {
            let at = 1536 + random.below(index.len() - 1536);
            index[at] = *random.choice(b"\0\x01\x02\x7f\x80\xff");
        }
        index.truncate(index.len() - random.below(2) * random.below(index.len()));
        std::fs::write(layer.dir().index(), &index).unwrap();
        let Ok(view) = layer::View::open(&[layer.dir()]) else {
            continue;
        };
        let Ok(root) = view.root() else { continue };
        let mut queue = vec![root];
        let mut budget = 500;
        while let Some(node) = queue.pop() {
            budget -= 1;
            if budget == 0 {
                break;
            }
            let Ok(children) = view.read_dir(&node) else {
                continue;
            };
            for (_, child) in children {
                drop(view.open_file(&child));
                if child.entry.kind == layer::EntryKind::Directory {
                    queue.push(child);
                }
            }
        }
    }
}

#[test]
fn a_full_disk_is_an_error_of_the_file() {
    for name in ["tar", "index.erofs"] {
        for size in [1, 3 << 20] {
            let temp = tempfile::tempdir().unwrap();
            std::os::unix::fs::symlink("/dev/full", temp.path().join(name)).unwrap();
            let tar = tar_of(&[Member::file("a", &vec![1; size])]);
            let limits = Limits::default();
            let error = layer::ingest(&mut tar.as_slice(), temp.path(), &limits).unwrap_err();
            let expected = format!("failed to write `{}`", temp.path().join(name).display());
            assert_eq!(error.to_string(), expected);
        }
    }
}

#[test]
fn a_source_that_fails_is_an_error_of_reading() {
    struct Failing(usize);
    impl std::io::Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let length = buffer.len().min(self.0);
            self.0 -= length;
            if length == 0 {
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
            buffer[..length].fill(0);
            Ok(length)
        }
    }
    for length in [0, 100, 1024, 3 << 20] {
        let temp = tempfile::tempdir().unwrap();
        let limits = Limits::default();
        let error = layer::ingest(&mut Failing(length), temp.path(), &limits).unwrap_err();
        assert!(matches!(error, IngestError::Read(_)), "{length}: {error:?}");
    }
}
