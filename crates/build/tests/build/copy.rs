//! COPY, ADD and WORKDIR.

use build::Event;
use layer::EntryKind;
use std::fs;
use testkit::tarball::{Member, Tarball};

use crate::bench::{Bench, archive, entry, exists, link};

fn bench() -> Bench {
    let mut bench = Bench::new();
    let directory = |path: &str, mode| (entry(path, EntryKind::Directory, mode), Vec::new());
    let passwd = b"app:x:1000:1001::/:/bin/sh\n".to_vec();
    let size = u64::try_from(passwd.len()).expect("small");
    bench.image(
        "base",
        &[
            directory("etc", 0o755),
            (entry("etc/passwd", EntryKind::File { size }, 0o644), passwd),
            directory("private", 0o700),
            directory("real", 0o755),
            (entry("link", link("/real"), 0o777), Vec::new()),
            (entry("file-link", link("real/target"), 0o777), Vec::new()),
            (entry("loop", link("loop"), 0o777), Vec::new()),
        ],
        |_| {},
    );
    bench.write("a.txt", "a");
    bench.write("b.txt", "b");
    bench.write("dir/one", "1");
    bench.write("dir/sub/two", "2");
    bench.chmod("dir/sub", 0o750);
    bench.chmod("dir/one", 0o600);
    bench
}

fn check(instructions: &str, path: &str, expected: &[&str]) {
    let bench = bench();
    let built = bench.build(&format!("FROM base\n{instructions}"));
    assert_eq!(bench.files(&built, path), expected, "{instructions}");
}

#[test]
fn destinations_are_files_or_directories_as_in_docker() {
    check("COPY a.txt /x", "x", &["f 644 0:0 x \"a\""]);
    check(
        "COPY a.txt /x/",
        "x",
        &["d 755 0:0 x", "f 644 0:0 x/a.txt \"a\""],
    );
    check(
        "COPY a.txt /x/y/z",
        "x",
        &["d 755 0:0 x", "d 755 0:0 x/y", "f 644 0:0 x/y/z \"a\""],
    );
    check(
        "COPY a.txt /real",
        "real",
        &["d 755 0:0 real", "f 644 0:0 real/a.txt \"a\""],
    );
    check(
        "WORKDIR /w\nCOPY a.txt .",
        "w",
        &["d 755 0:0 w", "f 644 0:0 w/a.txt \"a\""],
    );
    check(
        "WORKDIR /w\nCOPY a.txt n/",
        "w",
        &["d 755 0:0 w", "d 755 0:0 w/n", "f 644 0:0 w/n/a.txt \"a\""],
    );
    check(
        "WORKDIR w\nWORKDIR v",
        "w",
        &["d 755 0:0 w", "d 755 0:0 w/v"],
    );
}

#[test]
fn directories_give_their_contents() {
    let contents = |root: &str| {
        [
            format!("d 755 0:0 {root}"),
            format!("f 600 0:0 {root}/one \"1\""),
            format!("d 750 0:0 {root}/sub"),
            format!("f 644 0:0 {root}/sub/two \"2\""),
        ]
    };
    for (instruction, root) in [
        ("COPY dir /x", "x"),
        ("COPY dir/ /x/", "x"),
        ("COPY dir /real", "real"),
        ("COPY di* /x/", "x"),
    ] {
        let expected = contents(root);
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check(instruction, root, &expected);
    }
}

#[test]
fn wildcards_name_several_files_or_none() {
    check(
        "COPY *.txt /x/",
        "x",
        &[
            "d 755 0:0 x",
            "f 644 0:0 x/a.txt \"a\"",
            "f 644 0:0 x/b.txt \"b\"",
        ],
    );
    check(
        "COPY [b-z].txt /x/",
        "x",
        &["d 755 0:0 x", "f 644 0:0 x/b.txt \"b\""],
    );
    check(
        "COPY d*/s* /x/",
        "x",
        &["d 755 0:0 x", "f 644 0:0 x/two \"2\""],
    );
    check(
        "COPY a.txt nope* /x/",
        "x",
        &["d 755 0:0 x", "f 644 0:0 x/a.txt \"a\""],
    );
}

