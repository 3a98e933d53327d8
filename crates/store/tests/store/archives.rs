//! Laws of archives.

use std::fs::{self, File};
use std::io::{Cursor, Read as _, Write as _};
use std::path::{Path, PathBuf};

use oci::{DiffId, Digest, ImageId, Index, MediaType, Reference};
use store::{
    Archive, ArchiveError, CopyError, ManifestPolicy, SavedImage, Store, StoreTarget, copy, save,
};

use crate::fixture::{Fixture, config_with};
use crate::memory::{LayerBytes, MemorySource, decompress, gzip, options, unpack};

#[derive(Debug)]
enum LoadError {
    Archive(ArchiveError),
    Copy(CopyError),
}

fn load_archive(store: &Store, archive: &Archive) -> Result<Vec<(ImageId, String)>, LoadError> {
    let mut loaded = Vec::new();
    for image in archive.images().map_err(LoadError::Archive)? {
        let target = StoreTarget::new(store, &unpack).manifests(image.manifests);
        let copied = copy(&image.source, &target, &options(&|_| {})).map_err(LoadError::Copy)?;
        let names: Vec<String> = image.names.iter().map(Reference::familiar).collect();
        loaded.push((copied.image, names.join(" ")));
    }
    Ok(loaded)
}

fn load(store: &Store, path: &Path) -> Result<Vec<(ImageId, String)>, LoadError> {
    let archive = Archive::open(store, path, &decompress).map_err(LoadError::Archive)?;
    load_archive(store, &archive)
}

fn saved(store: &Store, id: ImageId, names: &[&str]) -> SavedImage {
    assert!(store.image(&id).expect("read").is_some());
    let names = names
        .iter()
        .map(|name| Reference::parse(name).expect("valid"));
    SavedImage {
        id,
        names: names.collect(),
    }
}

fn save_to(store: &Store, images: &[SavedImage], path: &Path) -> Vec<u8> {
    let mut out = File::create(path).expect("created");
    save(store, images, &mut out).expect("saved");
    fs::read(path).expect("read")
}

/// An entry of a tar that a test makes.
enum Item<'a> {
    File(&'a str, &'a [u8]),
    Symlink(&'a str, &'a str),
}

fn tar(items: &[Item<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        let mut header = tar::Header::new_ustar();
        let (name, content): (&str, &[u8]) = match item {
            Item::File(name, content) => {
                header.set_entry_type(tar::EntryType::Regular);
                (name, content)
            }
            Item::Symlink(name, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.as_mut_bytes()[157..][..target.len()].copy_from_slice(target.as_bytes());
                (name, b"")
            }
        };
        // `set_path` refuses what hostile archives hold.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(u64::try_from(content.len()).expect("small"));
        header.set_mode(0o644);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.extend_from_slice(&[0; 1024]);
    out
}

fn write(fixture: &Fixture, bytes: &[u8]) -> PathBuf {
    let path = fixture.path().join("archive");
    fs::write(&path, bytes).expect("written");
    path
}

#[test]
fn a_saved_image_loads_as_the_same_image() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let store = fixture.open();
    let (first, second) = (fixture.image(&store, "1"), fixture.image(&store, "2"));
    let images = [
        saved(&store, first, &["a:1", "127.0.0.1:5000/b:2"]),
        saved(&store, second, &[]),
    ];
    let path = fixture.path().join("out.tar");
    let bytes = save_to(&store, &images, &path);
    let expected = [
        (first, "a:1 127.0.0.1:5000/b:2".to_owned()),
        (second, String::new()),
    ];
    let target = other.open();
    assert_eq!(load(&target, &path).expect("loaded"), expected);
    for id in [first, second] {
        assert_eq!(
            target.image_config_bytes(&id).expect("there"),
            store.image_config_bytes(&id).expect("there")
        );
        assert_eq!(
            target.image(&id).expect("read").expect("there").manifest,
            None
        );
    }
    assert_eq!(
        save_to(&target, &images, &path),
        bytes,
        "equal images give equal bytes"
    );
    // The same through a pipe, compressed.
    let third = Fixture::new();
    let third = third.open();
    let stream = Box::new(Cursor::new(gzip(&bytes)));
    let archive = Archive::read(&third, stream, &decompress).expect("opened");
    assert_eq!(load_archive(&third, &archive).expect("loaded"), expected);
    assert_eq!(fs::read_dir(third.ingest_dir()).expect("read").count(), 0);
}

