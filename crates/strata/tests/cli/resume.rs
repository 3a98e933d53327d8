//! Pulls, pushes and copies that are killed and started again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use testkit::cli::CommandLine;
use testkit::random::Random;
use testkit::tarball::{Member, Tarball};

use crate::strata;
use crate::throttle::{Throttle, Way};

const LAYER: usize = 8 << 20;
const ALLOWED: u64 = 4 << 20;
const SLACK: u64 = 256 << 10;

fn partials(strata: &CommandLine) -> Vec<(PathBuf, u64)> {
    let Ok(entries) = fs::read_dir(strata.path("root/ingest")) else {
        return Vec::new();
    };
    let files = entries.map(|entry| entry.expect("readable").path());
    files
        .filter(|path| path.extension().is_some_and(|kind| kind == "blob"))
        .map(|path| (path.clone(), length(&path)))
        .collect()
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Waits until a pull has written `bytes` of a blob, and kills it.
pub(crate) fn kill_after(strata: &CommandLine, mut pull: Child, bytes: u64) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !partials(strata).iter().any(|(_, size)| *size >= bytes) {
        assert!(Instant::now() < deadline, "{:?}", partials(strata));
        assert!(pull.try_wait().expect("a child").is_none(), "it ended");
        thread::yield_now();
    }
    pull.kill().expect("it runs");
    pull.wait().expect("it ends");
    partials(strata).iter().map(|(_, size)| size).sum()
}

fn start(strata: &CommandLine, verb: &str, name: &str) -> Child {
    let mut command = strata.command(&[verb, name]);
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().expect("the program starts")
}

#[test]
fn a_killed_pull_goes_on_from_what_had_come() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let source = strata();
    let noise = Random::new(7).bytes(LAYER);
    let tar = Tarball::new().push(&Member::file("noise", &noise)).finish();
    let pushed = format!("{}/demo:1", served.address());
    source.run_with(&["import", "-", &pushed], &tar).succeeded();
    source.run(&["push", &pushed]).succeeded();

    let throttle = Throttle::new(served.address(), Way::ToClient, ALLOWED);
    let name = format!("{}/demo:1", throttle.address);
    let strata = strata();
    let pull = start(&strata, "pull", &name);
    let kept = kill_after(&strata, pull, ALLOWED / 2);
    throttle.allow(u64::MAX / 2);
    let before = throttle.passed();
    let pulled = strata.run(&["pull", &name]).stdout();
    assert!(pulled.contains(": Resuming after "), "{pulled}");
    let fetched = throttle.passed() - before;
    let size = u64::try_from(LAYER).expect("a length");
    // The manifest comes too, and a little that was under way to the killed pull.
    assert!(fetched < size - kept + SLACK, "{fetched}, kept {kept}");
    let id = ["inspect", "-f", "{{.Id}}"];
    assert_eq!(
        strata.run(&[id[0], id[1], id[2], &name]).stdout(),
        source.run(&[id[0], id[1], id[2], &pushed]).stdout()
    );
    assert_eq!(partials(&strata), []);
}

#[test]
fn what_killed_pulls_left_is_swept_when_it_is_old() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let source = strata();
    let noise = Random::new(8).bytes(LAYER);
    let tar = Tarball::new().push(&Member::file("noise", &noise)).finish();
    let pushed = format!("{}/demo:1", served.address());
    source.run_with(&["import", "-", &pushed], &tar).succeeded();
    source.run(&["push", &pushed]).succeeded();

    let throttle = Throttle::new(served.address(), Way::ToClient, ALLOWED);
    let name = format!("{}/demo:1", throttle.address);
    let strata = strata();
    let pull = start(&strata, "pull", &name);
    kill_after(&strata, pull, ALLOWED / 2);
    strata.run(&["image", "prune", "-f"]).succeeded();
    let left = partials(&strata);
    assert_eq!(left.len(), 1, "a fresh part is kept for the next pull");
    let old = SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
    let file = File::options().write(true).open(&left[0].0).expect("there");
    file.set_modified(old).expect("its time changes");
    drop(file);
    strata.run(&["image", "prune", "-f"]).succeeded();
    assert_eq!(partials(&strata), []);
    let rest = fs::read_dir(strata.path("root/ingest")).expect("there");
    assert_eq!(rest.count(), 0, "nor is there scratch");
}

#[test]
fn the_next_pull_frees_what_no_pull_can_go_on_with() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let name = format!("{}/demo:1", served.address());
    let strata = strata();
    strata.import_small(&name);
    strata.run(&["push", "-q", &name]).succeeded();
    let dead = strata.path("root/ingest/1-1-1.scratch");
    fs::create_dir(&dead).expect("made");
    fs::write(dead.join("tar"), b"a part").expect("written");
    strata.run(&["pull", "-q", &name]).succeeded();
    assert!(!dead.exists());
}

