//! Servers that refuse, are busy, break off, fall silent or lie.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use oci::{Digest, MediaType};
use registry::{Client, ClientOptions, Remote, Retry, Timeouts};
use store::{Fault, Source as _};

use crate::scripted::{Reply, Script, blob, impatient, manifest, told};

fn refusal(replies: Vec<Reply>) -> (Script, String) {
    let script = Script::in_turn(replies);
    let error = script.remote().resolve().expect_err("refused");
    (script, told(&error))
}

#[test]
fn a_missing_tag_reads_as_docker_says_it() {
    let (script, text) = refusal(vec![Reply::error(
        404,
        "MANIFEST_UNKNOWN",
        "manifest unknown",
    )]);
    let name = format!("{}/team/app:1", script.host());
    assert_eq!(
        text,
        format!("manifest for {name} not found: manifest unknown: manifest unknown")
    );
    let (_, text) = refusal(vec![Reply::new(404)]);
    assert!(text.ends_with("not found: manifest unknown: manifest unknown"));
    let (script, text) = refusal(vec![Reply::error(404, "NAME_UNKNOWN", "no such thing")]);
    assert_eq!(
        text,
        format!(
            "repository {}/team/app not found: name unknown: no such thing",
            script.host()
        )
    );
    let (_, text) = refusal(vec![Reply::error(403, "DENIED", "go away")]);
    assert!(text.starts_with("pull access denied for "), "{text}");
    assert!(text.ends_with("'docker login': denied: go away"), "{text}");
}

#[test]
fn a_busy_registry_is_asked_again_when_it_says() {
    let (bytes, _) = manifest();
    for busy in [
        Reply::new(429).header("Retry-After", "0"),
        Reply::new(503).header("Retry-After", "0"),
        Reply::new(503),
        Reply::new(500),
        Reply::new(502),
        Reply::new(504),
        Reply::new(200).header("Content-Length", "5"),
    ] {
        let script = Script::in_turn(vec![busy.clone(), busy, Reply::manifest(&bytes)]);
        let outcome = script.remote().resolve();
        match script.asked().len() {
            3 => assert_eq!(outcome.expect("a manifest").bytes, bytes),
            // A body that breaks off is not a busy server; manifests are not resumed.
            1 => assert!(told(&outcome.expect_err("cut")).contains("connection broken")),
            count => panic!("{count} requests"),
        }
    }
}

#[test]
fn patience_has_an_end() {
    let limit = Reply::error(
        429,
        "TOOMANYREQUESTS",
        "You have reached your unauthenticated pull rate limit.",
    );
    let (script, text) = refusal(vec![limit.clone()]);
    assert_eq!(
        text,
        "toomanyrequests: You have reached your unauthenticated pull rate limit."
    );
    assert_eq!(script.asked().len(), 3);

    let (script, _) = refusal(vec![limit.header("Retry-After", "21600")]);
    assert_eq!(script.asked().len(), 1);

    let (script, text) = refusal(vec![Reply::new(500).body(b"<html>oops</html>")]);
    assert_eq!(
        text,
        "received unexpected HTTP status: 500 Internal Server Error"
    );
    assert_eq!(script.asked().len(), 3);
}

#[test]
fn nothing_listening_reads_as_docker_says_it() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = free.local_addr().expect("bound").to_string();
    drop(free);
    let name = oci::Reference::parse(&format!("{host}/a:1")).expect("a name");
    let remote = Client::new(impatient()).repository(&name).expect("valid");
    let error = remote.resolve().expect_err("nobody there");
    assert_eq!(
        told(&error),
        format!("Get \"http://{host}/v2/\": dial tcp {host}: connect: connection refused")
    );
}

#[test]
fn a_server_that_does_not_speak_tls_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://{}/", listener.local_addr().expect("bound"));
    let serving = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("a client");
        connection
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .expect("sent");
        drop(connection.read_to_end(&mut Vec::new()));
    });
    let error = Client::new(impatient())
        .download(&url)
        .expect_err("no TLS there");
    assert_eq!(
        told(&error),
        format!("Get \"{url}\": http: server gave HTTP response to HTTPS client")
    );
    serving.join().expect("served");
}