#[test]
fn a_received_image_is_saved_and_loaded_as_it_came() {
    let source = MemorySource::image(&[b"one", b"two"], LayerBytes::Gzip);
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let store = fixture.open();
    let target = StoreTarget::new(&store, &unpack);
    let copied = copy(&source, &target, &options(&|_| {})).expect("copied");
    let images = [saved(&store, copied.image, &["a:1", "b:2"])];
    let path = fixture.path().join("out.tar");
    let bytes = save_to(&store, &images, &path);
    let there = other.open();
    let expected = [(copied.image, "a:1 b:2".to_owned())];
    assert_eq!(load(&there, &path).expect("loaded"), expected);
    let (_, manifest) = there.manifest_of(&copied.image).expect("there");
    assert_eq!(Digest::of(&manifest), source.root().digest);
    assert!(save_to(&there, &images, &path) == bytes);

    // Where a blob is not kept, the layers go without compression.
    store.drop_compressed().expect("dropped");
    store.sweep().expect("swept");
    assert!(save_to(&store, &images, &path) != bytes);
    let third = Fixture::new();
    assert_eq!(load(&third.open(), &path).expect("loaded"), expected);
}

#[test]
fn a_saved_archive_is_in_dockers_form() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let id = fixture.image(&store, "1");
    let layers = store.image(&id).expect("read").expect("there").layers;
    let path = fixture.path().join("out.tar");
    let bytes = save_to(&store, &[saved(&store, id, &["a:1"])], &path);
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut files = Vec::new();
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("a tar");
        let name = entry.path().expect("text").display().to_string();
        let mut content = String::new();
        entry.read_to_string(&mut content).expect("text");
        files.push((name, content));
    }
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[..2], ["blobs/", "blobs/sha256/"]);
    assert_eq!(
        names[names.len() - 4..],
        ["index.json", "manifest.json", "oci-layout", "repositories"]
    );
    assert!(names[2..names.len() - 4].is_sorted());
    let content = |name: &str| {
        let found = files.iter().find(|(known, _)| known == name);
        found.expect(name).1.clone()
    };
    let (config, last) = (id.digest().hex(), layers[1].digest().hex());
    assert_eq!(content("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#);
    assert_eq!(
        content("repositories"),
        format!("{{\"a\":{{\"1\":\"{last}\"}}}}\n")
    );
    let manifest = content("manifest.json");
    let start = format!(
        r#"[{{"Config":"blobs/sha256/{config}","RepoTags":["a:1"],"Layers":["blobs/sha256/{}","blobs/sha256/{last}"],"LayerSources":{{"sha256:"#,
        layers[0].digest().hex()
    );
    assert!(manifest.starts_with(&start), "{manifest}");
    assert!(manifest.ends_with("}}}]\n"), "{manifest}");
    let index: Index = serde_json::from_str(&content("index.json")).expect("an index");
    let annotations = index.manifests[0].annotations.as_ref().expect("there");
    assert_eq!(
        annotations["io.containerd.image.name"],
        "docker.io/library/a:1"
    );
    assert_eq!(annotations["org.opencontainers.image.ref.name"], "1");
}

#[test]
fn the_form_before_docker_25_loads() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let layer = b"layer content";
    let diff_id = DiffId(Digest::of(layer));
    let config = config_with(&[diff_id, diff_id, diff_id], "old");
    let name = format!("{}.json", Digest::of(&config).hex());
    let zipped = gzip(layer);
    let manifest = format!(
        r#"[{{"Config":"{name}","RepoTags":["old:1","old"],"Layers":["aa/layer.tar","bb/layer.tar","cc.tar.gz"]}}]"#
    );
    let archive = tar(&[
        Item::File("aa/VERSION", b"1.0"),
        Item::File("./aa/layer.tar", layer),
        Item::Symlink("bb/layer.tar", "../aa/layer.tar"),
        Item::File("cc.tar.gz", &zipped),
        Item::File(&name, &config),
        Item::File("manifest.json", manifest.as_bytes()),
        Item::File("repositories", b"{}"),
    ]);
    let loaded = load(&store, &write(&fixture, &archive)).expect("loaded");
    let id = ImageId(Digest::of(&config));
    assert_eq!(loaded, [(id, "old:1 old:latest".to_owned())]);
    assert_eq!(
        store.read_blob(diff_id.digest(), 100).expect("there"),
        layer
    );
}

