//! Well-formed tars become what GNU tar makes of them.

use std::process::Command;

use testkit::random;
use testkit::tarball::{Format, Member, Tarball};

use crate::compare::{Layer, Seen, assert_same, extracted, of_view};

/// Asserts that mount, view, unpacked tree and GNU tar agree on `tar`.
fn check(tar: &[u8], what: &str) {
    let layer = Layer::of(tar);
    assert_eq!(
        std::fs::read(layer.dir().tar()).unwrap(),
        tar,
        "{what}: bytes are kept"
    );
    assert_eq!(
        layer.ingested.diff_id.digest(),
        &oci::Digest::of(tar),
        "{what}"
    );
    let expected = extracted(tar);
    assert_same(&layer.mounted(), &expected, what);
    assert_same(&of_view(&layer.view()), &expected, what);
    assert_same(&layer.unpacked(), &expected, what);
}

fn tar_of(members: &[Member]) -> Vec<u8> {
    let mut tar = Tarball::new();
    tar.push(&Member {
        mtime: 1,
        ..Member::directory(".")
    });
    for member in members {
        tar.push(member);
    }
    tar.finish()
}

#[test]
fn privileged_random_tars_are_what_gnu_tar_extracts() {
    for seed in 0..12 {
        check(&random::tar(seed, 150), &format!("seed {seed}"));
    }
}

#[test]
fn privileged_every_format_holds_the_same_files() {
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
    for format in [Format::V7, Format::Ustar, Format::Gnu, Format::Pax] {
        let mut members = vec![
            Member::directory("d".repeat(90)),
            Member::file("empty", b""),
            Member::file("block", &[7; 512]),
            Member {
                uid: 1000,
                gid: 1000,
                mtime: 5,
                mode: 0o4755,
                ..Member::file("x", b"x")
            },
            Member::symlink("link", "x"),
            Member {
                uid: 1000,
                gid: 1000,
                mtime: 5,
                mode: 0o4755,
                ..Member::hardlink("hard", "x")
            },
        ];
        if format != Format::V7 {
            members.push(Member::file(&long, b"long"));
            members.push(Member::char_device("null", 1, 3));
            members.push(Member {
                device: (8, 1),
                ..Member::new(b'4', "sda")
            });
            members.push(Member::fifo("pipe"));
        }
        let members: Vec<Member> = members
            .into_iter()
            .map(|member| member.format(format))
            .collect();
        check(&tar_of(&members), &format!("{format:?}"));
    }
}

#[test]
fn privileged_directories_of_all_sizes_list_every_name() {
    for (count, length) in [
        (1, 255),
        (40, 9),
        (41, 10),
        (42, 250),
        (3000, 30),
        (20, 255),
    ] {
        let name = |number: usize| format!("{number:0length$}");
        let members: Vec<Member> = (0..count)
            .map(|number| Member::file(name(number), b""))
            .collect();
        check(
            &tar_of(&members),
            &format!("{count} names of {length} bytes"),
        );
    }
}

#[test]
fn privileged_links_of_all_lengths_keep_their_target() {
    for length in [
        1, 59, 60, 400, 415, 416, 447, 448, 449, 479, 480, 511, 512, 513, 4095,
    ] {
        let link = Member {
            nanoseconds: 1,
            ..Member::symlink("link", vec![b'x'; length])
        };
        check(
            &tar_of(&[link, Member::file("after", b"a")]),
            &format!("{length}"),
        );
    }
}

#[test]
fn privileged_extended_attributes_survive() {
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
    let mut many = Member::file("many", b"many");
    for number in 0..60 {
        many = many.xattr(format!("user.n{number}"), vec![b'v'; number]);
    }
    let tar = tar_of(&[
        Member::file("ping", b"ping").xattr("security.capability", capability),
        Member::file("acl", b"acl").xattr("system.posix_acl_access", acl),
        Member::file("equals", b"").xattr("user.binary", b"a=b\0\n="),
        Member::file("trusted", b"").xattr("trusted.x", "y"),
        Member::directory("d").xattr("user.d", "d"),
        many,
    ]);
    let layer = Layer::of(&tar);
    let (mounted, viewed) = (layer.mounted(), of_view(&layer.view()));
    assert_same(&viewed, &mounted, "view");
    assert_eq!(
        mounted["ping"].xattrs[&b"security.capability"[..]],
        capability
    );
    assert_eq!(mounted["acl"].xattrs[&b"system.posix_acl_access"[..]], acl);
    assert_eq!(mounted["equals"].xattrs[&b"user.binary"[..]], b"a=b\0\n=");
    assert_eq!(mounted["trusted"].xattrs[&b"trusted.x"[..]], b"y");
    assert_eq!(mounted["many"].xattrs.len(), 60);
    assert_eq!(mounted["d"].xattrs[&b"user.d"[..]], b"d");
}

