//! Laws of many processes on one store. A test runs this test program again as its other
//! processes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use oci::Reference;
use store::Store;

use crate::fixture::Fixture;

/// Tells a test that it is one of the other processes, and where the store is.
const ROOT: &str = "STORE_TEST_ROOT";
const NUMBER: &str = "STORE_TEST_NUMBER";

const WRITERS: usize = 8;
const IMAGES: usize = 6;

fn spawn(fixture: &Fixture, test: &str, number: usize) -> Child {
    let program = std::env::current_exe().expect("own path");
    Command::new(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ROOT, fixture.path())
        .env(NUMBER, number.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawned")
}

/// Returns the fixture and number that the parent gave, when there is one.
#[expect(
    clippy::disallowed_methods,
    reason = "this is how the parent speaks to its children"
)]
fn child() -> Option<(Fixture, usize)> {
    let root = std::env::var_os(ROOT)?;
    let number = std::env::var(NUMBER).expect("with the root");
    Some((Fixture::at(root.into()), number.parse().expect("number")))
}

fn write_images(fixture: &Fixture, number: usize) {
    for index in 0..IMAGES {
        // Opened each time, as commands do.
        let store = fixture.open();
        let _lock = store.lock_shared().expect("locked");
        // Half of the images are the same in all processes.
        let text = match index % 2 {
            0 => format!("common-{index}"),
            _ => format!("own-{number}-{index}"),
        };
        let id = fixture.image(&store, &text);
        let name = Reference::parse(&format!("a:{text}")).expect("valid");
        store.tag(&name, &id, None).expect("tagged");
        assert_eq!(store.resolve(&format!("a:{text}")).expect("there").id, id);
    }
}

#[test]
fn eight_processes_open_and_write_at_once() {
    if let Some((fixture, number)) = child() {
        return write_images(&fixture, number);
    }
    let fixture = Fixture::new();
    let test = "processes::eight_processes_open_and_write_at_once";
    let children: Vec<Child> = (0..WRITERS).map(|n| spawn(&fixture, test, n)).collect();
    for mut child in children {
        assert!(child.wait().expect("waited").success());
    }
    let store = fixture.open();
    let images = store.images().expect("read");
    assert_eq!(images.len(), IMAGES / 2 + WRITERS * IMAGES / 2);
    for image in images {
        assert_eq!(image.tags.len(), 1);
        for layer in &image.layers {
            assert!(store.has_layer(layer).expect("read"));
        }
    }
}

#[test]
fn threads_share_a_store() {
    let fixture = Fixture::new();
    let store = fixture.open();
    std::thread::scope(|scope| {
        for number in 0..WRITERS {
            let (store, fixture) = (&store, &fixture);
            scope.spawn(move || {
                for index in 0..IMAGES {
                    fixture.image(store, &format!("{}", (number + index) % 5));
                }
            });
        }
    });
    assert_eq!(store.images().expect("read").len(), 5);
}

/// Writes images until it is killed, and says when it has begun.
fn write_forever(fixture: &Fixture, number: usize) {
    let store = fixture.open();
    let _lock = store.lock_shared().expect("locked");
    for index in 0_u64.. {
        let text = format!("{number}-{index}");
        let id = fixture.image(&store, &text);
        let name = Reference::parse(&format!("k:{text}")).expect("valid");
        store.tag(&name, &id, None).expect("tagged");
        if index == 0 {
            let mut output = std::io::stdout();
            output.write_all(b"begun\n").expect("written");
        }
    }
}

/// Every record leads to content that is there and right.
fn check_whole(store: &Store) {
    for image in store.images().expect("read") {
        let config = store.image_config(&image.id).expect("right");
        assert_eq!(config.rootfs.diff_ids, image.layers);
        for layer in &image.layers {
            store.read_blob(layer.digest(), 1 << 20).expect("right");
        }
    }
    for (name, id) in store.tags(None).expect("read") {
        assert_eq!(store.resolve(&name.familiar()).expect("there").id, id);
    }
}

#[test]
fn killed_writers_leave_a_store_that_works() {
    if let Some((fixture, number)) = child() {
        return write_forever(&fixture, number);
    }
    let fixture = Fixture::new();
    let test = "processes::killed_writers_leave_a_store_that_works";
    for round in 0..5 {
        let mut children: Vec<Child> = (0..3)
            .map(|number| spawn(&fixture, test, round * 3 + number))
            .collect();
        for child in &mut children {
            let output = BufReader::new(child.stdout.take().expect("piped"));
            let begun = output.lines().map_while(Result::ok);
            assert!(begun.into_iter().any(|line| line.contains("begun")));
        }
        for child in &mut children {
            child.kill().expect("killed");
            child.wait().expect("waited");
        }
        let store = fixture.open();
        check_whole(&store);
        fixture.image(&store, "works");
    }
    let store = fixture.open();
    store.sweep().expect("swept");
    let left = std::fs::read_dir(store.ingest_dir()).expect("read").count();
    assert_eq!(left, 0, "scratch of the killed is swept");
    check_whole(&store);
}

#[test]
fn a_sweep_waits_for_commands_and_commands_for_a_sweep() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let shared = store.lock_shared().expect("locked");
    let second = fixture.open();
    let also_shared = second.lock_shared().expect("locked");
    assert_eq!(second.try_sweep().expect("tried"), None);
    drop((shared, also_shared));
    let exclusive = store.try_lock_exclusive().expect("tried");
    assert!(exclusive.is_some());
    assert!(second.try_lock_exclusive().expect("tried").is_none());
    drop(exclusive);
    assert!(second.try_sweep().expect("tried").is_some());
}

/// Checks find nothing while others write and checkpoint, and after these were killed.
#[test]
fn a_killed_checkpoint_is_no_damage() {
    if let Some((fixture, number)) = child() {
        for round in 0_u64.. {
            let store = fixture.open();
            let id = fixture.image(&store, &format!("{number}-{round}"));
            let name = Reference::parse(&format!("a:{number}")).expect("valid");
            store.tag(&name, &id, None).expect("tagged");
            store.mark_synced().expect("synced");
            if round == 0 {
                writeln!(std::io::stdout(), "ready").expect("said");
            }
        }
        return;
    }
    let fixture = Fixture::new();
    drop(fixture.open());
    let test = "processes::a_killed_checkpoint_is_no_damage";
    let examine = |round: usize| {
        let check = store::examine_database(&fixture.root()).expect("examined");
        assert_eq!(check.findings, [], "round {round}");
    };
    for round in 0..6 {
        let mut children = [spawn(&fixture, test, 0), spawn(&fixture, test, 1)];
        for child in &mut children {
            let stdout = child.stdout.as_mut().expect("a pipe");
            let mut lines = BufReader::new(stdout).lines();
            assert!(lines.any(|line| line.is_ok_and(|line| line.contains("ready"))));
        }
        for _ in 0..=round {
            examine(round);
        }
        for child in &mut children {
            child.kill().expect("killed");
            child.wait().expect("waited");
            examine(round);
        }
        let store = fixture.open();
        let id = fixture.image(&store, &format!("after {round}"));
        store.resolve(&id.to_string()).expect("there");
        examine(round);
        store.mark_synced().expect("synced");
        let check = store::examine_database(&fixture.root()).expect("examined");
        assert_eq!(check, store::DatabaseCheck::default(), "round {round}");
    }
}
