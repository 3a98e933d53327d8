//! Laws of unpacked layers.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::thread;
use std::time::SystemTime;

use layer::tree;
use sys::Mount;

use crate::snapshot::{DirectoryTimes, assert_same, snapshot};
use crate::stack::{Mounted, Stack};
use crate::tarball::{Member, block, character, directory, fifo, file, hardlink, symlink};

/// A version 2 `security.capability` with `cap_net_raw=ep`.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn everything() -> Vec<Member> {
    vec![
        directory("./").mode(0o751).mtime(1000),
        directory("d")
            .mode(0o2770)
            .owner(1, 2)
            .mtime(1234)
            .xattr("user.d", b"\0bin\xff"),
        file("d/file", "content").mode(0o4755).owner(1000, 1000),
        file("d/ns", "x").record("mtime", b"1500000000.123456789"),
        file("d/before", "x").record("mtime", b"-1.5"),
        file("d/cap", "x")
            .mode(0o755)
            .owner(5, 5)
            .xattr("security.capability", CAPABILITY),
        file("d/attr", "x")
            .xattr("user.a", b"1")
            .xattr("trusted.t", b"2"),
        hardlink("d/again", "d/file"),
        hardlink("other", "d/file"),
        symlink("d/link", "../nowhere").owner(3, 3),
        symlink("absolute", "/d/file"),
        character("null", 1, 3).mode(0o666),
        block("disk", 8, 17),
        fifo("pipe"),
        file("big", &"0123456789abcdef".repeat(40_000)),
        file(
            "holes",
            &["\0".repeat(300_000), "x".repeat(10), "\0".repeat(300_000)].concat(),
        ),
        file("zeros", &"\0".repeat(5000)),
        file("empty", ""),
        file("d/.wh.whiteout", ""),
        directory("opaque"),
        file("opaque/.wh..wh..opq", ""),
        file("implied/by/this", "x"),
        directory("closed").mode(0),
        directory("closed/in").mode(0o555),
        file("closed/in/file", "x").mode(0),
        file(&format!("long/{}", "n".repeat(90)), "x"),
        file("x", "").record(
            "path",
            format!("{}/{}", "p".repeat(200), "q".repeat(250)).as_bytes(),
        ),
        file("space and\ttab \u{fc}", "x"),
    ]
}

#[test]
fn privileged_a_tree_and_an_erofs_mount_of_a_layer_are_equal() {
    let stack = Stack::of(&[&everything()]);
    let layer = &stack.layers[0];
    tree::unpack(layer).unwrap();
    let mounted = Mounted::from(Mount::erofs(&layer.index(), &layer.tar()).unwrap());
    let expected = snapshot(&mounted.path(), DirectoryTimes::Compared);
    let found = snapshot(&layer.tree(), DirectoryTimes::Compared);
    assert_same(&expected, &found, "tree");
    assert!(found.len() > 30);
    let whiteout = &found["d/whiteout"];
    assert!(
        whiteout.starts_with("20") && whiteout.ends_with("device 0"),
        "{whiteout}"
    );
    assert!(found["opaque"].contains("user.overlay.opaque=y"));
    assert!(found["d/cap"].contains("security.capability="));
    assert!(found["d/ns"].contains(" 1500000000.123456789 "));
    assert!(
        found["other"].ends_with("same as d/again"),
        "{}",
        found["other"]
    );
}

#[test]
fn privileged_zeros_take_no_room() {
    let stack = Stack::of(&[&everything()]);
    tree::unpack(&stack.layers[0]).unwrap();
    let status = fs::metadata(stack.layers[0].tree().join("holes")).unwrap();
    assert_eq!(status.size(), 600_010);
    assert!(
        status.blocks() * 512 < 300_000,
        "{} blocks",
        status.blocks()
    );
}