#[test]
fn parents_keep_their_owner_and_mode() {
    let bench = bench();
    let built = bench.build("FROM base\nCOPY --chown=5:6 a.txt /private/x");
    assert_eq!(
        bench.files(&built, "private"),
        ["d 700 0:0 private", "f 644 5:6 private/x \"a\""]
    );
}

#[test]
fn owners_are_names_of_the_image_or_numbers() {
    for (owner, expected) in [
        ("app", "1000:1001"),
        ("app:0", "1000:0"),
        ("7", "7:7"),
        ("7:8", "7:8"),
        ("root", "0:0"),
    ] {
        let line = format!("f 644 {expected} x/y \"a\"");
        let directory = format!("d 755 {expected} x");
        check(
            &format!("COPY --chown={owner} a.txt /x/y"),
            "x",
            &[&directory, &line],
        );
    }
    check("USER app\nWORKDIR /x", "x", &["d 755 1000:1001 x"]);
}

#[test]
fn an_unknown_owner_is_root_as_in_buildkit_and_is_told() {
    for (owner, expected) in [
        ("nobody", "0:0"),
        ("nobody:nogroup", "0:0"),
        ("app:nogroup", "1000:1001"),
        ("7:nogroup", "7:7"),
        ("nobody:8", "0:8"),
    ] {
        let bench = bench();
        let options = bench.options(&format!("FROM base\nCOPY --chown={owner} a.txt /x"));
        let (built, events) = bench.run(&options);
        let line = format!("f 644 {expected} x \"a\"");
        assert_eq!(bench.files(&built.expect("built"), "x"), [line]);
        let told = format!("files belong to {expected}");
        let is_told =
            |event: &Event| matches!(event, Event::Log { line, .. } if line.ends_with(&told));
        assert!(events.iter().any(is_told), "{events:?}");
    }
    check("USER nobody\nWORKDIR /x", "x", &["d 755 0:0 x"]);
    let error = bench().fail("FROM scratch\nCOPY --chown=nobody a.txt /x");
    assert_eq!(
        error.to_string(),
        "unable to find user nobody: no matching entries in passwd file"
    );
}

#[test]
fn modes_are_those_of_chmod() {
    check("COPY --chmod=700 a.txt /x", "x", &["f 700 0:0 x \"a\""]);
    check(
        "COPY --chmod=0604 dir/sub /x",
        "x",
        &["d 604 0:0 x", "f 604 0:0 x/two \"2\""],
    );
}

#[test]
fn symbolic_modes_leave_directories_on_the_way_alone() {
    check(
        "COPY --chmod=go-rwx a.txt /x/y/",
        "x",
        &["d 755 0:0 x", "d 755 0:0 x/y", "f 600 0:0 x/y/a.txt \"a\""],
    );
}

#[test]
fn symbolic_modes_depend_on_what_the_source_has() {
    check(
        "COPY --chmod=a=rX,u+w dir /x",
        "x",
        &[
            "d 755 0:0 x",
            "f 644 0:0 x/one \"1\"",
            "d 755 0:0 x/sub",
            "f 644 0:0 x/sub/two \"2\"",
        ],
    );
    check(
        "ARG M=u+x\nCOPY --chmod=$M,g=u dir/one /x",
        "x",
        &["f 770 0:0 x \"1\""],
    );
    let error = bench().fail("FROM base\nCOPY --chmod=u~x a.txt /x");
    assert!(
        error
            .to_string()
            .starts_with("invalid chmod parameter: 'u~x'")
    );
}

