//! Layers that strata writes itself.

use std::collections::BTreeMap;

use layer::{Entry, EntryKind, LayerDir, LayerWriter, Timestamp, View, WriteError};
use testkit::random::{self, Random};

use crate::compare::{Layer, assert_same, extracted, of_view};

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Timestamp {
            seconds: 1,
            nanoseconds: 0,
        },
        xattrs: BTreeMap::new(),
    }
}

/// Writes all files of `view` again, links between them included.
fn rewrite(view: &View, dir: &std::path::Path) -> layer::Ingested {
    let mut writer = LayerWriter::create(dir).unwrap();
    let mut first_names = BTreeMap::new();
    let mut stack = vec![view.root().unwrap()];
    while let Some(node) = stack.pop() {
        let mut entry = node.entry.clone();
        if entry.kind == EntryKind::Directory {
            stack.extend(
                view.read_dir(&node)
                    .unwrap()
                    .into_iter()
                    .map(|(_, child)| child)
                    .rev(),
            );
        } else if node.nlink > 1 {
            let first = first_names
                .entry(node.id)
                .or_insert_with(|| entry.path.clone());
            if *first != entry.path {
                entry.kind = EntryKind::Hardlink {
                    target: first.clone(),
                };
            }
        }
        match entry.kind {
            EntryKind::File { .. } => {
                writer
                    .append(&entry, &mut view.open_file(&node).unwrap())
                    .unwrap();
            }
            _ => writer.append(&entry, &mut std::io::empty()).unwrap(),
        }
    }
    writer.finish().unwrap()
}

#[test]
fn privileged_a_layer_survives_being_written_again() {
    for seed in 20..28 {
        let layer = Layer::of(&random::tar(seed, 120));
        let expected = of_view(&layer.view());
        let again = tempfile::tempdir().unwrap();
        let written = rewrite(&layer.view(), again.path());
        let tar = std::fs::read(again.path().join("tar")).unwrap();
        assert_eq!(written.diff_id.digest(), &oci::Digest::of(&tar));
        let what = format!("seed {seed}");
        assert_same(&extracted(&tar), &expected, &what);
        let ingested = Layer::of(&tar);
        assert_eq!(ingested.ingested, written, "{what}");
        assert_same(&ingested.mounted(), &expected, &what);
        let index = std::fs::read(again.path().join("index.erofs")).unwrap();
        assert_eq!(
            std::fs::read(ingested.dir().index()).unwrap(),
            index,
            "{what}"
        );
    }
}

#[test]
fn the_same_calls_give_the_same_bytes() {
    let layer = Layer::of(&random::tar(30, 80));
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(
        rewrite(&layer.view(), one.path()),
        rewrite(&layer.view(), two.path())
    );
    for name in ["tar", "index.erofs"] {
        let read = |dir: &tempfile::TempDir| std::fs::read(dir.path().join(name)).unwrap();
        assert!(read(&one) == read(&two), "{name}");
    }
}

#[test]
fn plain_entries_need_no_extended_header() {
    let temp = tempfile::tempdir().unwrap();
    let mut writer = LayerWriter::create(temp.path()).unwrap();
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(90));
    writer
        .append(&entry("d", EntryKind::Directory), &mut std::io::empty())
        .unwrap();
    writer
        .append(&entry(&long, EntryKind::File { size: 2 }), &mut &b"ab"[..])
        .unwrap();
    let written = writer.finish().unwrap();
    assert_eq!(written.tar_size, 512 + 1024 + 1024);
    assert_eq!((written.entries, written.content_size), (2, 2));
}

#[test]
fn large_contents_go_through_whole() {
    let temp = tempfile::tempdir().unwrap();
    let content = Random::new(1).bytes(5_000_003);
    let mut writer = LayerWriter::create(temp.path()).unwrap();
    for name in ["a", "b", "c"] {
        let entry = entry(name, EntryKind::File { size: 5_000_003 });
        writer.append(&entry, &mut content.as_slice()).unwrap();
    }
    let written = writer.finish().unwrap();
    let tar = std::fs::read(temp.path().join("tar")).unwrap();
    assert_eq!(written.diff_id.digest(), &oci::Digest::of(&tar));
    let view = View::open(&[LayerDir::new(temp.path())]).unwrap();
    for name in ["a", "b", "c"] {
        assert!(view.read_file(name.as_bytes(), 1 << 30).unwrap().as_ref() == Some(&content));
    }
}

#[test]
fn whiteouts_read_back_as_such() {
    let temp = tempfile::tempdir().unwrap();
    let mut writer = LayerWriter::create(temp.path()).unwrap();
    writer
        .append(&entry("d", EntryKind::Directory), &mut std::io::empty())
        .unwrap();
    writer.opaque(b"d").unwrap();
    writer.whiteout(b"e/f").unwrap();
    writer.finish().unwrap();
    let tar = std::fs::read(temp.path().join("tar")).unwrap();
    let layer = Layer::of(&tar);
    let index = layer::Index::open(&layer.dir()).unwrap();
    let root = index.root().unwrap();
    let find = |dir: &layer::Inode, name: &[u8]| {
        index
            .inode(index.lookup(dir, name).unwrap().unwrap())
            .unwrap()
    };
    assert!(find(&root, b"d").is_opaque());
    let implied = find(&root, b"e");
    assert!(implied.is_implied() && !implied.is_opaque());
    assert!(find(&implied, b"f").is_whiteout());
    assert_eq!(
        std::fs::read(layer.dir().index()).unwrap(),
        std::fs::read(temp.path().join("index.erofs")).unwrap()
    );
}

#[test]
fn entries_that_cannot_be_in_a_layer_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let mut writer = LayerWriter::create(temp.path()).unwrap();
    let mut append = |entry: &Entry| writer.append(entry, &mut &b"x"[..]).unwrap_err();
    for path in [
        ".wh.x",
        "d/.wh..wh..opq",
        ".wh.x/y",
        ".wh..wh.x",
        "a//b",
        "./a",
        "/a",
        "a/",
    ] {
        let error = append(&entry(path, EntryKind::Fifo));
        assert!(
            matches!(error, WriteError::ReservedName { .. }),
            "{path}: {error}"
        );
    }
    let error = append(&entry("../a", EntryKind::Fifo));
    assert!(matches!(error, WriteError::Entry { .. }));
    let error = append(&entry("short", EntryKind::File { size: 2 }));
    assert!(matches!(error, WriteError::Content { .. }));
    let mut bad = entry("a", EntryKind::Fifo);
    bad.xattrs.insert(b"user.a=b".to_vec(), Vec::new());
    assert!(matches!(append(&bad), WriteError::Xattrs { .. }));
}

#[test]
fn attributes_of_overlayfs_are_left_out() {
    let written = |attribute: Option<&[u8]>| {
        let temp = tempfile::tempdir().unwrap();
        let mut writer = LayerWriter::create(temp.path()).unwrap();
        let mut directory = entry("d", EntryKind::Directory);
        directory
            .xattrs
            .extend(attribute.map(|name| (name.to_vec(), b"y".to_vec())));
        writer.append(&directory, &mut std::io::empty()).unwrap();
        writer.finish().unwrap()
    };
    for name in [
        &b"user.overlay.opaque"[..],
        b"trusted.overlay.opaque",
        b"unknown.x",
    ] {
        assert_eq!(written(Some(name)), written(None));
    }
    assert_ne!(written(Some(b"user.kept")), written(None));
}
