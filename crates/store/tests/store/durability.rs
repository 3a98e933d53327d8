//! Laws of power cuts and kills: what is not known to be on disk is never used.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use oci::{Descriptor, Digest, Reference};
use store::{ContainerRecord, ContainerState, Store, StoreError, Timestamp};

use crate::fixture::Fixture;

fn name(text: &str) -> Reference {
    Reference::parse(text).expect("valid").or_latest()
}

#[test]
fn after_a_reboot_only_what_was_synced_is_there() {
    let fixture = Fixture::new();
    let store = fixture.open_in_boot("one");
    let kept = fixture.image(&store, "kept");
    store.tag(&name("kept"), &kept, None).expect("tagged");
    assert!(store.needs_sync().expect("read"));
    store.mark_synced().expect("synced");
    assert!(!store.needs_sync().expect("read"));
    let lost = fixture.image(&store, "lost");
    store.tag(&name("lost:1"), &lost, None).expect("tagged");
    let lost_layers = store.image(&lost).expect("read").expect("there").layers;
    drop(store);

    assert!(fixture.open_in_boot("one").recovery().is_none());
    let store = fixture.open_in_boot("two");
    let recovery = store.recovery().expect("something was lost");
    assert_eq!(recovery.images, ["lost:1"]);
    assert_eq!(recovery.layers, [lost_layers[1]]);
    assert_eq!(recovery.blobs, [*lost.digest()]);
    assert!(store.resolve("lost:1").is_err());
    assert!(!store.layer_dir(&lost_layers[1]).exists());
    assert!(!store.has_layer(&lost_layers[1]).expect("read"));
    assert_eq!(store.resolve("kept").expect("there").id, kept);
    for layer in store.image(&kept).expect("read").expect("there").layers {
        assert!(store.has_layer(&layer).expect("read"));
    }
    drop(store);
    assert!(fixture.open_in_boot("two").recovery().is_none());
}

#[test]
fn a_layer_of_an_earlier_boot_is_stored_again() {
    let fixture = Fixture::new();
    let store = fixture.open_in_boot("one");
    let layer = fixture.layer(&store, b"tar");
    drop(store);
    let store = fixture.open_in_boot("two");
    assert!(!store.has_layer(&layer).expect("read"));
    // As after a kill between the rename and the record.
    fs::create_dir(store.layer_dir(&layer)).expect("made");
    fs::write(store.layer_dir(&layer).join("tar"), b"garbage").expect("written");
    assert!(!store.has_layer(&layer).expect("read"));
    assert_eq!(fixture.layer(&store, b"tar"), layer);
    assert_eq!(store.read_blob(layer.digest(), 10).expect("read"), b"tar");
}

#[test]
fn an_interrupted_blob_goes_on_where_it_stopped() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let content = b"the whole content";
    let descriptor = Descriptor::of("text/plain", content);
    let mut writer = store.blob_writer(&descriptor).expect("started");
    assert_eq!(writer.offset(), 0);
    writer.write_all(&content[..5]).expect("written");
    drop(writer);
    assert!(!store.has_blob(&descriptor.digest).expect("read"));
    store.sweep().expect("swept");
    let mut writer = store.blob_writer(&descriptor).expect("resumed");
    assert_eq!(writer.offset(), 5, "a fresh partial survives a sweep");
    writer.write_all(&content[5..]).expect("written");
    let more = writer.write_all(b"!").expect_err("longer than announced");
    assert_eq!(more.kind(), std::io::ErrorKind::InvalidData);
    writer.commit().expect("complete");
    assert_eq!(
        store.read_blob(&descriptor.digest, 100).expect("read"),
        content
    );
    let writer = store.blob_writer(&descriptor).expect("started");
    assert!(writer.is_complete());
    assert_eq!(writer.offset(), descriptor.size);
    writer.commit().expect("nothing to do");
    let left = std::fs::read_dir(store.root().join("ingest")).expect("there");
    assert_eq!(left.count(), 0);
}

#[test]
fn a_blob_with_wrong_content_is_thrown_away() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let descriptor = Descriptor::of("text/plain", b"right");
    let mut writer = store.blob_writer(&descriptor).expect("started");
    writer.write_all(b"wrong").expect("written");
    assert!(matches!(
        writer.commit(),
        Err(StoreError::DigestMismatch { expected, found })
            if expected == descriptor.digest && found == Digest::of(b"wrong")
    ));
    let mut writer = store.blob_writer(&descriptor).expect("started");
    assert_eq!(writer.offset(), 0);
    writer.write_all(b"rig").expect("written");
    assert!(matches!(
        writer.commit(),
        Err(StoreError::SizeMismatch {
            expected: 5,
            found: 3,
            ..
        })
    ));
    assert!(!store.has_blob(&descriptor.digest).expect("read"));
}

#[test]
fn scratch_goes_with_its_owner() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let scratch = store.scratch().expect("made");
    fs::write(scratch.path().join("file"), b"x").expect("written");
    let path = scratch.path().to_owned();
    store.sweep().expect("swept");
    assert!(path.exists(), "its owner lives");
    drop(scratch);
    assert!(!path.exists());
    // As a killed process leaves them.
    let stale = store.ingest_dir().join("1-2-3.scratch");
    fs::create_dir(&stale).expect("made");
    fs::write(stale.join("file"), vec![1; 5000]).expect("written");
    fs::write(store.ingest_dir().join("1-2-4.new"), b"x").expect("written");
    assert!(store.sweep().expect("swept").bytes >= 5000);
    assert_eq!(fs::read_dir(store.ingest_dir()).expect("read").count(), 0);
}