#[test]
fn with_parents_the_way_to_a_source_is_kept() {
    check(
        "COPY --parents ./dir/sub/two a.txt /x/",
        "x",
        &[
            "d 755 0:0 x",
            "f 644 0:0 x/a.txt \"a\"",
            "d 755 0:0 x/dir",
            "d 750 0:0 x/dir/sub",
            "f 644 0:0 x/dir/sub/two \"2\"",
        ],
    );
    check(
        "COPY --parents ./dir/./s*/two /x/",
        "x",
        &[
            "d 755 0:0 x",
            "d 750 0:0 x/sub",
            "f 644 0:0 x/sub/two \"2\"",
        ],
    );
    check(
        "COPY --parents **/t* /x/",
        "x",
        &[
            "d 755 0:0 x",
            "d 755 0:0 x/dir",
            "d 750 0:0 x/dir/sub",
            "f 644 0:0 x/dir/sub/two \"2\"",
        ],
    );
    // A directory comes with what is in it, but for what is excluded.
    check(
        "COPY --parents --exclude=**/two dir /x/",
        "x",
        &[
            "d 755 0:0 x",
            "d 755 0:0 x/dir",
            "f 600 0:0 x/dir/one \"1\"",
            "d 750 0:0 x/dir/sub",
        ],
    );
    check("COPY --parents nope* /x/", "x", &["d 755 0:0 x"]);
    for (source, named) in [("dir/nope", "/dir/nope"), ("dir/./nope", "/dir/nope")] {
        let error = bench().fail(&format!("FROM base\nCOPY --parents {source} /x/"));
        assert_eq!(
            error.to_string(),
            format!(
                "failed to compute cache key: failed to calculate checksum of ref context: \"{named}\": not found"
            )
        );
    }
}

#[test]
fn with_parents_a_step_depends_on_what_it_copies_only() {
    let bench = bench();
    let text = "FROM base\nCOPY --parents **/two /x/";
    assert_eq!(bench.build(text).executed, 1);
    bench.write("dir/one", "changed");
    assert_eq!(bench.build(text).executed, 0);
    bench.write("dir/sub/two", "changed");
    assert_eq!(bench.build(text).executed, 1);
    let built = bench
        .build("FROM base AS a\nCOPY dir /d/e\nFROM base\nCOPY --from=a --parents /d/./e/sub /y");
    assert_eq!(bench.files(&built, "y/e/sub/two").len(), 1);
}

#[test]
fn directories_made_on_the_way_get_the_mode_under_a_umask() {
    check(
        "COPY --chmod=777 a.txt /x/y/",
        "x",
        &["d 755 0:0 x", "d 755 0:0 x/y", "f 777 0:0 x/y/a.txt \"a\""],
    );
    check(
        "ADD --chmod=0666 dir /x",
        "x",
        &[
            "d 644 0:0 x",
            "f 666 0:0 x/one \"1\"",
            "d 666 0:0 x/sub",
            "f 666 0:0 x/sub/two \"2\"",
        ],
    );
}

#[test]
fn links_of_the_destination_are_followed_inside_the_image() {
    check(
        "COPY a.txt /link/",
        "real",
        &["d 755 0:0 real", "f 644 0:0 real/a.txt \"a\""],
    );
    check(
        "COPY dir/sub /link",
        "real",
        &["d 755 0:0 real", "f 644 0:0 real/two \"2\""],
    );
    check(
        "COPY a.txt /file-link",
        "real",
        &["d 755 0:0 real", "f 644 0:0 real/target \"a\""],
    );
    check(
        "WORKDIR /link/w",
        "real",
        &["d 755 0:0 real", "d 755 0:0 real/w"],
    );
    check(
        "COPY a.txt /link/../up/x",
        "up",
        &["d 755 0:0 up", "f 644 0:0 up/x \"a\""],
    );
    let error = bench().fail("FROM base\nCOPY a.txt /loop/x");
    assert!(error.to_string().contains("too many links"), "{error}");
}

#[test]
fn links_of_the_context_stay_inside_it() {
    let bench = bench();
    bench.link("inside", "dir/one");
    bench.link("absolute", "/dir/one");
    bench.link("outside", "/etc/hostname");
    bench.link("up", "../../../../etc/hostname");
    bench.link("dir/kept", "../a.txt");
    let built = bench.build("FROM base\nCOPY inside /x\nCOPY absolute /y\nCOPY dir /z");
    assert_eq!(bench.files(&built, "x"), ["f 600 0:0 x \"1\""]);
    assert_eq!(bench.files(&built, "y"), ["f 600 0:0 y \"1\""]);
    assert!(
        bench
            .files(&built, "z")
            .contains(&"l 0:0 z/kept -> ../a.txt".to_owned())
    );
    for name in ["outside", "up"] {
        let error = bench.fail(&format!("FROM base\nCOPY {name} /x"));
        assert!(
            error
                .to_string()
                .ends_with(&format!("\"/{name}\": not found")),
            "{error}"
        );
    }
}

