//! Stacks of layers: a view shows what an overlay mount shows, in both forms.

use std::path::Path;

use layer::{EntryKind, Form, LayerDir, RootfsOptions, View, ViewError, rootfs};
use tempfile::TempDir;
use testkit::tarball::{Member, Tarball};

use crate::compare::{Layer, Tree, assert_same, of_directory, of_view};

fn stack(layers: &[&[Member]]) -> Vec<Layer> {
    let tar_of = |members: &&[Member]| {
        let mut tar = Tarball::new();
        for member in *members {
            tar.push(member);
        }
        Layer::of(&tar.finish())
    };
    layers.iter().map(tar_of).collect()
}

fn dirs(layers: &[Layer]) -> Vec<LayerDir> {
    layers.iter().map(Layer::dir).collect()
}

fn view(layers: &[Layer]) -> View {
    View::open(&dirs(layers)).unwrap()
}

/// A directory of shared mounts, which are gone with it.
struct Mounts(TempDir);

impl Drop for Mounts {
    fn drop(&mut self) {
        for entry in self.0.path().read_dir().unwrap() {
            let path = entry.unwrap().path();
            if sys::is_mount_point(&path).unwrap() {
                sys::unmount(&path, sys::Unmount::Lazy).unwrap();
            }
        }
    }
}

fn mounted(layers: &[LayerDir], form: Form, mounts: &Path) -> Tree {
    let at = tempfile::tempdir().unwrap();
    let options = RootfsOptions {
        layers,
        upper: None,
        volatile: false,
        mounts,
        form,
    };
    let mount = rootfs::mount(&options).unwrap();
    mount.attach(at.path()).unwrap();
    drop(mount);
    let tree = of_directory(at.path());
    sys::unmount(at.path(), sys::Unmount::Now).unwrap();
    tree
}

/// The number of links of a merged directory is the mount's own matter.
fn without_directory_links(mut tree: Tree) -> Tree {
    for seen in tree.values_mut().filter(|seen| seen.kind == "directory") {
        seen.links = 0;
    }
    tree
}

/// Asserts that the stack as one tar shows what the stack shows, but for the root's own metadata.
fn check_flat(layers: &[Layer], viewed: &Tree, what: &str) {
    let mut tar = Vec::new();
    layer::flatten(&view(layers), &mut tar).unwrap();
    let flat = [Layer::of(&tar)];
    let below_root = |mut tree: Tree| {
        tree.retain(|path, _| !path.is_empty());
        tree
    };
    let seen = without_directory_links(of_view(&view(&flat)));
    let viewed = below_root(viewed.clone());
    assert_same(&viewed, &below_root(seen), &format!("{what}: one tar"));
}

/// Asserts that both forms of the mount, the view and the stack as one tar agree; returns what
/// they show.
fn check(layers: &[&[Member]], what: &str) -> Tree {
    let layers = stack(layers);
    let viewed = without_directory_links(of_view(&view(&layers)));
    check_flat(&layers, &viewed, what);
    for form in [Form::Erofs, Form::Tree] {
        let mounts = Mounts(tempfile::tempdir().unwrap());
        let seen = without_directory_links(mounted(&dirs(&layers), form, mounts.0.path()));
        assert_same(&viewed, &seen, &format!("{what}: {form:?}"));
    }
    viewed
}

fn paths(tree: &Tree) -> Vec<&str> {
    tree.keys()
        .map(String::as_str)
        .filter(|path| !path.is_empty())
        .collect()
}

/// What the layers of the next tests lie on.
fn base() -> Vec<Member> {
    vec![
        Member::directory("."),
        Member::directory("a"),
        Member::file("a/one", b"1"),
        Member::file("a/two", b"2"),
        Member::directory("b"),
        Member::file("c", b"c"),
        Member::directory("d"),
        Member::directory("d/e"),
        Member::file("d/e/f", b"f"),
    ]
}

/// Asserts what is seen of `top` on the base; paths are separated by spaces.
fn check_top(what: &str, top: &[Member], expected: &str) {
    let tree = check(&[&base(), top], what);
    assert_eq!(paths(&tree).join(" "), expected, "{what}");
}

#[test]
fn privileged_whiteouts_hide_what_is_below() {
    let file = |name: &str| Member::file(name, b"");
    let dir = |name: &str| Member::directory(name);
    check_top(
        "one name",
        &[dir("a"), file("a/.wh.one")],
        "a a/two b c d d/e d/e/f",
    );
    check_top("a whole directory", &[file(".wh.d")], "a a/one a/two b c");
    check_top(
        "what is not there",
        &[file("a/.wh.none")],
        "a a/one a/two b c d d/e d/e/f",
    );
    let opaque = [dir("a"), file("a/new"), file("a/.wh..wh..opq")];
    check_top("an opaque directory", &opaque, "a a/new b c d d/e d/e/f");
    check_top("everything", &[file(".wh..wh..opq"), file("new")], "new");
    let aufs = [
        file(".wh..wh.aufs"),
        dir(".wh..wh.plnk"),
        file(".wh..wh.plnk/1"),
    ];
    check_top(
        "bookkeeping of aufs",
        &aufs,
        "a a/one a/two b c d d/e d/e/f",
    );
}