#[test]
fn a_silent_server_is_given_up() {
    let script = Script::in_turn(vec![Reply::silent()]);
    let options = ClientOptions {
        timeouts: Timeouts {
            stall: Duration::from_millis(30),
            ..Timeouts::default()
        },
        retry: Retry {
            attempts: 2,
            ..impatient().retry
        },
        ..impatient()
    };
    let error = script
        .remote_with(options, "team/app:1")
        .resolve()
        .expect_err("silence");
    assert!(told(&error).contains("no data for"), "{}", told(&error));
    assert_eq!(script.asked().len(), 2);
}

#[test]
fn a_manifest_without_end_is_not_read() {
    let endless = vec![b' '; (4 << 20) + 1];
    for reply in [
        Reply::manifest(&endless),
        Reply::manifest(b"x").header("Content-Length", "99999999999999"),
        Reply::new(200)
            .header("Transfer-Encoding", "chunked")
            .body(format!("{:x}\r\n{}", endless.len(), " ".repeat(endless.len())).as_bytes()),
    ] {
        let (_, text) = refusal(vec![reply]);
        assert!(text.ends_with("longer than 4194304 bytes"), "{text}");
    }
}

#[test]
fn an_error_document_without_end_is_not_read() {
    let (_, text) = refusal(vec![Reply::new(400).body(&vec![b'x'; 1 << 20])]);
    assert_eq!(text, "received unexpected HTTP status: 400 Bad Request");
}

#[test]
fn a_manifest_that_is_not_what_its_digest_says_is_refused() {
    let (bytes, digest) = manifest();
    let wrong = Digest::of(b"other");
    let script = Script::in_turn(vec![Reply::manifest(&bytes)]);
    let by_digest = script.remote_with(impatient(), &format!("team/app@{wrong}"));
    let error = by_digest.resolve().expect_err("mismatch");
    assert_eq!(error.fault(), Fault::Corrupt);
    assert!(told(&error).contains(&format!("has digest {digest}, expected {wrong}")));

    let right = script.remote_with(impatient(), &format!("team/app@{digest}"));
    let mut descriptor = right.resolve().expect("a manifest").descriptor;
    assert_eq!(right.manifest(&descriptor).expect("the same"), bytes);
    descriptor.size += 1;
    assert_eq!(
        right.manifest(&descriptor).expect_err("longer").fault(),
        Fault::Corrupt
    );

    let (_, text) = refusal(vec![
        Reply::manifest(&bytes).header("Docker-Content-Digest", &wrong.to_string()),
    ]);
    assert!(text.contains("expected sha256:"), "{text}");
}

