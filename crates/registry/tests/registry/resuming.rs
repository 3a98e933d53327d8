//! Uploads that break and go on, in this push or a later one.

use std::io::{Cursor, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use oci::Descriptor;
use registry::{Access, Remote};
use store::{BlobOutcome, ExchangeError, Target as _};

use crate::brittle::Brittle;
use crate::fixture::{Answer, Counter, Shelf, ask};
use crate::programs::Distribution;
use crate::scripted::{Asked, Reply, Script, blob, impatient, told, with_config};

const SESSION: &str = "/v2/team/app/blobs/uploads/7?state=a%2Fb";
const LENGTH: usize = 5_000_000;
const KEPT: usize = 600_000;

/// Sends a blob and returns what was told of its progress.
fn upload_watched(remote: &Remote, bytes: &[u8]) -> (Result<BlobOutcome, ExchangeError>, Vec<u64>) {
    let descriptor = Descriptor::of(oci::MediaType::OCI_LAYER, bytes);
    let open = |offset| {
        let mut content = Cursor::new(bytes.to_vec());
        content.set_position(offset);
        Ok(Box::new(content) as Box<dyn Read + Send>)
    };
    let told = Mutex::new(Vec::new());
    let outcome = remote.put_blob(&descriptor, None, &open, &|done| {
        told.lock().expect("not poisoned").push(done);
    });
    (outcome, told.into_inner().expect("not poisoned"))
}

fn upload(remote: &Remote) -> Result<BlobOutcome, ExchangeError> {
    upload_watched(remote, &blob(LENGTH).0).0
}

fn at(location: &str, status: u16) -> Reply {
    Reply::new(status).header("Location", location)
}

/// What a session answers that has the first `KEPT` bytes.
fn kept() -> Reply {
    at("/moved?to=1", 204).header("Range", &format!("0-{}", KEPT - 1))
}

fn patches(script: &Script) -> Vec<Asked> {
    let mut asked = script.asked();
    asked.retain(|asked| asked.method == "PATCH");
    asked
}

fn methods(script: &Script) -> Vec<String> {
    script
        .asked()
        .into_iter()
        .map(|asked| asked.method)
        .collect()
}

#[test]
fn a_large_blob_goes_by_one_request_that_another_ends() {
    let script = Script::start(|_, asked| match asked.method.as_str() {
        "POST" => at(SESSION, 202),
        "PATCH" => at("/next?x=1", 202).header("Range", &format!("0-{}", LENGTH - 1)),
        _ => Reply::new(201),
    });
    upload(&script.remote()).expect("stored");
    let (bytes, descriptor) = blob(LENGTH);
    assert_eq!(
        script.lines(),
        [
            "POST /v2/team/app/blobs/uploads/".to_owned(),
            format!("PATCH {SESSION}"),
            format!("PUT /next?x=1&digest=sha256%3A{}", descriptor.digest.hex()),
        ]
    );
    let patch = &script.asked()[1];
    assert_eq!(patch.body, bytes);
    assert_eq!(patch.header("content-length"), Some("5000000"));
    assert_eq!(patch.header("content-range"), None, "as docker does");
    assert_eq!(script.asked()[2].body, b"");
}

#[test]
fn an_upload_that_breaks_goes_on_where_the_registry_says() {
    let script = Script::start(|number, asked| match asked.method.as_str() {
        "POST" => at(SESSION, 202),
        "GET" => kept(),
        "PATCH" if number == 1 => Reply::new(503),
        "PATCH" => at("/end?x=1", 202),
        _ => Reply::new(201),
    });
    let (bytes, _) = blob(LENGTH);
    let (outcome, told) = upload_watched(&script.remote(), &bytes);
    outcome.expect("stored");
    assert_eq!(methods(&script), ["POST", "PATCH", "GET", "PATCH", "PUT"]);
    let asked = script.asked();
    assert_eq!(asked[2].target, SESSION);
    assert_eq!(asked[3].target, "/moved?to=1");
    assert_eq!(asked[3].header("content-range"), Some("600000-4999999"));
    assert_eq!(asked[3].body, bytes[KEPT..]);
    assert!(asked[4].target.starts_with("/end?x=1&digest="));
    let kept = u64::try_from(KEPT).expect("short");
    let back = told.iter().position(|done| *done == kept).expect("told");
    assert!(
        told[..back].is_sorted() && told[back..].is_sorted(),
        "{told:?}"
    );
    assert_eq!(told.last(), Some(&5_000_000));
}

#[test]
fn a_session_that_does_not_go_on_is_begun_again() {
    let no_range = at(SESSION, 204);
    let range = |text: &str| at(SESSION, 204).header("Range", text);
    let fine = at(SESSION, 202);
    for (told, then) in [
        (Reply::error(404, "BLOB_UPLOAD_INVALID", "x"), fine.clone()),
        (Reply::new(405), fine.clone()),
        (no_range, fine.clone()),
        (range("0-0"), fine.clone()),
        (range("0-5000000"), fine.clone()),
        (range("some"), fine.clone()),
        (kept(), Reply::error(400, "BLOB_UPLOAD_INVALID", "x")),
        (kept(), Reply::new(405)),
        (kept(), Reply::new(404)),
        (kept(), Reply::new(501).header("Location", "file:///x")),
    ] {
        let rest = AtomicUsize::new(0);
        let (said, next) = (told.clone(), then.clone());
        let script = Script::start(move |number, asked| match asked.method.as_str() {
            "POST" => at(SESSION, 202),
            "GET" if rest.load(Ordering::Relaxed) > 0 => Reply::new(404),
            "GET" => said.clone(),
            "PATCH" if number == 1 => Reply::new(503),
            "PATCH" if asked.header("content-range").is_some() => {
                rest.fetch_add(1, Ordering::Relaxed);
                next.clone()
            }
            "PATCH" => at(SESSION, 202),
            _ => Reply::new(201),
        });
        upload(&script.remote()).unwrap_or_else(|error| panic!("{told:?} {then:?}: {error}"));
        let (bytes, _) = blob(LENGTH);
        let last = patches(&script).pop().expect("a request");
        assert_eq!(last.body, bytes, "{told:?} {then:?}");
        let begun = methods(&script).iter().filter(|m| *m == "POST").count();
        assert_eq!(begun, 2, "{told:?} {then:?}");
    }
}

#[test]
fn a_session_out_of_step_is_asked_again() {
    let script = Script::start(|number, asked| match (asked.method.as_str(), number) {
        ("POST", _) => at(SESSION, 202),
        ("PATCH", 1) => Reply::new(503),
        ("GET", 2) => at(SESSION, 204).header("Range", "0-99"),
        ("PATCH", 3) => Reply::new(416),
        ("GET", _) => kept(),
        ("PATCH", _) => at(SESSION, 202),
        _ => Reply::new(201),
    });
    upload(&script.remote()).expect("stored");
    let ranges = patches(&script);
    let ranges: Vec<_> = ranges.iter().map(|a| a.header("content-range")).collect();
    assert_eq!(ranges, [None, Some("100-4999999"), Some("600000-4999999")]);
}

#[test]
fn wrong_content_after_going_on_is_sent_once_more_and_then_told() {
    let script = Script::start(|number, asked| match asked.method.as_str() {
        "POST" => at(SESSION, 202),
        "GET" => kept(),
        "PATCH" if number == 1 => Reply::new(503),
        "PATCH" => at(SESSION, 202),
        _ => Reply::error(400, "DIGEST_INVALID", "digest differs"),
    });
    let shelf = Shelf::new();
    let remote = script.remote().remember_sessions(&shelf.store);
    let error = upload(&remote).expect_err("refused");
    assert_eq!(told(&error), "digest invalid: digest differs");
    let lengths: Vec<_> = patches(&script).iter().map(|a| a.body.len()).collect();
    assert_eq!(lengths, [LENGTH, LENGTH - KEPT, LENGTH]);
    assert_eq!(remembered(&shelf, &script.host()), None);
}

#[test]
fn an_end_that_was_heard_but_not_answered_is_enough() {
    let ends = AtomicUsize::new(0);
    let script = Script::start(move |_, asked| match asked.method.as_str() {
        "POST" => at(SESSION, 202),
        "PATCH" => at(SESSION, 202),
        "PUT" if ends.fetch_add(1, Ordering::Relaxed) == 0 => Reply::new(502),
        "PUT" => Reply::error(404, "BLOB_UPLOAD_UNKNOWN", "x"),
        _ => Reply::new(200).header("Content-Length", &LENGTH.to_string()),
    });
    upload(&script.remote()).expect("stored");
    assert_eq!(methods(&script), ["POST", "PATCH", "PUT", "PUT", "HEAD"]);
}

/// The session that is remembered for the blob.
fn remembered(shelf: &Shelf, host: &str) -> Option<String> {
    let repository = format!("{host}/team/app");
    let claimed = shelf
        .store
        .claim_upload(&repository, &blob(LENGTH).1.digest);
    let upload = claimed.expect("asked").expect("free");
    upload.find().expect("read")
}

/// A registry that keeps a part of the blob and is then busy until it is well. Its sessions are at
/// `location`.
fn ailing(well: &Arc<AtomicBool>, location: &str) -> Script {
    let (well, location) = (well.clone(), location.to_owned());
    let fresh = AtomicBool::new(true);
    Script::start(move |_, asked| match asked.method.as_str() {
        "POST" if fresh.swap(false, Ordering::Relaxed) => at(&location, 202),
        _ if !well.load(Ordering::Relaxed) => Reply::new(503),
        "POST" => at(&location, 202),
        "GET" => kept(),
        "PATCH" => at("/end", 202),
        _ => Reply::new(201),
    })
}

#[test]
fn a_later_push_goes_on_in_the_session_of_an_earlier_one() {
    let well = Arc::new(AtomicBool::new(false));
    let script = ailing(&well, SESSION);
    let shelf = Shelf::new();
    let remote = || script.remote().remember_sessions(&shelf.store);
    for _ in 0..2 {
        upload(&remote()).expect_err("busy");
        let url = remembered(&shelf, &script.host()).expect("a session");
        assert_eq!(url, script.url(SESSION));
    }
    well.store(true, Ordering::Relaxed);
    let before = script.asked().len();
    upload(&remote()).expect("stored");
    let asked = script.asked().split_off(before);
    let methods: Vec<_> = asked.iter().map(|asked| asked.method.as_str()).collect();
    assert_eq!(methods, ["GET", "PATCH", "PUT"]);
    assert_eq!(asked[1].header("content-range"), Some("600000-4999999"));
    assert_eq!(remembered(&shelf, &script.host()), None);
}

#[test]
fn a_push_leaves_the_session_of_another_one_alone() {
    let well = Arc::new(AtomicBool::new(true));
    let script = ailing(&well, SESSION);
    let shelf = Shelf::new();
    let repository = format!("{}/team/app", script.host());
    let claimed = shelf
        .store
        .claim_upload(&repository, &blob(LENGTH).1.digest);
    let other = claimed.expect("asked").expect("free");
    other.remember(&script.url("/other")).expect("kept");
    let remote = script.remote().remember_sessions(&shelf.store);
    upload(&remote).expect("stored");
    assert_eq!(methods(&script), ["POST", "PATCH", "PUT"]);
    assert_eq!(patches(&script)[0].target, SESSION);
    let theirs = other.find().expect("read");
    assert_eq!(theirs, Some(script.url("/other")));
}

#[test]
fn a_session_is_asked_only_where_a_fresh_one_may_be() {
    for url in [
        "file:///etc/passwd",
        "http://user:secret@$HOST/x",
        "ftp://$HOST/x",
    ] {
        let well = Arc::new(AtomicBool::new(true));
        let script = ailing(&well, SESSION);
        let shelf = Shelf::new();
        let repository = format!("{}/team/app", script.host());
        let digest = blob(LENGTH).1.digest;
        let claimed = shelf.store.claim_upload(&repository, &digest);
        let upload_row = claimed.expect("asked").expect("free");
        let url = url.replace("$HOST", &script.host());
        upload_row.remember(&url).expect("kept");
        drop(upload_row);
        let remote = script.remote().remember_sessions(&shelf.store);
        upload(&remote).expect("stored");
        assert_eq!(methods(&script), ["POST", "PATCH", "PUT"], "{url}");
    }
}

#[test]
fn a_session_on_another_host_gets_no_credentials() {
    let well = Arc::new(AtomicBool::new(false));
    let elsewhere = ailing(&well, SESSION);
    let there = elsewhere.url(SESSION);
    let script = Script::start(move |_, asked| match asked.header("authorization") {
        None => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
        Some(_) => at(&there, 202),
    });
    // The password of `user:secret`, for both hosts.
    let config = format!(
        r#"{{"auths":{{"{}":{{"auth":"dXNlcjpzZWNyZXQ="}},"{}":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#,
        script.host(),
        elsewhere.host()
    );
    let (_directory, options) = with_config(&config);
    let shelf = Shelf::new();
    let remote = || {
        let remote = script.remote_with(options.clone(), "team/app:1");
        remote.remember_sessions(&shelf.store)
    };
    upload(&remote()).expect_err("busy");
    well.store(true, Ordering::Relaxed);
    upload(&remote()).expect("stored");
    let asked = elsewhere.asked();
    let rest = patches(&elsewhere).pop().expect("a request");
    assert_eq!(rest.header("content-range"), Some("600000-4999999"));
    for asked in asked {
        assert_eq!(asked.header("authorization"), None, "{}", asked.line());
    }
    assert!(
        script
            .asked()
            .iter()
            .any(|a| a.header("authorization").is_some())
    );
}

const LARGE: usize = 8 << 20;
const BREAK: u64 = 3 << 20;
/// Heads of requests, and what was under way.
const SLACK: u64 = 64 << 10;

fn check_arrived(counter: &Counter, bytes: &[u8], passed: u64) {
    let size = u64::try_from(bytes.len()).expect("short");
    assert!(
        passed >= size && passed < size + SLACK,
        "{passed} of {size}"
    );
    let digest = oci::Digest::of(bytes);
    let stored = counter.shelf.store.read_blob(&digest, size).expect("there");
    assert!(stored == bytes);
}

#[test]
fn a_connection_that_breaks_costs_nothing_that_had_arrived() {
    let counter = Counter::open(Access::PullAndPush);
    let way = Brittle::new(&counter.host(), BREAK, |_| {});
    let (bytes, _) = blob(LARGE);
    upload_watched(&way.remote("app:1"), &bytes)
        .0
        .expect("stored");
    check_arrived(&counter, &bytes, way.passed());
}

#[test]
fn a_server_that_is_started_again_goes_on_with_what_it_had() {
    let counter = Arc::new(Mutex::new(Counter::open(Access::PullAndPush)));
    let host = counter.lock().expect("not poisoned").host();
    let again = counter.clone();
    let way = Brittle::new(&host, BREAK, move |server| {
        let mut counter = again.lock().expect("not poisoned");
        counter.restart();
        *server = counter.host().parse().expect("an address");
    });
    let (bytes, _) = blob(LARGE);
    upload_watched(&way.remote("app:1"), &bytes)
        .0
        .expect("stored");
    let counter = counter.lock().expect("not poisoned");
    check_arrived(&counter, &bytes, way.passed());
}

#[test]
fn pushes_of_one_blob_at_once_do_not_disturb_each_other() {
    let counter = Counter::open(Access::PullAndPush);
    let shelf = Shelf::new();
    let repository = format!("{}/app", counter.host());
    let (bytes, descriptor) = blob(LARGE);
    // A session to fight for.
    let begun = counter.ask("POST /v2/app/blobs/uploads/", &[], b"");
    let location = begun.header("location").expect("a session").to_owned();
    counter.ask(&format!("PATCH {location}"), &[], &bytes[..KEPT]);
    let claimed = shelf.store.claim_upload(&repository, &descriptor.digest);
    let url = format!("http://{}{location}", counter.host());
    let row = claimed.expect("asked").expect("free");
    row.remember(&url).expect("kept");
    drop(row);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            let remote = counter.remote("app:1").remember_sessions(&shelf.store);
            let bytes = &bytes;
            scope.spawn(move || upload_watched(&remote, bytes).0.expect("stored"));
        }
    });
    let row = shelf.store.claim_upload(&repository, &descriptor.digest);
    let row = row.expect("asked").expect("free");
    assert_eq!(row.find().expect("read"), None);
    for store in [&shelf.store, &counter.shelf.store] {
        let left = std::fs::read_dir(store.root().join("ingest")).expect("there");
        let left: Vec<_> = left.map(|entry| entry.expect("read").file_name()).collect();
        let left: Vec<_> = left
            .iter()
            .filter(|name| !name.to_string_lossy().ends_with(".upload"))
            .collect();
        assert_eq!(left, [""; 0]);
    }
}