/// The files of an OCI layout with the image of a source.
fn layout(source: &MemorySource, annotation: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = source
        .blobs
        .iter()
        .map(|(digest, bytes)| (format!("blobs/sha256/{}", digest.hex()), bytes.clone()))
        .collect();
    let root = source.root();
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"{annotation}"}}}}]}}"#,
        root.media_type, root.digest, root.size
    );
    files.push(("index.json".to_owned(), index.into_bytes()));
    let version = br#"{"imageLayoutVersion":"1.0.0"}"#;
    files.push(("oci-layout".to_owned(), version.to_vec()));
    files
}

#[test]
fn an_oci_layout_loads_with_its_manifest() {
    for (annotation, name) in [
        ("docker.io/library/a:1", "a:1"),
        ("quay.io/x/y:z", "quay.io/x/y:z"),
        ("latest", ""),
    ] {
        let source = MemorySource::image(&[b"one", b"two"], LayerBytes::Gzip);
        let files = layout(&source, annotation);
        let items: Vec<Item<'_>> = files
            .iter()
            .map(|(name, bytes)| Item::File(name, bytes))
            .collect();
        let fixture = Fixture::new();
        let store = fixture.open();
        let loaded = load(&store, &write(&fixture, &tar(&items))).expect("loaded");
        assert_eq!(loaded[0].1, name);
        let (_, manifest) = store.manifest_of(&loaded[0].0).expect("there");
        assert_eq!(Digest::of(&manifest), source.root().digest);

        let directory = fixture.path().join("layout");
        for (name, bytes) in &files {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().expect("inside")).expect("made");
            fs::write(path, bytes).expect("written");
        }
        let other = Fixture::new();
        assert_eq!(load(&other.open(), &directory).expect("loaded"), loaded);
    }
}

#[test]
fn a_manifest_that_came_from_a_registry_is_kept() {
    let source = MemorySource::image(&[b"one"], LayerBytes::Gzip);
    let mut files = layout(&source, "x");
    let manifest = source.manifest_of(&source.root().digest);
    let docker = format!(
        r#"[{{"Config":"blobs/sha256/{}","RepoTags":["a:1"],"Layers":["blobs/sha256/{}"]}}]"#,
        manifest.config.digest.hex(),
        manifest.layers[0].digest.hex()
    );
    files.push(("manifest.json".to_owned(), docker.into_bytes()));
    let items: Vec<Item<'_>> = files
        .iter()
        .map(|(name, bytes)| Item::File(name, bytes))
        .collect();
    let fixture = Fixture::new();
    let store = fixture.open();
    let path = write(&fixture, &tar(&items));
    let archive = Archive::open(&store, &path, &decompress).expect("opened");
    let images = archive.images().expect("read");
    assert_eq!(images[0].manifests, ManifestPolicy::Keep);
    assert_eq!(images[0].names[0].familiar(), "a:1");
    assert_eq!(load(&store, &path).expect("loaded").len(), 1);
    assert!(store.has_blob(&manifest.layers[0].digest).expect("read"));
}