#[test]
fn the_type_of_a_manifest_is_the_servers_or_its_own() {
    let (bytes, _) = manifest();
    let check = |reply: Reply, expected: &str| {
        let script = Script::in_turn(vec![reply]);
        let found = script.remote().resolve().expect("a manifest");
        assert_eq!(found.descriptor.media_type.0, expected);
    };
    let typed = |kind: &str| Reply::new(200).header("Content-Type", kind);
    check(
        typed("application/vnd.docker.distribution.manifest.v2+json; charset=utf-8").body(&bytes),
        MediaType::DOCKER_MANIFEST,
    );
    check(
        typed("application/json").body(&bytes),
        MediaType::OCI_MANIFEST,
    );
    check(Reply::new(200).body(&bytes), MediaType::OCI_MANIFEST);
    check(
        typed("text/plain").body(br#"{"schemaVersion":2,"manifests":[]}"#),
        MediaType::OCI_INDEX,
    );
    check(
        typed("text/plain")
            .body(br#"{"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json"}"#),
        MediaType::DOCKER_MANIFEST_LIST,
    );
}

fn read_blob(remote: &Remote, offset: u64, length: usize) -> Result<Vec<u8>, String> {
    let (_, descriptor) = blob(length);
    let mut reader = remote
        .open_blob(&descriptor, offset)
        .map_err(|error| told(&error))?;
    let mut bytes = Vec::new();
    match reader.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(told(&error)),
    }
}

#[test]
fn a_redirect_goes_to_http_and_not_in_circles() {
    for (location, expected) in [
        ("file:///etc/passwd", "unusable location"),
        ("/again", "more than 10 redirects"),
        ("http://user:secret@127.0.0.1/", "unusable location"),
    ] {
        let script = Script::in_turn(vec![Reply::new(302).header("Location", location)]);
        let error = read_blob(&script.remote(), 0, 10).expect_err("refused");
        assert!(error.contains(expected), "{error}");
    }
    let script = Script::in_turn(vec![Reply::new(302)]);
    let error = read_blob(&script.remote(), 0, 10).expect_err("refused");
    assert!(error.contains("header `Location`"), "{error}");
}

#[test]
fn a_blob_of_another_length_is_refused_before_it_is_read() {
    for length in ["9", "11", "99999999999999"] {
        let reply = Reply::new(200)
            .header("Content-Length", length)
            .body(&[0; 9]);
        let script = Script::in_turn(vec![reply]);
        let error = read_blob(&script.remote(), 0, 10).expect_err("refused");
        assert!(
            error.contains(&format!("has {length} bytes, expected 10")),
            "{error}"
        );
    }
}

#[test]
fn a_range_other_than_asked_for_is_refused() {
    for (range, expected) in [
        ("bytes 3-9/10", "sent bytes from 3, expected from 5"),
        ("bytes 5-8/9", "has 9 bytes, expected 10"),
        ("bytes x", "header `Content-Range`"),
    ] {
        let reply = Reply::new(206).header("Content-Range", range).body(&[0; 5]);
        let script = Script::in_turn(vec![reply]);
        let error = read_blob(&script.remote(), 5, 10).expect_err("refused");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_connection_that_breaks_for_ever_is_an_error_not_an_end() {
    let (bytes, _) = blob(1000);
    let script = Script::start(move |_, asked| {
        let offset = asked
            .header("range")
            .and_then(|text| {
                text.trim_start_matches("bytes=")
                    .trim_end_matches('-')
                    .parse()
                    .ok()
            })
            .unwrap_or(0);
        match offset {
            0 => Reply::new(200).body(&bytes).cut(10),
            _ => Reply::new(206)
                .header("Content-Range", &format!("bytes {offset}-999/1000"))
                .body(&bytes[offset..])
                .cut(0),
        }
    });
    let error = read_blob(&script.remote(), 0, 1000).expect_err("cut");
    assert!(error.contains("connection broken"), "{error}");
    assert_eq!(script.asked().len(), 3);
}

#[test]
fn a_missing_blob_is_named_with_the_registrys_words() {
    let script = Script::in_turn(vec![Reply::error(
        404,
        "BLOB_UNKNOWN",
        "blob unknown to registry",
    )]);
    let error = read_blob(&script.remote(), 0, 10).expect_err("missing");
    let (blob, words) = error.split_once(": ").expect("two parts");
    assert!(blob.starts_with("blob sha256:"), "{error}");
    assert_eq!(words, "blob unknown: blob unknown to registry");
}

#[test]
fn a_server_that_wants_tls_is_told_with_what_to_set() {
    let go = "Client sent an HTTP request to an HTTPS server.\n";
    let nginx = "<html>The plain HTTP request was sent to HTTPS port</html>";
    for text in [go, nginx] {
        let (script, said) = refusal(vec![Reply::new(400).body(text.as_bytes())]);
        let host = script.host();
        assert_eq!(
            said,
            format!(
                "Get \"http://{host}/v2/team/app/manifests/1\": the server wants HTTPS: set `http = false` for `{host}` in `registries.toml`"
            )
        );
    }
    let (_, said) = refusal(vec![Reply::new(400).body(b"bad")]);
    assert!(!said.contains("HTTPS"), "{said}");
}