#[test]
fn privileged_sparse_files_of_every_form_have_their_holes() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("sparse");
    let mut content = vec![0; 3 << 20];
    content[0..5].copy_from_slice(b"begin");
    content[1 << 20..(1 << 20) + 9000].fill(7);
    for number in 0..40 {
        content[(2 << 20) + number * 16_384] = 1;
    }
    std::fs::write(&file, &content).unwrap();
    assert!(
        Command::new("fallocate")
            .arg("-d")
            .arg(&file)
            .status()
            .unwrap()
            .success()
    );
    for form in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let tar = Command::new("tar")
            .args(form)
            .args(["--sparse", "-cf", "-", "-C"])
            .arg(temp.path())
            .arg(".")
            .output()
            .unwrap();
        assert!(tar.stdout.len() < 1 << 20, "{form:?} is sparse");
        check(&tar.stdout, &format!("{form:?}"));
    }
}

#[test]
fn privileged_sparse_segments_need_no_alignment() {
    let member = Member::file("odd", b"abcde")
        .record("GNU.sparse.size", "1000003")
        .record("GNU.sparse.numblocks", "3")
        .record("GNU.sparse.map", "3,2,700,3,1000003,0");
    let layer = Layer::of(&tar_of(&[member, Member::file("after", b"after")]));
    let mounted = layer.mounted();
    let mut content = vec![0; 1_000_003];
    content[3..5].copy_from_slice(b"ab");
    content[700..703].copy_from_slice(b"cde");
    assert_eq!(mounted["odd"].content, Some(oci::Digest::of(&content)));
    assert_eq!(mounted["after"].content, Some(oci::Digest::of(b"after")));
    assert_same(&of_view(&layer.view()), &mounted, "view");
}

#[test]
fn privileged_later_entries_replace_earlier_ones() {
    check(
        &tar_of(&[
            Member::file("a", b"one"),
            Member::hardlink("b", "a"),
            Member::file("a", b"two"),
            Member {
                mode: 0o700,
                mtime: 3,
                ..Member::directory("d")
            },
            Member {
                mtime: 9,
                ..Member::file("d/kept", b"kept")
            },
            Member {
                mode: 0o711,
                mtime: 4,
                ..Member::directory("d")
            },
            Member::symlink("link", "a"),
            Member::hardlink("link2", "link"),
            Member::file("f", b""),
            Member::symlink("f", "elsewhere"),
        ]),
        "duplicates",
    );
}

/// One file has one owner and mode, and docker gives it those of the last entry that names it.
#[test]
fn privileged_a_hard_link_brings_its_metadata() {
    let layer = Layer::of(&tar_of(&[
        Member {
            mode: 0o755,
            uid: 7,
            gid: 7,
            mtime: 5,
            ..Member::file("f", b"content")
        },
        Member {
            mode: 0o600,
            uid: 1,
            gid: 2,
            mtime: 9,
            ..Member::hardlink("h", "f")
        },
    ]));
    let mounted = layer.mounted();
    assert_same(&of_view(&layer.view()), &mounted, "view");
    assert_eq!(mounted["f"], mounted["h"]);
    let seen = &mounted["f"];
    assert_eq!((seen.mode, seen.owner), (0o600, (1, 2)), "{seen:?}");
    assert_eq!(seen.links, 2);
}

