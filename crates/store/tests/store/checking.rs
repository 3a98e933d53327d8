//! The check of the database, and the copy that repairs it.

use std::fs;
use std::path::Path;

use oci::Reference;
use rusqlite::Connection;
use store::{Damage, DatabaseCheck, Store, examine_database, repair_database};

use crate::fixture::Fixture;

fn name(text: &str) -> Reference {
    Reference::parse(text).expect("a name").or_latest()
}

/// Makes a store whose database has its copy.
fn checked(fixture: &Fixture) -> Store {
    let store = fixture.open();
    let image = fixture.image(&store, "demo");
    store.tag(&name("demo:1"), &image, None).expect("tagged");
    store.mark_synced().expect("synced");
    store
}

fn examine(fixture: &Fixture) -> DatabaseCheck {
    examine_database(&fixture.root()).expect("examined")
}

/// Flips a bit of the last page, which is in no log.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("read");
    let position = bytes.len() - 100;
    bytes[position] ^= 1;
    fs::write(path, bytes).expect("written");
}

#[test]
fn a_checkpoint_cuts_the_log_and_leaves_sums_that_hold() {
    let fixture = Fixture::new();
    let store = checked(&fixture);
    let log = || fs::metadata(fixture.root().join("db.sqlite-wal")).expect("there");
    assert!(log().len() < 20_000, "{}", log().len());
    assert_eq!(examine(&fixture), DatabaseCheck::default());
    for number in 0..20 {
        let image = fixture.image(&store, &format!("more {number}"));
        store.tag(&name("demo:1"), &image, None).expect("tagged");
        assert_eq!(examine(&fixture), DatabaseCheck::default());
        if number % 3 == 0 {
            store.mark_synced().expect("synced");
            assert_eq!(examine(&fixture), DatabaseCheck::default());
        }
    }
}

#[test]
fn a_reader_that_keeps_the_log_does_no_harm() {
    let fixture = Fixture::new();
    let store = checked(&fixture);
    let reader = Connection::open(fixture.root().join("db.sqlite")).expect("opened");
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM tags;")
        .expect("read");
    for round in 0..3 {
        let image = fixture.image(&store, &format!("more {round}"));
        store.tag(&name("demo:1"), &image, None).expect("tagged");
        store.mark_synced().expect("synced");
        assert_eq!(examine(&fixture), DatabaseCheck::default());
    }
    reader.execute_batch("COMMIT").expect("ended");
    drop(reader);
    store.mark_synced().expect("synced");
    assert_eq!(examine(&fixture), DatabaseCheck::default());
}

/// Restoring pages from the copy would undo what the other program did.
#[test]
fn what_another_program_wrote_is_no_damage() {
    let write = "INSERT OR REPLACE INTO meta (key, value) VALUES ('x', hex(randomblob(3000)));";
    for (is_open, end) in [
        (false, ""),
        (true, ""),
        (true, "PRAGMA wal_checkpoint(PASSIVE);"),
        (true, "PRAGMA wal_checkpoint(TRUNCATE);"),
        (true, "PRAGMA wal_checkpoint(RESTART);"),
    ] {
        let fixture = Fixture::new();
        let mut store = Some(checked(&fixture)).filter(|_| is_open);
        let other = Connection::open(fixture.root().join("db.sqlite")).expect("opened");
        other
            .pragma_update(None, "busy_timeout", 1000)
            .expect("set");
        for _ in 0..3 {
            other.execute_batch(write).expect("written");
            if !end.is_empty() {
                other.query_row(end, [], |_| Ok(())).expect("written");
            }
            let found = examine(&fixture).findings;
            assert_eq!(found, [], "{end}");
        }
        drop(other);
        assert_eq!(examine(&fixture).findings, [], "{end}");
        let store = store.take().unwrap_or_else(|| fixture.open());
        let image = fixture.image(&store, "later");
        store.tag(&name("demo:2"), &image, None).expect("tagged");
        assert_eq!(examine(&fixture).findings, [], "{end}");
        store.mark_synced().expect("synced");
        assert_eq!(examine(&fixture), DatabaseCheck::default(), "{end}");
        drop(store);
        flip(&fixture.root().join("db.sqlite"));
        let found = examine(&fixture).findings;
        assert!(matches!(found[0].damage, Damage::Pages { .. }), "{found:?}");
    }
}

#[test]
fn while_a_store_is_open_pages_are_not_restored() {
    let fixture = Fixture::new();
    let store = checked(&fixture);
    let path = fixture.root().join("db.sqlite");
    let whole = fs::read(&path).expect("read");
    flip(&path);
    let found = examine(&fixture).findings;
    assert_eq!(found.len(), 1, "{found:?}");
    let repair = repair_database(&fixture.root(), &found).expect("tried");
    assert!(repair.results[0].is_err(), "{repair:?}");
    drop(store);
    let repair = repair_database(&fixture.root(), &found).expect("done");
    assert!(
        repair.results[0].is_ok() && !repair.lost_records,
        "{repair:?}"
    );
    assert!(fs::read(&path).expect("read") == whole);
    assert_eq!(examine(&fixture), DatabaseCheck::default());
}

#[test]
fn a_store_of_a_newer_strata_is_not_repaired() {
    let fixture = Fixture::new();
    drop(checked(&fixture));
    let other = Connection::open(fixture.root().join("db.sqlite")).expect("opened");
    other.pragma_update(None, "user_version", 99).expect("set");
    drop(other);
    let refused = examine_database(&fixture.root());
    assert!(matches!(
        refused,
        Err(store::StoreError::NewerFormat { .. })
    ));
}