#[test]
fn the_trash_is_emptied_whatever_its_permissions() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let scratch = store.scratch().expect("made");
    let closed = scratch.path().join("work/work");
    fs::create_dir_all(closed.join("deeper")).expect("made");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("closed");
    drop(scratch);
    assert!(store.has_trash().expect("read"));
    store.empty_trash().expect("emptied");
    assert!(!store.has_trash().expect("read"));
}

#[test]
fn directories_are_closed_to_others() {
    let fixture = Fixture::new();
    // The root may have been made for the store, open to all.
    fs::create_dir(fixture.root()).expect("made");
    fs::set_permissions(fixture.root(), fs::Permissions::from_mode(0o1777)).expect("open");
    let store = fixture.open();
    for directory in [
        store.root().to_owned(),
        store.run_dir().to_owned(),
        store.ingest_dir(),
        store.layer_mounts_dir(),
        store.root().join("blobs/sha256"),
    ] {
        let mode = fs::metadata(&directory).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", directory.display());
    }
}

#[test]
fn a_newer_format_is_refused_and_features_are_heeded() {
    let open = |format: &str| {
        let fixture = Fixture::new();
        drop(fixture.open());
        fs::write(fixture.root().join("format"), format).expect("written");
        let result = Store::open(&fixture.root(), &fixture.run());
        (fixture, result)
    };
    let (_fixture, result) = open(r#"{"version":2}"#);
    assert!(matches!(
        result,
        Err(StoreError::NewerFormat {
            found: 2,
            supported: 1,
            ..
        })
    ));
    let (_fixture, result) = open(r#"{"version":1,"must_refuse":["chunks"]}"#);
    assert!(matches!(
        result,
        Err(StoreError::UnknownFeatures { features, .. }) if features == ["chunks"]
    ));
    let (_fixture, result) = open(r#"{"version":1,"may_ignore":["hints"],"later":1}"#);
    let store = result.expect("opened");
    store
        .put_blob(&"text/plain".into(), b"x")
        .expect("writable");
    let (_fixture, result) = open(r#"{"version":1,"read_only":["chunks"]}"#);
    let store = result.expect("opened");
    assert!(store.images().expect("readable").is_empty());
    assert!(matches!(
        store.put_blob(&"text/plain".into(), b"x"),
        Err(StoreError::ReadOnly { features }) if features == ["chunks"]
    ));
    assert!(matches!(store.scratch(), Err(StoreError::ReadOnly { .. })));
    let (_fixture, result) = open("not json");
    assert!(matches!(result, Err(StoreError::MalformedFormat { .. })));
}

#[test]
fn a_newer_database_is_refused_and_stays_as_it_is() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let path = fixture.root().join("db.sqlite");
    let database = rusqlite::Connection::open(&path).expect("opened");
    database
        .execute_batch("PRAGMA user_version = 1000; PRAGMA wal_checkpoint(TRUNCATE);")
        .expect("written");
    drop(database);
    let before = fs::read(&path).expect("read");
    for _ in 0..2 {
        let result = Store::open(&fixture.root(), &fixture.run());
        let error = result.expect_err("from the future");
        assert!(matches!(error, StoreError::NewerFormat { found: 1000, .. }));
        let said = error.to_string();
        assert!(said.contains("use a newer strata"), "{said}");
        assert_eq!(fs::read(&path).expect("read"), before);
    }
}

#[test]
fn a_directory_with_other_files_does_not_become_a_store() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.root()).expect("made");
    fs::write(fixture.root().join("thesis.tex"), b"x").expect("written");
    let result = Store::open(&fixture.root(), &fixture.run());
    assert!(matches!(result, Err(StoreError::NotAStore { .. })));
}

#[test]
fn a_store_whose_making_was_interrupted_is_made_again() {
    let fixture = Fixture::new();
    drop(fixture.open());
    fs::remove_file(fixture.root().join("format")).expect("removed");
    fs::remove_dir(fixture.root().join("trash")).expect("removed");
    let store = fixture.open();
    fixture.image(&store, "works");
}

#[test]
fn a_container_keeps_its_layers_after_a_reboot() {
    let fixture = Fixture::new();
    let store = fixture.open_in_boot("one");
    let image = fixture.image(&store, "x");
    let layers = store.image(&image).expect("read").expect("there").layers;
    let record = ContainerRecord {
        id: "a".repeat(64),
        name: "web".to_owned(),
        image,
        image_name: "x".to_owned(),
        command: Vec::new(),
        created: Timestamp::now(),
        state: ContainerState::Created,
        auto_remove: false,
        options: serde_json::Value::Null,
        layers,
    };
    store.put_container(&record).expect("stored");
    store.mark_synced().expect("synced");
    drop(store);
    let store = fixture.open_in_boot("two");
    assert_eq!(store.container("web").expect("there"), record);
    store.sweep().expect("swept");
    assert!(store.has_layer(&record.layers[0]).expect("read"));
}
