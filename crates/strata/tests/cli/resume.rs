//! Pulls and copies that are killed and started again.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use testkit::cli::CommandLine;
use testkit::random::Random;
use testkit::tarball::{Member, Tarball};

use crate::strata;

const LAYER: usize = 8 << 20;
const ALLOWED: u64 = 4 << 20;
const SLACK: u64 = 256 << 10;

/// A way to a server on which only so many bytes come back, until more are allowed.
struct Throttle {
    address: String,
    allowed: Arc<(Mutex<u64>, Condvar)>,
    passed: Arc<AtomicU64>,
}

impl Throttle {
    fn new(server: &str, allowed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let throttle = Self {
            address: listener.local_addr().expect("an address").to_string(),
            allowed: Arc::new((Mutex::new(allowed), Condvar::new())),
            passed: Arc::default(),
        };
        let server = server.to_owned();
        let (allowed, passed) = (throttle.allowed.clone(), throttle.passed.clone());
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("a connection");
                let upstream = TcpStream::connect(&server).expect("the server listens");
                let mut requests = client.try_clone().expect("a handle");
                let mut there = upstream.try_clone().expect("a handle");
                thread::spawn(move || {
                    drop(std::io::copy(&mut requests, &mut there));
                    drop(there.shutdown(Shutdown::Both));
                });
                let (allowed, passed) = (allowed.clone(), passed.clone());
                thread::spawn(move || bring(upstream, client, &allowed, &passed));
            }
        });
        throttle
    }

    fn allow(&self, more: u64) {
        *self.allowed.0.lock().expect("not poisoned") += more;
        self.allowed.1.notify_all();
    }
}

fn bring(
    mut upstream: TcpStream,
    mut client: TcpStream,
    (allowed, more): &(Mutex<u64>, Condvar),
    passed: &AtomicU64,
) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = upstream.read(&mut buffer) {
        let bytes = u64::try_from(count).expect("a length");
        let guard = allowed.lock().expect("not poisoned");
        let mut guard = more
            .wait_while(guard, |allowed| *allowed < bytes)
            .expect("not poisoned");
        *guard -= bytes;
        drop(guard);
        if client.write_all(&buffer[..count]).is_err() {
            return;
        }
        passed.fetch_add(bytes, Ordering::Relaxed);
    }
    drop(client.shutdown(Shutdown::Both));
}

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
fn kill_after(strata: &CommandLine, mut pull: Child, bytes: u64) -> u64 {
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

fn start_pull(strata: &CommandLine, name: &str) -> Child {
    let mut command = strata.command(&["pull", name]);
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

    let throttle = Throttle::new(served.address(), ALLOWED);
    let name = format!("{}/demo:1", throttle.address);
    let strata = strata();
    let pull = start_pull(&strata, &name);
    let kept = kill_after(&strata, pull, ALLOWED / 2);
    throttle.allow(u64::MAX / 2);
    let before = throttle.passed.load(Ordering::Relaxed);
    let pulled = strata.run(&["pull", &name]).stdout();
    assert!(pulled.contains(": Resuming after "), "{pulled}");
    let fetched = throttle.passed.load(Ordering::Relaxed) - before;
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

    let throttle = Throttle::new(served.address(), ALLOWED);
    let name = format!("{}/demo:1", throttle.address);
    let strata = strata();
    let pull = start_pull(&strata, &name);
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
fn a_killed_copy_leaves_no_archive() {
    let server = strata();
    let served = server.serve(&["--allow-push"]);
    let source = strata();
    let noise = Random::new(9).bytes(LAYER);
    let tar = Tarball::new().push(&Member::file("noise", &noise)).finish();
    let pushed = format!("{}/demo:1", served.address());
    source.run_with(&["import", "-", &pushed], &tar).succeeded();
    source.run(&["push", &pushed]).succeeded();

    let throttle = Throttle::new(served.address(), 0);
    let name = format!("{}/demo:1", throttle.address);
    let strata = strata();
    for form in ["docker-archive", "oci-archive"] {
        let before = throttle.passed.load(Ordering::Relaxed);
        throttle.allow(ALLOWED);
        let to = format!("{form}:{form}");
        let mut command = strata.command(&["copy", &name, &to]);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut copy = command.spawn().expect("the program starts");
        let deadline = Instant::now() + Duration::from_secs(60);
        while throttle.passed.load(Ordering::Relaxed) - before < ALLOWED / 2 {
            assert!(Instant::now() < deadline, "nothing comes");
            assert!(copy.try_wait().expect("a child").is_none(), "it ended");
            thread::yield_now();
        }
        copy.kill().expect("it runs");
        copy.wait().expect("it ends");
        let left = fs::read_dir(strata.path("work")).expect("lists");
        assert_eq!(left.count(), 0, "{form}");
    }
    throttle.allow(u64::MAX / 2);
    strata
        .run(&["copy", "-q", &name, "docker-archive:whole"])
        .succeeded();
    strata.run(&["load", "-q", "-i", "whole"]).succeeded();
}