#[test]
fn privileged_unpacking_again_does_nothing_and_replaces_what_was_left_half_done() {
    let stack = Stack::of(&[&everything()]);
    let layer = &stack.layers[0];
    let partial = layer.path().join("tree.partial");
    fs::create_dir_all(partial.join("d")).unwrap();
    fs::write(partial.join("d/file"), "half").unwrap();
    tree::unpack(layer).unwrap();
    assert!(!partial.exists());
    assert_eq!(
        fs::read_to_string(layer.tree().join("d/file")).unwrap(),
        "content"
    );
    let inode = fs::metadata(layer.tree()).unwrap().ino();
    tree::unpack(layer).unwrap();
    assert_eq!(fs::metadata(layer.tree()).unwrap().ino(), inode);
}

#[test]
fn privileged_processes_that_unpack_one_layer_wait_for_each_other() {
    let stack = Stack::of(&[&everything()]);
    let layer = &stack.layers[0];
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| tree::unpack(layer).unwrap());
        }
    });
    assert_eq!(
        fs::read_to_string(layer.tree().join("d/file")).unwrap(),
        "content"
    );
}

#[test]
fn privileged_a_tree_deeper_than_there_are_descriptors_is_unpacked() {
    let deep = "d/".repeat(1500);
    let path = format!("{deep}file");
    let stack = Stack::of(&[&[file("x", "deep").record("path", path.as_bytes())]]);
    tree::unpack(&stack.layers[0]).unwrap();
    let found = fs::read_to_string(stack.layers[0].tree().join(path)).unwrap();
    assert_eq!(found, "deep");
}

type Change = (&'static str, Box<dyn Fn(&Path)>);

/// Changes a file and gives it its time back.
fn keep_time(path: &Path, change: &dyn Fn()) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    change();
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

fn flip(path: &Path) {
    keep_time(path, &|| {
        let mut bytes = fs::read(path).unwrap();
        bytes[0] ^= 4;
        fs::write(path, bytes).unwrap();
    });
}

fn changes_of_files() -> Vec<Change> {
    let set_mode = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    };
    let set_time = |path: &Path| {
        let file = fs::File::open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    };
    vec![
        ("d/file", Box::new(flip)),
        ("big", Box::new(flip)),
        ("holes", Box::new(flip)),
        ("zeros", Box::new(|path| fs::write(path, "more").unwrap())),
        ("d/ns", Box::new(set_mode)),
        ("big", Box::new(|path| chown(path, Some(7), None).unwrap())),
        (
            "d/attr",
            Box::new(|path| sys::xattr::set(path, b"user.a", b"2").unwrap()),
        ),
        (
            "empty",
            Box::new(|path| sys::xattr::set(path, b"user.b", b"2").unwrap()),
        ),
        ("empty", Box::new(set_time)),
    ]
}

fn changes_of_directories() -> Vec<Change> {
    let add = |path: &Path| keep_time(path, &|| fs::write(path.join("new"), "").unwrap());
    let remove = |path: &Path| keep_time(path, &|| fs::remove_file(path.join("this")).unwrap());
    let lead_elsewhere = |path: &Path| {
        fs::remove_file(path).unwrap();
        std::os::unix::fs::symlink("/d/elsewhere", path).unwrap();
    };
    let split = |path: &Path| {
        let other = path.with_file_name("d").join("file");
        fs::remove_file(path).unwrap();
        fs::copy(&other, path).unwrap();
        chown(path, Some(1000), Some(1000)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o4755)).unwrap();
        let time = fs::metadata(&other).unwrap().modified().unwrap();
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    };
    vec![
        ("opaque", Box::new(add)),
        ("implied/by", Box::new(remove)),
        ("absolute", Box::new(lead_elsewhere)),
        ("other", Box::new(split)),
    ]
}

#[test]
fn privileged_whatever_changes_in_a_tree_is_found() {
    let stack = Stack::of(&[&everything()]);
    let layer = &stack.layers[0];
    tree::unpack(layer).unwrap();
    assert_eq!(layer::check_tree(layer).unwrap(), None);
    for (name, change) in changes_of_files()
        .into_iter()
        .chain(changes_of_directories())
    {
        change(&layer.tree().join(name));
        assert!(layer::check_tree(layer).unwrap().is_some(), "{name}");
        fs::remove_dir_all(layer.tree()).unwrap();
        tree::unpack(layer).unwrap();
        assert_eq!(layer::check_tree(layer).unwrap(), None, "{name}");
    }
}