#[test]
fn a_killed_copy_leaves_no_archive() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let source = strata();
    let noise = Random::new(9).bytes(LAYER);
    let tar = Tarball::new().push(&Member::file("noise", &noise)).finish();
    let pushed = format!("{}/demo:1", served.address());
    source.run_with(&["import", "-", &pushed], &tar).succeeded();
    source.run(&["push", &pushed]).succeeded();

    let throttle = Throttle::new(served.address(), Way::ToClient, 0);
    let name = format!("{}/demo:1", throttle.address);
    let strata = strata();
    for form in ["docker-archive", "oci-archive"] {
        throttle.allow(ALLOWED);
        let to = format!("{form}:{form}");
        let mut command = strata.command(&["copy", &name, &to]);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        let copy = command.spawn().expect("the program starts");
        throttle.exhaust();
        kill(copy);
        throttle.cut(served.address());
        let left = fs::read_dir(strata.path("work")).expect("lists");
        assert_eq!(left.count(), 0, "{form}");
    }
    throttle.allow(u64::MAX / 2);
    strata
        .run(&["copy", "-q", &name, "docker-archive:whole"])
        .succeeded();
    strata.run(&["load", "-q", "-i", "whole"]).succeeded();
}

/// An image with one layer that does not compress, under the name of a repository behind `way`.
fn noise(way: &Throttle, seed: u64) -> (CommandLine, String) {
    let strata = strata();
    let noise = Random::new(seed).bytes(LAYER);
    let tar = Tarball::new().push(&Member::file("noise", &noise)).finish();
    let name = format!("{}/demo:1", way.address);
    strata.run_with(&["import", "-", &name], &tar).succeeded();
    (strata, name)
}

/// Checks that a server has the image of `name` and nothing else, and that a client knows of
/// nothing to go on with.
fn check_pushed(strata: &CommandLine, name: &str, server: &CommandLine, address: &str) {
    let there = crate::strata();
    let pushed = format!("{address}/demo:1");
    there.run(&["pull", &pushed]).succeeded();
    let id = |strata: &CommandLine, name: &str| {
        let inspected = strata.run(&["inspect", "-f", "{{.Id}}", name]);
        inspected.stdout()
    };
    assert_eq!(id(&there, &pushed), id(strata, name));
    for side in [strata, server] {
        side.run(&["image", "prune", "-f"]).succeeded();
        let rest = fs::read_dir(side.path("root/ingest")).expect("there");
        let rest: Vec<_> = rest.map(|entry| entry.expect("read").file_name()).collect();
        assert_eq!(rest, [""; 0]);
    }
}

fn kill(mut child: Child) {
    assert!(child.try_wait().expect("a child").is_none(), "it ended");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[test]
fn a_killed_push_goes_on_from_what_had_arrived() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let throttle = Throttle::new(served.address(), Way::ToServer, ALLOWED);
    let (strata, name) = noise(&throttle, 9);
    let push = start(&strata, "push", &name);
    throttle.exhaust();
    kill(push);
    throttle.cut(served.address());
    throttle.allow(u64::MAX / 2);
    let pushed = strata.run(&["push", &name]).stdout();
    assert!(pushed.contains(": Resuming after "), "{pushed}");
    let sent = throttle.passed();
    let size = u64::try_from(LAYER).expect("a length");
    assert!(sent > size && sent < size + SLACK, "{sent}");
    check_pushed(&strata, &name, &server, served.address());
}

#[test]
fn a_killed_push_goes_on_at_a_server_that_was_killed_too() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let throttle = Throttle::new(served.address(), Way::ToServer, ALLOWED);
    let (strata, name) = noise(&throttle, 10);
    let push = start(&strata, "push", &name);
    throttle.exhaust();
    kill(push);
    let parts = || partials(&server).iter().map(|(_, size)| *size).sum::<u64>();
    let deadline = Instant::now() + Duration::from_secs(60);
    while parts() < ALLOWED / 2 {
        assert!(Instant::now() < deadline, "{:?}", partials(&server));
        thread::yield_now();
    }
    drop(served);
    let kept = parts();
    let served = server.serve(&["--allow-push"]);
    throttle.cut(served.address());
    throttle.allow(u64::MAX / 2);
    let before = throttle.passed();
    let pushed = strata.run(&["push", &name]).stdout();
    assert!(pushed.contains(": Resuming after "), "{pushed}");
    let sent = throttle.passed() - before;
    let size = u64::try_from(LAYER).expect("a length");
    assert!(sent < size - kept + SLACK, "{sent}, kept {kept}");
    check_pushed(&strata, &name, &server, served.address());
}

#[test]
fn a_tag_that_moves_while_it_is_pushed_stays_where_it_is() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let throttle = Throttle::new(served.address(), Way::ToServer, ALLOWED);
    let (strata, name) = noise(&throttle, 11);
    let id = ["inspect", "-f", "{{.Id}}", &name];
    let pushed = strata.run(&id).stdout();
    let mut push = start(&strata, "push", &name);
    throttle.exhaust();
    let newer = strata.import_small(&name);
    throttle.allow(u64::MAX / 2);
    assert!(push.wait().expect("it ends").success());
    assert_eq!(strata.run(&id).stdout().trim(), newer);
    let there = [
        "inspect",
        "-f",
        "{{.Id}}",
        &format!("{}/demo:1", served.address()),
    ];
    let other = crate::strata();
    other.run(&["pull", "-q", there[3]]).succeeded();
    assert_eq!(other.run(&there).stdout(), pushed);
}
