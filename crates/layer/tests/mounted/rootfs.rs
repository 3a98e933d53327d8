//! Laws of mounted root file systems.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::thread;

use layer::rootfs::{Unmounted, unmount_all, unmount_layer};
use layer::{Form, RootfsError, RootfsOptions};
use oci::DiffId;

use crate::stack::{FORMS, Stack};
use crate::tarball::{MTIME, Member, directory, file, hardlink, symlink};

fn describe(path: &Path) -> String {
    let status = fs::symlink_metadata(path).unwrap();
    format!(
        "{:o} {}:{} {}",
        status.mode() & 0o7777,
        status.uid(),
        status.gid(),
        status.mtime()
    )
}

#[test]
fn privileged_the_probe_finds_erofs_on_this_kernel_and_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    layer::try_erofs(scratch.path()).unwrap();
    assert_eq!(Form::probe(scratch.path()), Form::Erofs);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn privileged_upper_layers_replace_hide_and_add() {
    let stack = Stack::of(&[
        &[
            directory("d"),
            file("d/old", "1"),
            file("d/changed", "1"),
            directory("o"),
            file("o/old", "1"),
            file("gone", "1"),
            directory("becomes-file"),
            file("becomes-file/x", "1"),
            file("becomes-directory", "1"),
        ],
        &[
            directory("d"),
            file("d/changed", "2"),
            file("d/new", "2"),
            file(".wh.gone", ""),
            directory("o"),
            file("o/.wh..wh..opq", ""),
            file("o/new", "2"),
            file("becomes-file", "2"),
            directory("becomes-directory"),
            file("becomes-directory/y", "2"),
            symlink("link", "d/new"),
            hardlink("hard", "d/new"),
        ],
    ]);
    for form in FORMS {
        let mounted = stack.mount(form);
        let check = |path: &str, expected: Option<&str>| {
            assert_eq!(mounted.read(path).as_deref(), expected, "{form:?} {path}");
        };
        check("d/old", Some("1"));
        check("d/changed", Some("2"));
        check("d/new", Some("2"));
        check("gone", None);
        check("o/old", None);
        check("o/new", Some("2"));
        check("becomes-file", Some("2"));
        check("becomes-directory/y", Some("2"));
        check("link", Some("2"));
        check("hard", Some("2"));
        assert!(fs::write(mounted.join("d/old"), "x").is_err());
        let mut names: Vec<_> = fs::read_dir(mounted.path())
            .unwrap()
            .map(|item| item.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "becomes-directory",
                "becomes-file",
                "d",
                "hard",
                "link",
                "o"
            ]
        );
    }
}

#[test]
fn privileged_whiteouts_of_what_is_not_below_are_not_listed() {
    let stack = Stack::of(&[
        &[
            file("only/.wh.here", ""),
            file("only/file", "1"),
            file(".wh.none", ""),
        ],
        &[
            directory("opaque"),
            file("opaque/.wh..wh..opq", ""),
            file("opaque/.wh.none", ""),
            file("opaque/file", "2"),
        ],
    ]);
    for form in FORMS {
        let mounted = stack.mount(form);
        let count = |path: &str| fs::read_dir(mounted.join(path)).unwrap().count();
        assert_eq!(
            (count(""), count("only"), count("opaque")),
            (2, 1, 1),
            "{form:?}"
        );
        let writable = stack.mount_writable(form, &format!("{form:?}"));
        fs::remove_file(writable.join("only/file")).unwrap();
        fs::remove_dir(writable.join("only")).unwrap();
        assert!(!writable.join("only").exists());
    }
}

#[test]
fn privileged_a_layer_without_a_parent_directory_does_not_change_it() {
    let layers: [&[Member]; 6] = [
        &[
            directory("a")
                .mode(0o751)
                .owner(5, 6)
                .mtime(1000)
                .xattr("user.k", b"v"),
            directory("a/b").mode(0o1777).owner(7, 8).mtime(2000),
            directory("gone").mode(0o700),
            directory("later").mode(0o711).mtime(3000),
        ],
        // Only files: every directory above them is implied.
        &[
            file("a/b/c", "2"),
            file("late/r", "2"),
            file("later/x", "2"),
        ],
        &[file(".wh.gone", "")],
        &[file("gone/back", "4"), file("a/b/d", "4")],
        // Said again, by an upper layer, and implied once more above that.
        &[directory("later").mode(0o2755).owner(9, 9).mtime(4000)],
        &[file("later/y", "6")],
    ];
    let stack = Stack::of(&layers);
    for form in FORMS {
        for (number, mounted) in [
            stack.mount(form),
            stack.mount_writable(form, &format!("{form:?}")),
        ]
        .iter()
        .enumerate()
        {
            let check = |path: &str, expected: &str| {
                let found = describe(&mounted.join(path));
                assert_eq!(found, expected, "{form:?} {number} {path}");
            };
            check("a", "751 5:6 1000");
            check("a/b", "1777 7:8 2000");
            check("later", "2755 9:9 4000");
            // Nobody says how these look; they are as docker makes them.
            assert!(describe(&mounted.join("gone")).starts_with("755 0:0 "));
            assert!(describe(&mounted.join("late")).starts_with("755 0:0 "));
            let xattrs = sys::xattr::all(&mounted.join("a")).unwrap();
            let expected = [(b"user.k".to_vec(), b"v".to_vec())];
            assert_eq!(Vec::from_iter(xattrs), expected, "{form:?}");
            for path in [
                "a/b/c",
                "a/b/d",
                "late/r",
                "later/x",
                "later/y",
                "gone/back",
            ] {
                assert!(mounted.read(path).is_some(), "{form:?} {path}");
            }
        }
    }
}