#[test]
fn types_do_not_change_silently() {
    let error = bench().fail("FROM base\nCOPY dir /etc/passwd");
    assert_eq!(
        error.to_string(),
        "cannot copy to non-directory: /etc/passwd"
    );
    let bench = bench();
    bench.write("tree/real", "file");
    let error = bench.fail("FROM base\nCOPY tree /");
    assert_eq!(
        error.to_string(),
        "cannot replace to directory /real with file"
    );
    bench.write("links/link/x", "x");
    let error = bench.fail("FROM base\nCOPY links /");
    assert_eq!(error.to_string(), "cannot copy to non-directory: /link");
}

#[test]
fn later_sources_win_and_names_of_one_file_stay_together() {
    let bench = bench();
    std::fs::hard_link(
        bench.context().join("dir/one"),
        bench.context().join("dir/uno"),
    )
    .expect("a link");
    let built = bench.build("FROM base\nCOPY dir /x\nCOPY a.txt /x/one");
    let view = bench.view(&built);
    let name = |path: &[u8]| view.lookup(path).expect("readable").expect("there");
    assert_eq!(name(b"x/uno").entry.kind, EntryKind::File { size: 1 });
    assert_eq!(bench.files(&built, "x/uno"), ["f 600 0:0 x/uno \"1\""]);
    let pair = bench.build("FROM base\nCOPY dir /x");
    let view = bench.view(&pair);
    let id = |path: &[u8]| view.lookup(path).expect("readable").expect("there").id;
    assert_eq!(id(b"x/one"), id(b"x/uno"));
}

#[test]
fn ignored_files_are_not_seen() {
    let bench = bench();
    bench.write(".dockerignore", "dir\n!dir/sub\n*.txt\n");
    let built = bench.build("FROM base\nCOPY . /x");
    assert_eq!(
        bench.files(&built, "x"),
        [
            "d 755 0:0 x",
            "f 644 0:0 x/.dockerignore \"dir\\n!dir/sub\\n*.txt\\n\"",
            "d 755 0:0 x/dir",
            "d 750 0:0 x/dir/sub",
            "f 644 0:0 x/dir/sub/two \"2\"",
        ]
    );
    let error = bench.fail("FROM base\nCOPY a.txt /x");
    assert!(
        error.to_string().ends_with("\"/a.txt\": not found"),
        "{error}"
    );
    let path = bench.context().join("Other.dockerignore");
    std::fs::write(&path, "dir\n").expect("a file");
    let mut options = bench.options("FROM base\nCOPY . /x");
    options.dockerfile_place = build::DockerfilePlace::File(bench.context().join("Other"));
    let (built, _) = bench.run(&options);
    let files = bench.files(&built.expect("builds"), "x");
    assert!(
        files.contains(&"f 644 0:0 x/a.txt \"a\"".to_owned()),
        "{files:?}"
    );
}

#[test]
fn an_ignore_file_cannot_lead_out_of_the_context() {
    for target in ["/etc/passwd", "../outside", "/dev/zero", "dir"] {
        let bench = bench();
        bench.link(".dockerignore", target);
        bench.fail("FROM base\nCOPY . /x");
    }
}

#[test]
fn exclusions_and_heredocs() {
    check(
        "COPY --exclude=sub dir /x",
        "x",
        &["d 755 0:0 x", "f 600 0:0 x/one \"1\""],
    );
    check(
        "ARG V=1\nCOPY <<one <<\"two\" /x/\n$V\none\n$V\ntwo",
        "x",
        &[
            "d 755 0:0 x",
            "f 644 0:0 x/one \"1\\n\"",
            "f 644 0:0 x/two \"$V\\n\"",
        ],
    );
}