#[test]
fn privileged_links_of_the_layer_lead_to_where_they_point() {
    let layer = Layer::of(&tar_of(&[
        Member::directory("usr"),
        Member::directory("usr/lib"),
        Member::symlink("lib", "usr/lib"),
        Member::file("lib/a", b"a"),
        Member::symlink("abs", "/usr"),
        Member::file("abs/lib/b", b"b"),
        Member::symlink("up", "../../../usr/lib"),
        Member::file("up/c", b"c"),
        Member::symlink("dangling", "usr/new"),
        Member::file("dangling/d", b"d"),
        Member::hardlink("e", "lib/a"),
    ]));
    let mounted = layer.mounted();
    for path in ["usr/lib/a", "usr/lib/b", "usr/lib/c", "usr/new/d", "e"] {
        assert_eq!(
            mounted.get(path).map(|seen| seen.kind),
            Some("file"),
            "{path}"
        );
    }
    assert_eq!(mounted["usr/lib/a"].links, 2);
    assert_eq!(mounted["lib"].kind, "symlink");
}

#[test]
fn privileged_global_headers_apply_until_the_next() {
    let mut tar = Tarball::new();
    tar.push(&Member {
        mtime: 1,
        ..Member::directory(".")
    });
    tar.global(&[("mtime", "77.5"), ("comment", "x")]);
    tar.push(&Member::file("a", b"a"));
    tar.push(&Member::file("b", b"b").record("mtime", "78"));
    tar.global(&[("mtime", "79")]);
    tar.push(&Member::file("c", b"c"));
    let layer = Layer::of(&tar.finish());
    let mounted = layer.mounted();
    let mtime = |path: &str| mounted[path].mtime;
    assert_eq!(
        (mtime("a"), mtime("b"), mtime("c")),
        ((77, 500_000_000), (78, 0), (79, 0))
    );
}

#[test]
fn privileged_times_before_1970_survive() {
    for (seconds, nanoseconds) in [("-1", (-1, 0)), ("-1.5", (-2, 500_000_000))] {
        let tar = tar_of(&[Member::file("old", b"").record("mtime", seconds)]);
        let layer = Layer::of(&tar);
        assert_eq!(layer.mounted()["old"].mtime, nanoseconds);
        assert_eq!(of_view(&layer.view())["old"].mtime, nanoseconds);
    }
}

#[test]
fn the_end_of_a_tar_may_be_short_or_long() {
    let mut tar = Tarball::new();
    tar.push(&Member::file("a", b"content"));
    let members = tar.unfinished();
    let unpadded = members.len() - 512 + 7;
    for (what, bytes) in [
        ("no end marker", members.clone()),
        ("no padding", members[..unpadded].to_vec()),
        ("one block of zeros", [&members[..], &[0; 512]].concat()),
        (
            "many blocks of zeros",
            [&members[..], &[0; 10_240]].concat(),
        ),
        (
            "bytes after the end",
            [&members[..], &[0; 1024], &[b'x'; 700]].concat(),
        ),
    ] {
        let layer = Layer::of(&bytes);
        assert_eq!(std::fs::read(layer.dir().tar()).unwrap(), bytes, "{what}");
        assert_eq!(
            layer.ingested.diff_id.digest(),
            &oci::Digest::of(&bytes),
            "{what}"
        );
        assert_eq!(layer.ingested.entries, 1);
        let content = layer.view().read_file(b"a", 10).unwrap();
        assert_eq!(content.as_deref(), Some(&b"content"[..]), "{what}");
    }
}

#[test]
fn privileged_a_tar_of_nothing_is_an_empty_layer() {
    for bytes in [&[][..], &[0; 512], &[0; 1024]] {
        let layer = Layer::of(bytes);
        assert_eq!(
            (layer.ingested.entries, layer.ingested.content_size),
            (0, 0)
        );
        let mounted = layer.mounted();
        assert_eq!(mounted.len(), 1);
        assert_eq!(mounted[""].mode, 0o755);
    }
}

#[test]
fn privileged_100_000_entries_are_a_correct_image() {
    let mut tar = Tarball::new();
    for directory in 0..1000 {
        tar.push(&Member::directory(format!("d{directory}")));
        for file in 0..100 {
            tar.push(&Member::file(format!("d{directory}/f{file}"), b"x"));
        }
    }
    let layer = Layer::of(&tar.finish());
    assert_eq!(layer.ingested.entries, 101_000);
    let mounted = layer.mounted();
    assert_eq!(mounted.len(), 101_001);
    let seen: &Seen = &mounted["d999/f99"];
    assert_eq!(seen.content, Some(oci::Digest::of(b"x")));
}