#[test]
fn privileged_what_is_written_into_an_implied_directory_keeps_its_owner_and_mode() {
    let stack = Stack::of(&[
        &[directory("a").mode(0o751).owner(5, 6).mtime(1000)],
        &[file("a/x", "2")],
    ]);
    for form in FORMS {
        let name = format!("{form:?}");
        let mounted = stack.mount_writable(form, &name);
        fs::write(mounted.join("a/new"), "").unwrap();
        assert!(describe(&mounted.join("a")).starts_with("751 5:6 "));
        let upper = stack.path().join(name).join("upper/a");
        assert!(describe(&upper).starts_with("751 5:6 "));
    }
}

#[test]
fn privileged_the_root_looks_as_the_topmost_layer_with_a_root_says() {
    let cases: [(&[&[Member]], &str); 4] = [
        (
            &[&[directory("./").mode(0o1777).owner(3, 4).mtime(1000)]],
            "1777 3:4 1000",
        ),
        (
            &[
                &[directory("./")
                    .mode(0o1777)
                    .owner(3, 4)
                    .mtime(1000)
                    .xattr("user.r", b"1")],
                &[file("x", "")],
            ],
            "1777 3:4 1000",
        ),
        (
            &[
                &[directory("./").mode(0o700)],
                &[directory("./").mode(0o711).mtime(5000)],
                &[file("x", "")],
            ],
            "711 0:0 5000",
        ),
        (&[&[file("x", "")], &[file("y", "")]], "755 0:0 "),
    ];
    for (layers, expected) in cases {
        let stack = Stack::of(layers);
        for form in FORMS {
            let name = format!("{form:?}");
            let read_only = describe(&stack.mount(form).path());
            assert!(read_only.starts_with(expected), "{form:?} {read_only}");
            let writable = describe(&stack.mount_writable(form, &name).path());
            assert!(writable.starts_with(expected), "{form:?} {writable}");
        }
    }
}