#[test]
fn archives_are_unpacked_and_cannot_leave_the_destination() {
    let tar = archive("sub/file", "content");
    let gzip = {
        let mut out = Vec::new();
        let compression = layer::Compression::DEFAULT;
        layer::compress(&mut tar.as_slice(), &mut out, compression).expect("memory");
        out
    };
    for (name, bytes) in [("x.tar", tar), ("x.tgz", gzip)] {
        let bench = bench();
        bench.write(name, &bytes);
        let built = bench.build(&format!("FROM base\nADD {name} /to/"));
        assert_eq!(
            bench.files(&built, "to"),
            [
                "d 755 0:0 to",
                "l 0:0 to/out -> ../../outside",
                "d 755 0:0 to/sub",
                "f 640 7:8 to/sub/file \"content\"",
            ]
        );
        let owned = bench.build(&format!("FROM base\nADD --chown=5 {name} /to/"));
        assert!(bench.files(&owned, "to/sub/file")[0].starts_with("f 640 5:5"));
        let moded = bench.build(&format!("FROM base\nADD --chmod=711 {name} /to/"));
        assert_eq!(bench.files(&moded, "to")[0], "d 755 0:0 to");
        assert!(bench.files(&moded, "to/sub/file")[0].starts_with("f 640 7:8"));
        let copied = bench.build(&format!("FROM base\nCOPY {name} /to/"));
        assert!(
            bench
                .view(&copied)
                .lookup(format!("to/{name}").as_bytes())
                .is_ok_and(|n| n.is_some())
        );
        assert!(!exists(bench.store.root(), "outside"));
    }
}

#[test]
fn archives_replace_what_is_there() {
    let bench = bench();
    let mut builder = tar::Builder::new(Vec::new());
    for name in ["real", "other/below"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o600);
        builder
            .append_data(&mut header, name, &b"x"[..])
            .expect("memory");
    }
    bench.write("x.tar", builder.into_inner().expect("memory"));
    bench.write("real/hidden", "hidden");
    let built = bench.build("FROM base\nCOPY real /real\nADD x.tar /");
    assert_eq!(bench.files(&built, "real"), ["f 600 0:0 real \"x\""]);
}

/// As when docker unpacks it over the image.
#[test]
fn a_hard_link_in_an_archive_brings_its_metadata_and_reaches_the_image() {
    let bench = bench();
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, mode: u32, owner: u64, target: Option<&str>| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_size(u64::from(target.is_none()));
        if let Some(target) = target {
            header.set_entry_type(tar::EntryType::Link);
            builder
                .append_link(&mut header, name, target)
                .expect("memory");
        } else {
            builder
                .append_data(&mut header, name, &b"x"[..])
                .expect("memory");
        }
    };
    add("d/f", 0o755, 7, None);
    add("d/a", 0o640, 3, Some("d/f"));
    add("d/h", 0o600, 1, Some("d/f"));
    add("d/there", 0o604, 4, Some("below"));
    bench.write("x.tar", builder.into_inner().expect("memory"));
    bench.write("below", "below");
    let built = bench.build("FROM base\nCOPY below /\nADD x.tar /");
    assert_eq!(
        bench.files(&built, "d"),
        [
            "d 755 0:0 d",
            "f 600 1:1 d/a \"x\"",
            "f 600 1:1 d/f \"x\"",
            "f 600 1:1 d/h \"x\"",
            "f 604 4:4 d/there \"below\"",
        ]
    );
    assert_eq!(bench.files(&built, "below"), ["f 604 4:4 below \"below\""]);
    let view = bench.view(&built);
    let id = |path: &str| {
        let node = view.lookup_no_follow(path.as_bytes()).expect("readable");
        node.expect("there").id
    };
    assert_eq!(id("d/a"), id("d/h"));
    assert_eq!(id("d/there"), id("below"));
}

#[test]
fn special_bits_are_for_files_not_for_directories_on_the_way() {
    check(
        "COPY --chmod=4755 dir/one /p/q/one",
        "p",
        &["d 755 0:0 p", "d 755 0:0 p/q", "f 4755 0:0 p/q/one \"1\""],
    );
}