#[test]
fn a_directory_is_not_left_through_its_links() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let directory = fixture.path().join("layout");
    fs::create_dir(&directory).expect("made");
    fs::write(fixture.path().join("secret"), b"[]").expect("written");
    std::os::unix::fs::symlink("../secret", directory.join("manifest.json")).expect("linked");
    assert!(matches!(
        load(&store, &directory),
        Err(LoadError::Archive(ArchiveError::ReadFile { .. }))
    ));
}

/// Loads an archive that must be refused, with a message that contains `expected`, and checks
/// that nothing of it stays.
fn check_refused(what: &str, bytes: &[u8], expected: &str) {
    let fixture = Fixture::new();
    let store = fixture.open();
    let text = match load(&store, &write(&fixture, bytes)).expect_err(what) {
        LoadError::Archive(error) => error.to_string(),
        LoadError::Copy(error) => error.to_string(),
    };
    assert!(text.contains(expected), "{what}: {text}");
    assert!(store.images().expect("read").is_empty());
    store.sweep().expect("swept");
    for directory in [store.ingest_dir(), store.root().join("layers")] {
        let left = fs::read_dir(directory).expect("read");
        let partial = |name: &str| name.ends_with(".blob");
        let left = left.filter(|entry| {
            let name = entry.as_ref().expect("read").file_name();
            !partial(&name.to_string_lossy())
        });
        assert_eq!(left.count(), 0, "{what}");
    }
}

#[test]
fn what_is_no_archive_ends_in_a_clear_error() {
    let huge = vec![b' '; (8 << 20) + 1];
    let list = |bytes| tar(&[Item::File("manifest.json", bytes)]);
    let file = |name| tar(&[Item::File(name, b"y")]);
    let cases: [(&str, Vec<u8>, &str); 10] = [
        ("nothing", Vec::new(), "no images: there is neither"),
        ("junk", b"junk\n".to_vec(), "unexpected EOF"),
        ("long junk", vec![b'x'; 4096], "cannot read archive"),
        ("no list", file("x"), "no images: there is neither"),
        ("too old", file("repositories"), "before version 1.10"),
        ("path up", file("../x"), "unsafe name `../x`"),
        ("absolute", file("/etc/passwd"), "unsafe name `/etc/passwd`"),
        (
            "link up",
            tar(&[Item::Symlink("a/b", "../../x")]),
            "unsafe name `../../x`",
        ),
        ("huge list", list(&huge), "limit 8388608"),
        ("no json", list(b"<html>"), "malformed `manifest.json`"),
    ];
    for (what, bytes, expected) in cases {
        check_refused(what, &bytes, expected);
    }
}