#[test]
fn privileged_an_upper_directory_is_kept_as_the_container_left_it() {
    let stack = Stack::of(&[&[directory("./").mode(0o755), file("x", "1")]]);
    for form in FORMS {
        let name = format!("{form:?}");
        let mounted = stack.mount_writable(form, &name);
        fs::set_permissions(mounted.path(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(mounted.join("x"), "2").unwrap();
        drop(mounted);
        let mounted = stack.mount_writable(form, &name);
        assert!(describe(&mounted.path()).starts_with("700 "));
        assert_eq!(mounted.read("x").as_deref(), Some("2"));
    }
}

#[test]
fn privileged_a_layer_that_comes_again_counts_once_at_its_highest_place() {
    let again: &[Member] = &[
        directory("d"),
        file("d/own", "again"),
        file("both", "again"),
        file(".wh.hidden", ""),
    ];
    let between: &[Member] = &[
        directory("d"),
        file("d/.wh.own", ""),
        file("d/between", "between"),
        file("both", "between"),
        file("hidden", "between"),
    ];
    let stack = Stack::of(&[&[file("hidden", "lowest")], again, between, again, again]);
    for form in FORMS {
        let mounted = stack.mount(form);
        for (path, expected) in [
            ("d/own", Some("again")),
            ("d/between", Some("between")),
            ("both", Some("again")),
            ("hidden", None),
        ] {
            assert_eq!(mounted.read(path).as_deref(), expected, "{form:?} {path}");
        }
    }
}

#[test]
fn privileged_a_volatile_upper_directory_is_never_mounted_again() {
    let stack = Stack::of(&[&[file("x", "1")]]);
    let upper = stack.path().join("upper");
    fs::create_dir(&upper).unwrap();
    for form in FORMS {
        let mount = |volatile| {
            layer::rootfs::mount(&RootfsOptions {
                layers: &stack.layers,
                upper: Some(&upper),
                volatile,
                mounts: &stack.mounts(),
                form,
            })
        };
        if form == Form::Erofs {
            mount(true).unwrap();
        }
        for volatile in [true, false] {
            let error = mount(volatile).unwrap_err();
            assert!(matches!(error, RootfsError::WasVolatile { .. }), "{error}");
        }
    }
}

#[test]
fn privileged_all_shared_mounts_are_removed_and_made_again() {
    let stack = Stack::of(&[&[file("x", "1")], &[file("y", "1")]]);
    unmount_all(&stack.mounts()).unwrap();
    let mounted = stack.mount(Form::Erofs);
    unmount_all(&stack.mounts()).unwrap();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(stack.mounts().to_str().unwrap()));
    assert_eq!(mounted.read("x").as_deref(), Some("1"));
    assert_eq!(stack.mount(Form::Erofs).read("y").as_deref(), Some("1"));
}

#[test]
fn privileged_an_image_without_layers_is_an_empty_root() {
    let stack = Stack::new();
    for form in FORMS {
        let mounted = stack.mount(form);
        assert_eq!(fs::read_dir(mounted.path()).unwrap().count(), 0);
        let mounted = stack.mount_writable(form, &format!("{form:?}"));
        fs::write(mounted.join("x"), "1").unwrap();
        assert_eq!(mounted.read("x").as_deref(), Some("1"));
        assert!(describe(&mounted.path()).starts_with("755 0:0 "));
    }
}

#[test]
fn privileged_more_layers_than_one_overlay_takes_are_mounted_with_their_whiteouts() {
    const LAYERS: usize = 620;
    let mut stack = Stack::new();
    stack.push(&[directory("d").mode(0o1777).mtime(1000), file("first", "")]);
    for number in 1..LAYERS {
        let hidden = format!("d/.wh.{}", number - 1);
        stack.push(&[file(&format!("d/{number}"), "x"), file(&hidden, "")]);
    }
    for form in FORMS {
        for upper in [None, Some(format!("{form:?}"))] {
            let mounted = stack.try_mount(form, upper.as_deref()).unwrap();
            let names: Vec<_> = fs::read_dir(mounted.join("d"))
                .unwrap()
                .map(|item| item.unwrap().file_name().into_string().unwrap())
                .collect();
            assert_eq!(names, [(LAYERS - 1).to_string()], "{form:?}");
            assert_eq!(describe(&mounted.join("d")), "1777 0:0 1000");
            assert!(mounted.read("first").is_some());
        }
    }
}

#[test]
fn privileged_layers_beyond_the_limit_are_refused_in_words() {
    let mut stack = Stack::of(&[&[file("x", "")]]);
    stack.layers = vec![stack.layers[0].clone(); 999];
    for form in FORMS {
        let error = stack.try_mount(form, None).unwrap_err();
        assert!(
            matches!(error, RootfsError::TooManyLayers { found: 999 }),
            "{error}"
        );
    }
}

#[test]
fn privileged_a_layer_mount_is_shared_and_outlives_its_removal() {
    let stack = Stack::of(&[&[file("x", "1")]]);
    let hex = stack.layers[0]
        .path()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap();
    let diff_id = DiffId(oci::Digest::from_hex(hex).unwrap());
    let mounts = stack.mounts();
    assert_eq!(unmount_layer(&mounts, &diff_id).unwrap(), Unmounted::Absent);
    let one = stack.mount(Form::Erofs);
    let other = stack.mount(Form::Erofs);
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let shared = mounts.join(hex);
    let count = mountinfo
        .matches(&format!(" {} ", shared.display()))
        .count();
    assert_eq!(count, 1);
    let busy = File::open(shared.join("x")).unwrap();
    assert_eq!(unmount_layer(&mounts, &diff_id).unwrap(), Unmounted::Busy);
    drop(busy);
    assert_eq!(unmount_layer(&mounts, &diff_id).unwrap(), Unmounted::Done);
    assert_eq!(unmount_layer(&mounts, &diff_id).unwrap(), Unmounted::Absent);
    for mounted in [one, other, stack.mount(Form::Erofs)] {
        assert_eq!(mounted.read("x").as_deref(), Some("1"));
    }
}

#[test]
fn privileged_many_first_mounts_at_once_all_succeed() {
    for form in FORMS {
        let stack = Stack::of(&[
            &[directory("d").mode(0o711), file("d/x", "1")],
            &[file("d/y", "2")],
            &[file("d/z", "3")],
        ]);
        thread::scope(|scope| {
            for number in 0..16 {
                let stack = &stack;
                scope.spawn(move || {
                    let mounted = stack.mount_writable(form, &format!("upper{number}"));
                    assert_eq!(mounted.read("d/z").as_deref(), Some("3"));
                    assert_eq!(describe(&mounted.join("d")), format!("711 0:0 {MTIME}"));
                });
            }
        });
    }
}