/// A tar with one entry, as it is given.
fn one_entry(name: &[u8], kind: tar::EntryType, size: u64, target: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o4777);
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_cksum();
    [header.as_bytes().as_slice(), &[b'x'; 512], &[0; 1024]].concat()
}

#[test]
fn hostile_archives_end_in_an_error_or_stay_inside() {
    use tar::EntryType;
    for (name, kind, size, target, inside) in [
        (&b"../../up"[..], EntryType::Regular, 1, "", Some("to/up")),
        (
            b"/etc/absolute",
            EntryType::Regular,
            1,
            "",
            Some("to/etc/absolute"),
        ),
        (b"a/../../../b", EntryType::Regular, 1, "", Some("to/b")),
        (b"huge", EntryType::Regular, 1 << 40, "", None),
        (b".wh.passwd", EntryType::Regular, 1, "", None),
        (b".wh..wh..opq", EntryType::Regular, 1, "", None),
        (b"link", EntryType::Link, 0, "../../etc/passwd", None),
        (b"link", EntryType::Link, 0, "link", None),
    ] {
        let bench = bench();
        bench.write("x.tar", one_entry(name, kind, size, target));
        let text = "FROM base\nADD x.tar /to/";
        let (result, _) = bench.run(&bench.options(text));
        let shown = String::from_utf8_lossy(name);
        match inside {
            None => assert!(result.is_err(), "{shown}"),
            Some(path) => {
                let built = result.expect("builds");
                assert_eq!(
                    bench.files(&built, path),
                    [format!("f 4777 0:0 {path} \"x\"")]
                );
                assert_eq!(bench.files(&built, "etc").len(), 2, "{shown}");
            }
        }
    }
}

/// Records end where their length says, not at the next line: what an attribute holds is no record.
#[test]
fn a_value_in_an_archive_cannot_pass_for_another_record() {
    let smuggled = "\n20 path=etc/passwd\n12 uid=4711\n15 size=999999\n";
    let kept = Member::file("kept", b"x");
    let kept = kept.xattr("user.a", smuggled).record("comment", smuggled);
    let bench = bench();
    bench.write("x.tar", Tarball::new().push(&kept).finish());
    let built = bench.build("FROM base\nADD x.tar /to/");
    assert_eq!(
        bench.files(&built, "to"),
        ["d 755 0:0 to", "f 644 0:0 to/kept \"x\""]
    );
}

#[test]
fn a_sparse_file_in_an_archive_has_its_holes() {
    let sparse = Member::file("sparse", b"abcde");
    let sparse = sparse
        .record("GNU.sparse.size", "12")
        .record("GNU.sparse.map", "1,2,8,3");
    let bench = bench();
    bench.write("x.tar", Tarball::new().push(&sparse).finish());
    let built = bench.build("FROM base\nADD x.tar /to/");
    assert_eq!(
        bench.files(&built, "to")[1],
        r#"f 644 0:0 to/sparse "\0ab\0\0\0\0\0cde\0""#
    );
}