#[test]
fn privileged_what_a_layer_has_is_seen_beside_whiteouts_of_its_name() {
    let file = |name: &str| Member::file(name, b"");
    let dir = |name: &str| Member::directory(name);
    let expected = "a a/new b c d d/e d/e/f";
    check_top(
        "whiteout first",
        &[file(".wh.a"), dir("a"), file("a/new")],
        expected,
    );
    check_top(
        "whiteout last",
        &[dir("a"), file("a/new"), file(".wh.a")],
        expected,
    );
    check_top(
        "no entry for the directory",
        &[file("a/new"), file(".wh.a")],
        expected,
    );
    check_top("a file", &[file("d"), file(".wh.d")], "a a/one a/two b c d");
}

#[test]
fn privileged_other_types_replace_what_is_below() {
    let file = |name: &str| Member::file(name, b"");
    let dir = |name: &str| Member::directory(name);
    check_top(
        "a file over a directory",
        &[file("d")],
        "a a/one a/two b c d",
    );
    let over_file = [dir("c"), file("c/x")];
    check_top(
        "a directory over a file",
        &over_file,
        "a a/one a/two b c c/x d d/e d/e/f",
    );
    let both = [file("d"), dir("d")];
    check_top(
        "a directory over a file over a directory",
        &both,
        "a a/one a/two b c d",
    );
}

#[test]
fn privileged_a_missing_parent_shows_the_directory_below() {
    let owned = |mode, uid, mtime, name: &str| {
        Member {
            mode,
            uid,
            mtime,
            ..Member::directory(name)
        }
        .xattr("user.name", name)
    };
    let base = [
        owned(0o700, 3, 30, "."),
        owned(0o711, 1, 10, "a"),
        owned(0o750, 2, 20, "a/b"),
        Member::file("a/b/old", b"old"),
        owned(0o770, 4, 40, "gone"),
        Member::file("gone/x", b"x"),
        Member::file("file", b""),
    ];
    let middle = [
        Member::file("a/b/new", b"new"),
        Member::file("a/b/.wh.old", b""),
    ];
    let top = [
        Member::file("a/b/c/newer", b"newer"),
        Member::file(".wh.gone", b""),
        Member::file("gone/y", b"y"),
        Member::file("file/z", b"z"),
    ];
    let tree = check(&[&base, &middle, &top], "implied");
    for (path, mode, uid, mtime, name) in [
        ("", 0o700, 3, 30, Some(".")),
        ("a", 0o711, 1, 10, Some("a")),
        ("a/b", 0o750, 2, 20, Some("a/b")),
        ("a/b/c", 0o755, 0, 0, None),
        ("gone", 0o755, 0, 0, None),
        ("file", 0o755, 0, 0, None),
    ] {
        let seen = &tree[path];
        assert_eq!(
            (seen.mode, seen.owner.0, seen.mtime.0),
            (mode, uid, mtime),
            "{path}"
        );
        let found = seen.xattrs.get(&b"user.name"[..]).map(Vec::as_slice);
        assert_eq!(found, name.map(str::as_bytes), "{path}");
    }
    assert!(!tree.contains_key("a/b/old") && !tree.contains_key("gone/x"));
}

#[test]
fn privileged_an_opaque_directory_without_an_entry_keeps_its_metadata() {
    let base = [
        Member {
            mode: 0o711,
            uid: 7,
            mtime: 70,
            ..Member::directory("a")
        },
        Member::file("a/old", b""),
    ];
    let top = [
        Member::file("a/.wh..wh..opq", b""),
        Member::file("a/new", b""),
    ];
    let tree = check(&[&base, &top], "opaque and implied");
    assert_eq!(
        (tree["a"].mode, tree["a"].owner.0, tree["a"].mtime.0),
        (0o711, 7, 70)
    );
    assert_eq!(paths(&tree), ["a", "a/new"]);
}

