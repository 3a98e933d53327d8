//! Work that commands leave to the background.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::thread;

use store::Store;
use strata::ops::tidy;

/// Tells whether somebody waits for a lock, without taking it.
fn is_waited_for(file: &File) -> bool {
    let inode = format!(":{} ", file.metadata().expect("open").ino());
    let locks = fs::read_to_string("/proc/locks").expect("the kernel tells");
    let waits = |line: &str| line.contains("-> FLOCK") && line.contains(&inode);
    locks.lines().any(waits)
}

#[test]
fn what_comes_while_another_process_tidies_up_does_not_wait_for_the_next_command() {
    let place = tempfile::tempdir().expect("a directory");
    let (root, run) = (place.path().join("root"), place.path().join("run"));
    let store = Store::open(&root, &run).expect("opened");
    let lock = File::create(run.join("tidy.lock")).expect("made");
    // As one that has looked at everything already, and is about to end.
    lock.lock().expect("free");
    fs::write(root.join("trash/late"), b"").expect("written");
    thread::scope(|scope| {
        let first = scope.spawn(|| tidy::run(&store));
        while !first.is_finished() && !is_waited_for(&lock) {
            thread::yield_now();
        }
        // One waits already, and has yet to look.
        tidy::run(&store).expect("nothing to do");
        lock.unlock().expect("ours");
    });
    assert!(!root.join("trash/late").exists());
}

#[test]
fn what_is_held_for_an_undo_is_waited_for_again_when_who_did_was_killed() {
    let strata = crate::stage::strata().variable("STRATA_UNDO_WINDOW", "1h");
    strata.import_small("a:1");
    assert!(strata.settle());
    strata.run(&["rmi", "a:1"]).succeeded();
    let waits = || strata.processes().pop();
    let waiter = waits().expect("somebody waits for an hour");
    rustix::process::kill_process(waiter, rustix::process::Signal::KILL).expect("killed");
    while waits().is_some() {
        thread::yield_now();
    }
    // Any command that changes something does; one that only looks does not.
    strata.run(&["images"]).succeeded();
    assert!(waits().is_none());
    strata.import_small("b:1");
    let alone = || {
        while strata.processes().len() > 1 {
            thread::yield_now();
        }
        waits().expect("somebody waits again")
    };
    let waiter = alone();
    strata.import_small("c:1");
    assert_eq!(alone(), waiter, "one is enough");
    rustix::process::kill_process(waiter, rustix::process::Signal::KILL).expect("killed");
}
