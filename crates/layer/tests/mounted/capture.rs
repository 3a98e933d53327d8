//! Laws of captured changes.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink as make_symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use layer::{
    CaptureOptions, Captured, Change, ChangeKind, DiffError, Form, LayerWriter, Timestamp, View,
    capture, changes,
};

use crate::snapshot::{DirectoryTimes, assert_same, snapshot};
use crate::stack::{FORMS, Stack};
use crate::tarball::{Member, directory, file, hardlink, symlink, tar};

fn below() -> Vec<Vec<Member>> {
    vec![
        vec![
            directory("./").mtime(1000),
            directory("etc").mode(0o750).owner(1, 2).mtime(1000),
            file("etc/conf", "old").mtime(1000),
            directory("etc/sub"),
            file("etc/sub/deep", "old"),
            directory("var"),
            file("var/a", "a").mtime(1000),
            file("var/b", "b"),
            hardlink("var/b2", "var/b"),
            symlink("var/link", "a"),
            directory("tmp").mode(0o1777),
            directory("full"),
            file("full/one", "1"),
            file("full/two", "2"),
        ],
        vec![file("usr/lib/implied", "x"), file("var/.wh.never", "")],
    ]
}

fn stack() -> Stack {
    let layers = below();
    let layers: Vec<_> = layers.iter().map(Vec::as_slice).collect();
    Stack::of(&layers)
}

/// Mounts the stack writable, lets `change` work in it, and returns the upper directory and what
/// the container saw at the end.
fn changed(
    stack: &Stack,
    form: Form,
    change: impl FnOnce(&Path),
) -> (PathBuf, BTreeMap<String, String>) {
    let name = format!("rw{}", fs::read_dir(stack.path()).unwrap().count());
    let mounted = stack.mount_writable(form, &name);
    change(&mounted.path());
    drop(mounted);
    // The kernel gives two names of one file one inode number only after they were looked up anew.
    let mounted = stack.mount_writable(form, &name);
    let seen = snapshot(&mounted.path(), DirectoryTimes::Ignored);
    (stack.path().join(name).join("upper"), seen)
}

fn capture_into(stack: &mut Stack, upper: &Path, options: &CaptureOptions<'_>) -> Captured {
    let view = View::open(&stack.layers).unwrap();
    let mut captured = Captured::default();
    stack.push_written(|writer| {
        captured = capture(upper, &view, writer, options).unwrap();
    });
    captured
}