#[test]
fn privileged_random_stacks_look_the_same_mounted_and_viewed() {
    for seed in 0..6 {
        let mut random = testkit::random::Random::new(seed);
        let names = ["a", "b", "a/b", "a/c", "a/b/c", "b/a", "a/b/c/d"];
        let layers: Vec<Vec<Member>> = (0..5)
            .map(|_| {
                let mut member = |_| {
                    let name = *random.choice(&names);
                    let (parent, last) = name.rsplit_once('/').unwrap_or(("", name));
                    let member = match random.below(7) {
                        0..3 => Member::directory(name),
                        3 => Member::file(format!("{parent}/.wh.{last}"), b""),
                        4 => Member::file(format!("{name}/.wh..wh..opq"), b""),
                        5 => Member::file(format!("{name}/f"), name.as_bytes()),
                        _ => Member::file(name, b"file"),
                    };
                    Member {
                        mtime: 1 + i64::from(random.number() % 100 == 1),
                        ..member
                    }
                };
                (0..6).map(&mut member).collect()
            })
            .collect();
        // What needs a directory where the same layer has a file is no layer.
        let good: Vec<&[Member]> = layers
            .iter()
            .map(Vec::as_slice)
            .filter(|members| {
                let mut tar = Tarball::new();
                members
                    .iter()
                    .for_each(|member| drop(tar.push(member).unfinished()));
                Layer::try_of(&tar.finish()).is_ok()
            })
            .collect();
        check(&good, &format!("seed {seed}"));
    }
}

#[test]
fn lookups_follow_links_inside_the_root_only() {
    let layers = stack(&[
        &[
            Member::directory("etc"),
            Member::file("etc/passwd", b"root"),
            Member::symlink("abs", "/etc"),
            Member::symlink("up", "../../../../etc/passwd"),
            Member::symlink("loop", "loop"),
            Member::symlink("nowhere", "none"),
        ],
        &[
            Member::symlink("etc/link", "passwd"),
            Member::directory("usr"),
        ],
    ]);
    let view = view(&layers);
    let found = |path: &str| {
        let node = view.lookup(path.as_bytes()).unwrap();
        node.map(|node| String::from_utf8(node.entry.path).unwrap())
    };
    for (path, expected) in [
        ("/etc/passwd", Some("etc/passwd")),
        ("abs/passwd", Some("etc/passwd")),
        ("abs/link", Some("etc/passwd")),
        ("up", Some("etc/passwd")),
        ("usr/../../etc/./passwd", Some("etc/passwd")),
        ("abs/../up", Some("etc/passwd")),
        ("abs/..", Some("")),
        ("", Some("")),
        ("/", Some("")),
        ("abs", Some("etc")),
        ("nowhere", None),
        ("etc/passwd/x", None),
        ("none/x", None),
    ] {
        assert_eq!(found(path).as_deref(), expected, "{path}");
    }
    assert!(matches!(
        view.lookup(b"loop"),
        Err(ViewError::SymlinkLoop { .. })
    ));
    let link = view.lookup_no_follow(b"abs/link").unwrap().unwrap();
    assert_eq!(link.entry.path, b"etc/link");
    assert_eq!(
        link.entry.kind,
        EntryKind::Symlink {
            target: b"passwd".to_vec()
        }
    );
}

#[test]
fn files_are_read_within_a_limit() {
    let layers = stack(&[&[Member::file("a", b"12345"), Member::directory("d")]]);
    let view = view(&layers);
    assert_eq!(
        view.read_file(b"a", 5).unwrap().as_deref(),
        Some(&b"12345"[..])
    );
    assert_eq!(view.read_file(b"none", 5).unwrap(), None);
    assert!(matches!(
        view.read_file(b"a", 4),
        Err(ViewError::TooLarge { size: 5, .. })
    ));
    assert!(matches!(
        view.read_file(b"d", 4),
        Err(ViewError::NotAFile { .. })
    ));
    let file = view.lookup(b"a").unwrap().unwrap();
    assert!(matches!(
        view.read_dir(&file),
        Err(ViewError::NotADirectory { .. })
    ));
}

#[test]
fn names_of_one_file_have_one_identity() {
    let layers = stack(&[&[
        Member::file("a", b""),
        Member::hardlink("b", "a"),
        Member::file("c", b""),
    ]]);
    let view = view(&layers);
    let node = |path: &[u8]| view.lookup(path).unwrap().unwrap();
    assert_eq!(node(b"a").id, node(b"b").id);
    assert_ne!(node(b"a").id, node(b"c").id);
    assert_eq!((node(b"b").nlink, node(b"c").nlink), (2, 1));
}

#[test]
fn an_empty_stack_has_an_empty_root() {
    let view = View::open(&[]).unwrap();
    let root = view.root().unwrap();
    assert!(view.read_dir(&root).unwrap().is_empty());
    assert_eq!(view.lookup(b"a").unwrap(), None);
    assert_eq!(view.implied_directories().unwrap(), []);
}