#[test]
fn docker_registry_drops_what_broke_and_gets_it_again() {
    let registry = Distribution::start("");
    let way = Brittle::new(&registry.host, BREAK, |_| {});
    let (bytes, descriptor) = blob(LARGE);
    let remote = way.remote("team/app:1");
    upload_watched(&remote, &bytes).0.expect("stored");
    assert!(remote.has_blob(&descriptor, None).expect("an answer"));
    let size = u64::try_from(LARGE).expect("short");
    let passed = way.passed();
    let all = size + BREAK;
    assert!(passed >= all && passed < all + SLACK, "{passed}");
}

#[test]
fn docker_registry_goes_on_after_a_whole_piece() {
    let registry = Distribution::start("");
    let shelf = Shelf::new();
    let (bytes, descriptor) = blob(LARGE);
    let remote = registry.remote("team/app:1", impatient());
    let begun = ask(&registry.host, "POST /v2/team/app/blobs/uploads/", &[], b"");
    let path = |answer: &Answer| {
        let location = answer.header("location").expect("a session");
        location.replace(&format!("http://{}", registry.host), "")
    };
    let line = format!("PATCH {}", path(&begun));
    let kind = "Content-Type: application/octet-stream";
    let piece = ask(&registry.host, &line, &[kind], &bytes[..KEPT]);
    let repository = format!("{}/team/app", registry.host);
    let claimed = shelf.store.claim_upload(&repository, &descriptor.digest);
    let row = claimed.expect("asked").expect("free");
    let url = format!("http://{}{}", registry.host, path(&piece));
    row.remember(&url).expect("kept");
    drop(row);
    let (outcome, told) = upload_watched(&remote.clone().remember_sessions(&shelf.store), &bytes);
    outcome.expect("stored");
    assert_eq!(told.first(), Some(&u64::try_from(KEPT).expect("short")));
    assert!(remote.has_blob(&descriptor, None).expect("an answer"));
}