#[test]
fn hostile_docker_archives_end_in_clear_errors() {
    let config = config_with(&[DiffId(Digest::of(b"layer content"))], "x");
    let with = |layers: &str, more: &[Item<'_>]| {
        let list = format!(r#"[{{"Config":"c.json","RepoTags":["a:1"],"Layers":{layers}}}]"#);
        let mut bytes = tar(&[
            Item::File("c.json", &config),
            Item::File("manifest.json", list.as_bytes()),
        ]);
        bytes.truncate(bytes.len() - 1024);
        bytes.extend(tar(more));
        bytes
    };
    let mut truncated = with(r#"["l"]"#, &[Item::File("l", &[7; 9000])]);
    truncated.truncate(truncated.len() - 8000);
    let circle = [Item::Symlink("a", "b"), Item::Symlink("b", "a")];
    let wrong = [Item::File("l", b"other")];
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("circle", with(r#"["a"]"#, &circle), "circle of links"),
        ("missing", with(r#"["l"]"#, &[]), "no file `l`"),
        ("path", with(r#"["../../etc/passwd"]"#, &[]), "unsafe name"),
        ("count", with("[]", &[]), "`c.json`"),
        ("truncated", truncated, "unexpected EOF"),
        ("wrong", with(r#"["l"]"#, &wrong), "content digest is"),
    ];
    for (what, bytes, expected) in cases {
        check_refused(what, &bytes, expected);
    }
}

#[test]
fn headers_without_end_are_refused() {
    for kind in [b'x', b'L', b'K'] {
        // Sparse on disk, gigabytes when it is read.
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(6 << 30);
        header.set_cksum();
        let fixture = Fixture::new();
        let path = write(&fixture, header.as_bytes());
        let file = fs::OpenOptions::new().write(true).open(&path);
        file.expect("opened")
            .set_len((6 << 30) + 2048)
            .expect("holes");
        let Err(LoadError::Archive(error)) = load(&fixture.open(), &path) else {
            panic!("loaded");
        };
        let expected = "more than 4194304 bytes of headers for one entry";
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn more_layers_than_tools_make_are_refused_before_they_are_read() {
    let diff_ids = vec![DiffId(Digest::of(b"x")); 10_000];
    let config = config_with(&diff_ids, "x");
    let layers = vec![r#""l""#; 10_000].join(",");
    let list = format!(r#"[{{"Config":"c.json","Layers":[{layers}]}}]"#);
    let archive = tar(&[
        Item::File("c.json", &config),
        Item::File("manifest.json", list.as_bytes()),
        Item::File("l", b"\x1f\x8b of gzip"),
    ]);
    let expected = "`manifest.json` names 10000 layers, limit 2000";
    check_refused("many layers", &archive, expected);
}

#[test]
fn a_document_that_is_named_without_end_is_refused() {
    let mut config = config_with(&[], "x");
    config.resize(8 << 20, b' ');
    let list = vec![r#"{"Config":"c.json","Layers":[]}"#; 150].join(",");
    let archive = tar(&[
        Item::File("c.json", &config),
        Item::File("manifest.json", format!("[{list}]").as_bytes()),
    ]);
    let expected = "more than 1073741824 bytes of manifests and configurations";
    check_refused("many images", &archive, expected);
}

#[test]
fn hostile_layouts_end_in_clear_errors() {
    let source = MemorySource::image(&[b"one"], LayerBytes::Gzip);
    let manifest = source.manifest_of(&source.root().digest);
    let change = |name: String, to: Option<&[u8]>| {
        let mut files = layout(&source, "a:1");
        files.retain(|(known, _)| *known != name);
        files.extend(to.map(|bytes| (name, bytes.to_vec())));
        let items = files.iter().map(|(name, bytes)| Item::File(name, bytes));
        tar(&items.collect::<Vec<_>>())
    };
    let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let layer = &manifest.layers[0].digest;
    let mut wrong = source.blobs[layer].clone();
    wrong[5] ^= 1;
    let cases = [
        (change(blob(&source.root().digest), None), "no file `"),
        (
            change(blob(&source.root().digest), Some(b"{}")),
            "manifest digest is",
        ),
        (change(blob(&manifest.config.digest), None), "no file `"),
        (change(blob(layer), None), "no file `"),
        (change(blob(layer), Some(b"short")), "has 5 bytes, expected"),
        (change(blob(layer), Some(&wrong)), "content digest is"),
        (
            change(
                "oci-layout".to_owned(),
                Some(br#"{"imageLayoutVersion":"2.0.0"}"#),
            ),
            "version `2.0.0`",
        ),
    ];
    for (bytes, expected) in cases {
        check_refused(expected, &bytes, expected);
    }
    assert_eq!(manifest.layers[0].media_type.0, MediaType::OCI_LAYER_GZIP);
}

#[test]
fn save_writes_where_the_file_stands() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let id = fixture.image(&store, "1");
    let path = fixture.path().join("out");
    let mut out = File::create(&path).expect("created");
    out.write_all(b"before").expect("written");
    save(&store, &[saved(&store, id, &[])], &mut out).expect("saved");
    assert!(fs::read(path).expect("read").starts_with(b"beforeblobs/"));
}