type Step = (&'static str, fn(&Path));

const CHANGES: &[Step] = &[
    ("nothing", |_| {}),
    ("a new file", |root| {
        fs::write(root.join("new"), "new").unwrap()
    }),
    ("a new file below", |root| {
        fs::write(root.join("etc/sub/new"), "new").unwrap()
    }),
    ("a changed file", |root| {
        fs::write(root.join("etc/conf"), "new").unwrap()
    }),
    ("a removed file", |root| {
        fs::remove_file(root.join("etc/conf")).unwrap()
    }),
    ("a removed directory", |root| {
        fs::remove_dir_all(root.join("etc")).unwrap()
    }),
    ("a directory made anew", |root| {
        fs::remove_dir_all(root.join("full")).unwrap();
        fs::create_dir(root.join("full")).unwrap();
        fs::write(root.join("full/three"), "3").unwrap();
    }),
    ("a directory in place of a file", |root| {
        fs::remove_file(root.join("var/a")).unwrap();
        fs::create_dir_all(root.join("var/a/b")).unwrap();
    }),
    ("a file in place of a directory", |root| {
        fs::remove_dir_all(root.join("full")).unwrap();
        fs::write(root.join("full"), "file").unwrap();
    }),
    ("a link in place of a directory", |root| {
        fs::remove_dir_all(root.join("full")).unwrap();
        make_symlink("/etc", root.join("full")).unwrap();
    }),
    ("another mode", |root| {
        fs::set_permissions(root.join("etc"), Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(root.join("var/a"), Permissions::from_mode(0o4711)).unwrap();
    }),
    ("another mode of the root", |root| {
        fs::set_permissions(root, Permissions::from_mode(0o711)).unwrap();
    }),
    ("another owner", |root| {
        chown(root.join("etc/conf"), Some(10), Some(20)).unwrap();
        lchown(root.join("var/link"), Some(10), None).unwrap();
    }),
    ("another attribute", |root| {
        sys::xattr::set(&root.join("etc"), b"user.new", b"1").unwrap();
        sys::xattr::set(&root.join("etc/conf"), b"user.new", b"2").unwrap();
    }),
    ("links to one new file", |root| {
        fs::write(root.join("var/m"), "shared").unwrap();
        fs::hard_link(root.join("var/m"), root.join("etc/z")).unwrap();
        fs::hard_link(root.join("var/m"), root.join("zz")).unwrap();
    }),
    ("a link to an old file", |root| {
        fs::hard_link(root.join("var/a"), root.join("etc/a")).unwrap();
    }),
    ("a link to a link", |root| {
        make_symlink("nowhere", root.join("var/l1")).unwrap();
        fs::hard_link(root.join("var/l1"), root.join("var/l2")).unwrap();
    }),
    ("devices and pipes", |root| {
        use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
        let node = |name: &str, kind, device| {
            mknodat(CWD, root.join(name), kind, Mode::RWXU, device).unwrap();
        };
        node("null", FileType::CharacterDevice, makedev(1, 3));
        node("disk", FileType::BlockDevice, makedev(8, 1));
        node("pipe", FileType::Fifo, 0);
    }),
    ("a sparse file", |root| {
        let file = fs::File::create(root.join("sparse")).unwrap();
        file.set_len(3 << 20).unwrap();
        std::os::unix::fs::FileExt::write_at(&file, b"middle", 1 << 20).unwrap();
    }),
    ("a renamed file", |root| {
        fs::rename(root.join("var/a"), root.join("var/c")).unwrap()
    }),
    ("a file swapped for another", |root| {
        fs::rename(root.join("var/a"), root.join("etc/conf")).unwrap();
    }),
    ("names like whiteouts in other places", |root| {
        fs::write(root.join("x.wh.y"), "x").unwrap();
        fs::write(root.join("etc/wh.x"), "x").unwrap();
    }),
    ("a file in a directory that no layer carries", |root| {
        fs::write(root.join("usr/lib/more"), "x").unwrap();
    }),
    ("everything removed", |root| {
        for item in fs::read_dir(root).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
        }
    }),
];

#[test]
fn privileged_the_layer_of_a_change_shows_what_the_container_saw() {
    for form in FORMS {
        for (name, change) in CHANGES {
            let mut stack = stack();
            let (upper, seen) = changed(&stack, form, change);
            capture_into(&mut stack, &upper, &CaptureOptions::default());
            let found = snapshot(&stack.mount(form).path(), DirectoryTimes::Ignored);
            assert_same(&seen, &found, &format!("{form:?} {name}"));
        }
    }
}

#[test]
fn privileged_all_changes_at_once_show_what_the_container_saw() {
    let conflicting = [
        "directory",
        "everything",
        "swapped",
        "renamed",
        "removed",
        "place",
    ];
    for form in FORMS {
        let mut stack = stack();
        let (upper, seen) = changed(&stack, form, |root| {
            for (name, change) in CHANGES {
                if !conflicting.iter().any(|word| name.contains(word)) {
                    change(root);
                }
            }
        });
        capture_into(&mut stack, &upper, &CaptureOptions::default());
        let found = snapshot(&stack.mount(form).path(), DirectoryTimes::Ignored);
        assert_same(&seen, &found, &format!("{form:?}"));
    }
}

#[test]
fn privileged_what_comes_and_goes_leaves_an_empty_layer() {
    let steps: &[Step] = &[
        ("nothing", |_| {}),
        ("a read", |root| {
            drop(fs::read(root.join("etc/conf")).unwrap())
        }),
        ("a file that came and went", |root| {
            fs::write(root.join("etc/tmp"), "").unwrap();
            fs::remove_file(root.join("etc/tmp")).unwrap();
            fs::write(root.join("tmp/x"), "").unwrap();
            fs::remove_file(root.join("tmp/x")).unwrap();
        }),
        ("the mode that it had", |root| {
            fs::set_permissions(root.join("etc"), Permissions::from_mode(0o750)).unwrap();
            fs::set_permissions(root.join("var/a"), Permissions::from_mode(0o644)).unwrap();
        }),
        ("the owner that it had", |root| {
            chown(root.join("var/a"), Some(0), Some(0)).unwrap();
            lchown(root.join("var/link"), Some(0), Some(0)).unwrap();
        }),
        ("a socket", |root| {
            drop(UnixListener::bind(root.join("tmp/socket")).unwrap())
        }),
    ];
    for form in FORMS {
        for (name, change) in steps {
            let mut stack = stack();
            let (upper, _) = changed(&stack, form, change);
            let captured = capture_into(&mut stack, &upper, &CaptureOptions::default());
            assert!(captured.is_empty(), "{form:?} {name}: {captured:?}");
            let tar = fs::read(stack.layers.last().unwrap().tar()).unwrap();
            assert!(tar.iter().all(|byte| *byte == 0), "{form:?} {name}");
        }
    }
}

#[test]
fn privileged_content_that_changed_under_an_old_time_is_captured() {
    for form in FORMS {
        let mut stack = stack();
        let (upper, seen) = changed(&stack, form, |root| {
            let file = fs::File::options()
                .write(true)
                .open(root.join("var/a"))
                .unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            std::io::Write::write_all(&mut &file, b"b").unwrap();
            file.set_modified(modified).unwrap();
        });
        capture_into(&mut stack, &upper, &CaptureOptions::default());
        assert!(seen.contains_key("var/a"));
        assert_eq!(stack.mount(form).read("var/a").as_deref(), Some("b"));
    }
}

#[test]
fn privileged_equal_changes_give_equal_layers_when_times_are_clamped() {
    let epoch = Timestamp {
        seconds: 1_700_000_000,
        nanoseconds: 0,
    };
    let options = CaptureOptions {
        clamp_mtime: Some(epoch),
        exclude: &[],
    };
    let mut found = Vec::new();
    for form in [Form::Erofs, Form::Tree, Form::Erofs] {
        let mut stack = stack();
        let (upper, _) = changed(&stack, form, |root| {
            for name in ["z", "etc/y", "etc/sub/x", "a"] {
                fs::write(root.join(name), name).unwrap();
            }
            fs::remove_file(root.join("var/b")).unwrap();
        });
        capture_into(&mut stack, &upper, &options);
        found.push(
            stack
                .layers
                .last()
                .unwrap()
                .path()
                .file_name()
                .unwrap()
                .to_owned(),
        );
        let mounted = stack.mount(form);
        for name in ["z", "etc", "etc/sub/x"] {
            let time = fs::metadata(mounted.join(name)).unwrap();
            assert_eq!(
                std::os::unix::fs::MetadataExt::mtime(&time),
                epoch.seconds,
                "{name}"
            );
        }
    }
    assert!(found.iter().all(|name| *name == found[0]));
}

#[test]
fn privileged_what_the_engine_made_is_left_out_unless_something_else_is_in_it() {
    let exclude: Vec<_> = ["proc", "dev", "etc/resolv.conf", "mnt", "mnt/in"]
        .map(|path| path.as_bytes().to_vec())
        .to_vec();
    let options = CaptureOptions {
        clamp_mtime: None,
        exclude: &exclude,
    };
    for form in FORMS {
        let mut stack = stack();
        let (upper, _) = changed(&stack, form, |root| {
            fs::create_dir(root.join("proc")).unwrap();
            fs::create_dir(root.join("dev")).unwrap();
            fs::create_dir_all(root.join("mnt/in")).unwrap();
            fs::write(root.join("etc/resolv.conf"), "").unwrap();
        });
        assert!(capture_into(&mut stack, &upper, &options).is_empty());
        fs::write(upper.join("mnt/mine"), "x").unwrap();
        capture_into(&mut stack, &upper, &options);
        let mounted = stack.mount(form);
        assert_eq!(mounted.read("mnt/mine").as_deref(), Some("x"));
        for path in ["proc", "dev", "mnt/in", "etc/resolv.conf"] {
            assert!(!mounted.join(path).exists(), "{path}");
        }
    }
}

#[test]
fn privileged_changes_are_listed_as_docker_diff_does() {
    for form in FORMS {
        let stack = stack();
        let (upper, _) = changed(&stack, form, |root| {
            fs::write(root.join("etc/sub/new"), "").unwrap();
            fs::write(root.join("etc/conf"), "x").unwrap();
            fs::remove_file(root.join("var/a")).unwrap();
            fs::remove_dir_all(root.join("full")).unwrap();
            fs::create_dir_all(root.join("opt/app")).unwrap();
            fs::write(root.join("var/b.x"), "").unwrap();
        });
        let view = View::open(&stack.layers).unwrap();
        let lines: Vec<_> = changes(&upper, &view, &[])
            .unwrap()
            .into_iter()
            .map(|Change { kind, path }| {
                let letter = match kind {
                    ChangeKind::Added => 'A',
                    ChangeKind::Modified => 'C',
                    ChangeKind::Deleted => 'D',
                };
                format!("{letter} /{}", String::from_utf8(path).unwrap())
            })
            .collect();
        let expected = [
            "C /etc",
            "C /etc/conf",
            "C /etc/sub",
            "A /etc/sub/new",
            "D /full",
            "A /opt",
            "A /opt/app",
            "C /var",
            "D /var/a",
            "A /var/b.x",
        ];
        assert_eq!(lines, expected, "{form:?}");
    }
}

#[test]
fn privileged_an_upper_directory_with_content_elsewhere_is_refused() {
    let stack = stack();
    let upper = stack.path().join("foreign");
    fs::create_dir_all(upper.join("d")).unwrap();
    sys::xattr::set(&upper.join("d"), b"trusted.overlay.redirect", b"/old").unwrap();
    let view = View::open(&stack.layers).unwrap();
    let scratch = stack.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let mut writer = LayerWriter::create(&scratch).unwrap();
    let error = capture(&upper, &view, &mut writer, &CaptureOptions::default()).unwrap_err();
    assert!(matches!(error, DiffError::Elsewhere { .. }), "{error}");
}

#[test]
fn privileged_a_captured_layer_survives_a_tar_reader_of_others() {
    let mut stack = stack();
    let (upper, seen) = changed(&stack, Form::Erofs, |root| {
        for (name, change) in CHANGES {
            if name.starts_with("links") || name.starts_with("a new") {
                change(root);
            }
        }
    });
    capture_into(&mut stack, &upper, &CaptureOptions::default());
    let unpacked = stack.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let base = stack.path().join("base.tar");
    fs::write(&base, tar(&below()[0])).unwrap();
    for archive in [base, stack.layers.last().unwrap().tar()] {
        let status = Command::new("tar")
            .args(["--xattrs", "--numeric-owner", "-xpf"])
            .arg(&archive)
            .arg("-C")
            .arg(&unpacked)
            .status();
        assert!(status.unwrap().success());
    }
    for name in ["new", "etc/sub/new", "var/m", "etc/z", "zz"] {
        let found = snapshot(&unpacked, DirectoryTimes::Ignored);
        assert_eq!(found.get(name), seen.get(name), "{name}");
    }
}
