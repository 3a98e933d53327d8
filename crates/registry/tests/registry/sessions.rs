//! Sessions of our server: what comes in them stays, for its client and for nobody else.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use oci::Digest;
use registry::Access;

use crate::fixture::Counter;

fn begin(counter: &Counter) -> String {
    let answer = counter.ask("POST /v2/app/blobs/uploads/", &[], b"");
    answer.header("location").expect("a session").to_owned()
}

fn files(counter: &Counter) -> usize {
    let ingest = counter.shelf.store.root().join("ingest");
    std::fs::read_dir(ingest).expect("there").count()
}

#[test]
fn what_came_survives_a_restart_and_a_sweep() {
    let mut counter = Counter::open(Access::PullAndPush);
    let location = begin(&counter);
    counter.ask(&format!("PATCH {location}"), &[], b"hello ");
    counter.restart();
    counter.shelf.store.sweep().expect("swept");
    let state = counter.ask(&format!("GET {location}"), &[], b"");
    assert_eq!((state.status, state.header("range")), (204, Some("0-5")));
    let gap = counter.ask(
        &format!("PATCH {location}"),
        &["Content-Range: 7-9"],
        b"xyz",
    );
    assert_eq!((gap.status, gap.header("range")), (416, Some("0-5")));
    let range = "Content-Range: 6-10";
    let patched = counter.ask(&format!("PATCH {location}"), &[range], b"world");
    assert_eq!(patched.header("range"), Some("0-10"));
    counter.restart();
    let digest = Digest::of(b"hello world");
    let answer = counter.ask(&format!("PUT {location}?digest={digest}"), &[], b"");
    assert_eq!(answer.status, 201);
    assert_eq!(files(&counter), 0);
    let gone = counter.ask(&format!("GET {location}"), &[], b"");
    assert_eq!(gone.code(), "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn a_session_is_found_by_its_id_in_its_repository_only() {
    let mut counter = Counter::open(Access::PullAndPush);
    let location = begin(&counter);
    counter.ask(&format!("PATCH {location}"), &[], b"hello");
    let file = std::fs::read_dir(counter.shelf.store.root().join("ingest"));
    let file = file.expect("there").next().expect("a file").expect("read");
    let file = file.file_name().into_string().expect("text");
    let id = location.rsplit('/').next().expect("an id").to_owned();
    let hidden = file.strip_prefix("upload-").expect("a prefix");
    let upper = id.to_uppercase();
    for restarted in [false, true] {
        if restarted {
            counter.restart();
        }
        for name in [
            file.as_str(),
            hidden,
            hidden.trim_end_matches(".blob"),
            &upper,
            &id[1..],
            "..%2F..%2Fdb.sqlite",
            "%2e%2e",
            "..",
            "*",
            "00000000000000000000000000000000",
        ] {
            for method in ["GET", "PATCH", "DELETE"] {
                let line = format!("{method} /v2/app/blobs/uploads/{name}");
                let answer = counter.ask(&line, &[], b"x");
                assert_eq!((answer.status, name), (404, name), "{method}");
            }
        }
        let line = format!("GET /v2/other/blobs/uploads/{id}");
        assert_eq!(counter.ask(&line, &[], b"").status, 404);
    }
    let state = counter.ask(&format!("GET {location}"), &[], b"");
    assert_eq!(state.header("range"), Some("0-4"));
}

#[test]
fn wrong_content_and_cancelled_uploads_leave_nothing_after_a_restart() {
    let mut counter = Counter::open(Access::PullAndPush);
    let (wrong, cancelled) = (begin(&counter), begin(&counter));
    for location in [&wrong, &cancelled] {
        counter.ask(&format!("PATCH {location}"), &[], b"hello");
    }
    counter.restart();
    assert_eq!(files(&counter), 2);
    let digest = Digest::of(b"other");
    let answer = counter.ask(&format!("PUT {wrong}?digest={digest}"), &[], b"");
    assert_eq!(answer.code(), "DIGEST_INVALID");
    let answer = counter.ask(&format!("DELETE {cancelled}"), &[], b"");
    assert_eq!(answer.status, 204);
    assert_eq!(files(&counter), 0);
}

#[test]
fn a_whole_blob_that_breaks_off_leaves_nothing() {
    let counter = Counter::open(Access::PullAndPush);
    let location = begin(&counter);
    let digest = Digest::of(b"hello world");
    counter.break_off(&format!("PUT {location}?digest={digest}"), 1000, b"hello ");
    let state = format!("GET {location}");
    while counter.ask(&state, &[], b"").status != 404 {}
    assert_eq!(files(&counter), 0);
}

/// Begins a request whose body goes on and on, and waits until the server has a part.
fn hanging(counter: &Counter, location: &str) -> TcpStream {
    let mut connection = TcpStream::connect(counter.host()).expect("connected");
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n");
    connection.write_all(head.as_bytes()).expect("sent");
    connection.write_all(&vec![b'x'; 1 << 20]).expect("sent");
    while files(counter) == 0 {}
    connection
}

#[test]
fn a_client_that_says_where_it_goes_on_ends_its_connection_of_before() {
    let counter = Counter::open(Access::PullAndPush);
    let location = begin(&counter);
    let mut before = hanging(&counter, &location);
    let patch = format!("PATCH {location}");
    // Where it is now is not known from outside; the refusal says it.
    let refused = counter.ask(&patch, &["Content-Range: 1-1"], b"x");
    assert_eq!(refused.status, 416);
    let size = refused
        .header("range")
        .expect("told")
        .trim_start_matches("0-");
    let size: usize = size.parse::<usize>().expect("a number") + 1;
    let mut answer = String::new();
    before.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let range = format!("Content-Range: {size}-{size}");
    assert_eq!(counter.ask(&patch, &[&range], b"y").status, 202);
    let bytes = [vec![b'x'; size], b"y".to_vec()].concat();
    let digest = Digest::of(&bytes);
    let put = counter.ask(&format!("PUT {location}?digest={digest}"), &[], b"");
    assert_eq!(put.status, 201);
}

#[test]
fn a_session_tells_how_far_it_is_while_it_is_written_to() {
    let counter = Counter::open(Access::PullAndPush);
    let location = begin(&counter);
    let before = hanging(&counter, &location);
    let state = counter.ask(&format!("GET {location}"), &[], b"");
    assert_eq!(state.status, 204);
    let cancelled = counter.ask(&format!("DELETE {location}"), &[], b"");
    assert_eq!(cancelled.status, 204);
    drop(before);
    assert_eq!(files(&counter), 0);
}