#[test]
fn headers_without_end_in_an_archive_are_refused() {
    let mut tar = Tarball::new();
    tar.push(&Member::file("first", b"x"));
    tar.raw(&testkit::tarball::header(&Member {
        claimed_size: Some(6 << 30),
        ..Member::new(b'x', "x")
    }));
    let bench = bench();
    bench.write("x.tar", tar.finish());
    let error = bench.fail("FROM base\nADD x.tar /to/");
    let expected = "invalid tar header: extended header of 6442450944 bytes";
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn what_is_no_archive_is_copied() {
    let bench = bench();
    bench.write("fake.tar", "no archive");
    let built = bench.build("FROM base\nADD fake.tar a.txt /x/");
    assert_eq!(
        bench.files(&built, "x"),
        [
            "d 755 0:0 x",
            "f 644 0:0 x/a.txt \"a\"",
            "f 644 0:0 x/fake.tar \"no archive\""
        ]
    );
}

#[test]
fn downloads_are_private_and_checked() {
    let mut bench = bench();
    bench.serve("http://h/d/file?x", b"content");
    let built = bench.build("FROM base\nADD http://h/d/file?x /x/");
    assert_eq!(
        bench.files(&built, "x"),
        ["d 755 0:0 x", "f 600 0:0 x/file \"content\""]
    );
    let right = oci::Digest::of(b"content");
    let wrong = oci::Digest::of(b"other");
    bench.build(&format!(
        "FROM base\nADD --checksum={right} http://h/d/file?x /x/"
    ));
    let error = bench.fail(&format!(
        "FROM base\nADD --checksum={wrong} http://h/d/file?x /x/"
    ));
    assert_eq!(
        error.to_string(),
        format!("digest mismatch {right}: {wrong}")
    );
    let error = bench.fail("FROM base\nADD http://h/nope /x/");
    assert!(error.to_string().contains("404 Not Found"), "{error}");
}

#[test]
fn stages_and_images_are_sources_and_keep_owners() {
    let bench = bench();
    let built = bench.build(
        "FROM base AS one\nCOPY --chown=5:6 dir /made\nFROM scratch\nCOPY --from=one /made /from-stage/\n\
         COPY --from=base /etc/passwd /from-image\nCOPY --from=0 /link/ /empty/",
    );
    assert_eq!(
        bench.files(&built, "from-stage"),
        [
            "d 755 0:0 from-stage",
            "f 600 5:6 from-stage/one \"1\"",
            "d 750 5:6 from-stage/sub",
            "f 644 5:6 from-stage/sub/two \"2\"",
        ]
    );
    assert_eq!(
        bench.files(&built, "from-image"),
        ["f 644 0:0 from-image \"app:x:1000:1001::/:/bin/sh\\n\""]
    );
    assert_eq!(bench.files(&built, "empty"), ["d 755 0:0 empty"]);
}

#[test]
fn a_commit_is_what_counts_of_a_repository() {
    let mut bench = Bench::new();
    for (name, text) in [("one", "1"), ("two", "2")] {
        let path = bench.context().with_file_name(name);
        fs::create_dir_all(path.join("d")).expect("made");
        fs::write(path.join("d/f"), text).expect("written");
        fs::write(path.join("skip"), text).expect("written");
        for repository in [
            format!("git://h/r#{name}"),
            format!("https://m/r.git#{name}"),
        ] {
            bench.commit(&repository, &format!("{name}0"), path.clone());
        }
    }
    let add = |name: &str| format!("FROM scratch\nADD --exclude=skip git://h/r#{name} /src\n");
    let first = bench.build(&add("one"));
    let lines = bench.files(&first, "src");
    assert_eq!(
        lines,
        [
            "d 755 0:0 src",
            "d 755 0:0 src/d",
            "f 644 0:0 src/d/f \"1\""
        ]
    );
    // The same commit from elsewhere.
    let moved = bench.build(&add("one").replace("git://h/r", "https://m/r.git"));
    assert_eq!((moved.executed, moved.cached), (0, 1));
    let kept = bench.build(&add("one").replace("--exclude", "--keep-git-dir --exclude"));
    assert_eq!(kept.executed, 1);
    let second = bench.build(&add("two"));
    assert_eq!(second.executed, 1);
    assert!(bench.files(&second, "src").concat().contains("\"2\""));
    let failed = bench.fail(&add("three"));
    assert_eq!(
        failed.to_string(),
        "failed to load `git://h/r#three`: no such repository"
    );
    for (text, said) in [
        ("COPY git://h/r /x", "source can't be a git ref for COPY"),
        ("COPY http://h/r /x", "source can't be a URL for COPY"),
        ("ADD git://h/r?x /x", "unexpected query \"x\""),
        (
            "ADD --checksum=sha256:00 git://h/r /x",
            "invalid checksum sha256:00 for Git URL, expected hex commit hash",
        ),
        (
            "ADD --keep-git-dir=false git://h/r?keep-git-dir=1 /x",
            "keep-git-dir conflicts: \"false\" vs \"true\"",
        ),
        (
            "ADD --checksum=12 git://h/r?commit=13 /x",
            "checksum conflicts: \"12\" vs \"13\"",
        ),
    ] {
        let error = bench.fail(&format!("FROM scratch\n{text}")).to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
}
