//! Tars made to reach out of their layer: each is refused or harmless.

use std::fs;

use crate::snapshot::{DirectoryTimes, assert_same, snapshot};
use crate::stack::{FORMS, Stack};
use crate::tarball::{Member, character, directory, fifo, file, hardlink, symlink};

type Case = (&'static str, Vec<Member>);

fn cases(outside: &str) -> Vec<Case> {
    [
        paths(outside),
        links(outside),
        whiteouts(outside),
        oddities(),
    ]
    .concat()
}

fn paths(outside: &str) -> Vec<Case> {
    let canary = &format!("{outside}/canary");
    vec![
        ("a path that goes up", vec![file("../outside/new", "x")]),
        (
            "a path that goes up in its middle",
            vec![file("a/../../outside/new", "x")],
        ),
        (
            "an absolute path",
            vec![file(&format!("{outside}/new"), "x")],
        ),
        (
            "a file through an absolute link",
            vec![symlink("l", outside), file("l/new", "x")],
        ),
        (
            "a file through a link that goes up",
            vec![
                symlink("l", "../../../outside"),
                file("l/canary", "overwritten"),
            ],
        ),
        (
            "a file through a chain of links",
            vec![
                symlink("a", ".."),
                symlink("a/b", ".."),
                file("a/b/outside/canary", "x"),
            ],
        ),
        (
            "a directory over a link",
            vec![
                symlink("l", outside),
                directory("l").mode(0o777),
                file("l/new", "x"),
            ],
        ),
        (
            "a file over a link",
            vec![symlink("l", canary), file("l", "overwritten")],
        ),
    ]
}

fn links(outside: &str) -> Vec<Case> {
    let canary = &format!("{outside}/canary");
    vec![
        (
            "a hard link to outside",
            vec![hardlink("h", "../outside/canary"), file("h", "x")],
        ),
        ("an absolute hard link", vec![hardlink("h", canary)]),
        (
            "a hard link through a link",
            vec![
                symlink("l", outside),
                hardlink("h", "l/canary"),
                file("h", "x"),
            ],
        ),
        (
            "a hard link to a link that is written to",
            vec![symlink("l", canary), hardlink("h", "l"), file("h", "x")],
        ),
        ("a hard link to itself", vec![hardlink("h", "h")]),
        ("a hard link to nothing", vec![hardlink("h", "missing")]),
        (
            "a hard link to a directory",
            vec![directory("d"), hardlink("h", "d")],
        ),
    ]
}

fn whiteouts(outside: &str) -> Vec<Case> {
    vec![
        (
            "a root that is a link",
            vec![symlink(".", outside), file("new", "x")],
        ),
        ("a whiteout of the parent", vec![file(".wh...", "")]),
        ("a whiteout of the directory", vec![file(".wh..", "")]),
        ("a whiteout of nothing", vec![file(".wh.", "")]),
        (
            "a whiteout outside",
            vec![file("../outside/.wh.canary", "")],
        ),
        (
            "a whiteout through a link",
            vec![symlink("l", outside), file("l/.wh.canary", "")],
        ),
        (
            "an opaque mark through a link",
            vec![symlink("l", outside), file("l/.wh..wh..opq", "")],
        ),
        ("a whiteout made as a device", vec![character("w", 0, 0)]),
    ]
}

fn oddities() -> Vec<Case> {
    vec![
        ("a root that is a file", vec![file("./", "x")]),
        (
            "a file below a file",
            vec![file("f", "x"), file("f/below", "x")],
        ),
        ("a file below a pipe", vec![fifo("p"), file("p/below", "x")]),
        (
            "entries twice",
            vec![
                file("f", "1"),
                file("f", "2"),
                directory("f"),
                file("f", "3"),
            ],
        ),
        (
            "attributes of the overlay",
            vec![
                directory("d").xattr("user.overlay.opaque", b"y"),
                file("f", "x")
                    .xattr("trusted.overlay.redirect", b"/etc")
                    .xattr("user.overlay.metacopy", b""),
            ],
        ),
        (
            "a name with a zero byte",
            vec![file("x", "x").record("path", b"a\0b")],
        ),
        ("an empty name", vec![file("", "x")]),
        (
            "a very long name",
            vec![file("x", "x").record("path", "n".repeat(300).as_bytes())],
        ),
        (
            "a very long path",
            vec![file("x", "x").record("path", "n/".repeat(5000).as_bytes())],
        ),
        (
            "a very long link",
            vec![symlink("l", "x").record("linkpath", "t".repeat(5000).as_bytes())],
        ),
    ]
}

#[test]
fn privileged_hostile_layers_touch_nothing_outside() {
    let names: Vec<_> = cases("/x").into_iter().map(|(name, _)| name).collect();
    for (number, name) in names.into_iter().enumerate() {
        for form in FORMS {
            let mut stack = Stack::of(&[&[directory("d"), file("d/canary", "below")]]);
            let outside = stack.path().join("outside");
            fs::create_dir(&outside).unwrap();
            fs::write(outside.join("canary"), "untouched").unwrap();
            let before = snapshot(&outside, DirectoryTimes::Compared);
            let (_, members) = cases(outside.to_str().unwrap()).swap_remove(number);
            // Refusing is as good as a correct image.
            if stack.try_push(&members).is_err() {
                assert_same(&before, &snapshot(&outside, DirectoryTimes::Compared), name);
                continue;
            }
            if let Ok(mounted) = stack.try_mount(form, None) {
                let files = snapshot(&mounted.path(), DirectoryTimes::Compared);
                for (path, text) in &files {
                    assert!(!text.contains("overlay"), "{form:?} {name}: {path} {text}");
                }
                assert!(files.contains_key("d/canary"), "{form:?} {name}");
            } else {
                let error = stack.try_mount(form, None).unwrap_err();
                // Paths that the kernel cannot hold are the only ones that index but not mount.
                assert!(name.contains("very long"), "{form:?} {name}: {error:?}");
            }
            assert_same(&before, &snapshot(&outside, DirectoryTimes::Compared), name);
        }
    }
}
