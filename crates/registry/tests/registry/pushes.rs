//! Uploads, as one registry or another wants them.

use std::io::{Cursor, Read};
use std::sync::Mutex;

use oci::{Digest, MediaType};
use registry::Remote;
use store::{BlobOutcome, ExchangeError, Target as _};

use crate::scripted::{Asked, Reply, Script, blob, impatient, manifest, told};

const SESSION: &str = "/v2/team/app/blobs/uploads/7?state=a%2Fb";

fn upload(remote: &Remote, length: usize) -> Result<BlobOutcome, ExchangeError> {
    let (bytes, descriptor) = blob(length);
    let open = |offset| {
        let mut content = Cursor::new(bytes.clone());
        content.set_position(offset);
        Ok(Box::new(content) as Box<dyn Read + Send>)
    };
    remote.put_blob(&descriptor, None, &open, &|_| {})
}

fn begun() -> Reply {
    Reply::new(202).header("Location", SESSION)
}

fn bodies(script: &Script, method: &str) -> Vec<Asked> {
    let mut asked = script.asked();
    asked.retain(|asked| asked.method == method);
    asked
}

#[test]
fn a_blob_is_sent_in_one_piece() {
    for length in [0, 1, 262_144, 4 << 20] {
        let script = Script::start(|_, asked| match asked.method.as_str() {
            "POST" => begun(),
            _ => Reply::new(201),
        });
        let (bytes, descriptor) = blob(length);
        let outcome = upload(&script.remote(), length).expect("stored");
        assert_eq!(outcome, BlobOutcome::Stored);
        let hex = descriptor.digest.hex();
        assert_eq!(
            script.lines(),
            [
                "POST /v2/team/app/blobs/uploads/".to_owned(),
                format!("PUT {SESSION}&digest=sha256%3A{hex}"),
            ]
        );
        let put = &script.asked()[1];
        assert_eq!(put.body, bytes);
        assert_eq!(
            put.header("content-length"),
            Some(length.to_string().as_str())
        );
        assert_eq!(put.header("content-type"), Some("application/octet-stream"));
    }
}

#[test]
fn progress_counts_from_the_start_to_the_size() {
    let script = Script::start(|_, asked| match asked.method.as_str() {
        "POST" => begun(),
        _ => Reply::new(201),
    });
    let (bytes, descriptor) = blob(600_000);
    let open = |_| Ok(Box::new(Cursor::new(bytes.clone())) as Box<dyn Read + Send>);
    let told = Mutex::new(Vec::new());
    script
        .remote()
        .put_blob(&descriptor, None, &open, &|done| {
            told.lock().expect("not poisoned").push(done);
        })
        .expect("stored");
    let told = told.into_inner().expect("not poisoned");
    assert!(told.is_sorted());
    assert_eq!(told.last(), Some(&600_000));
}

#[test]
fn a_registry_that_refuses_large_bodies_gets_chunks() {
    let script = Script::start(|_, asked| match asked.method.as_str() {
        "POST" => begun().header("OCI-Chunk-Min-Length", "20000000"),
        "PUT" if asked.body.is_empty() => Reply::new(201),
        "PATCH" if asked.body.len() <= 20_000_000 => {
            let range = asked.header("content-range").expect("a range");
            Reply::new(202)
                .header("Location", &format!("/next?after={range}"))
                .header(
                    "Range",
                    &format!("0-{}", range.split('-').next_back().expect("an end")),
                )
        }
        _ => Reply::new(413),
    });
    let remote = script.remote();
    upload(&remote, 45_000_000).expect("stored");
    let (bytes, _) = blob(45_000_000);
    let patches = bodies(&script, "PATCH").split_off(1);
    let ranges: Vec<_> = patches
        .iter()
        .filter_map(|asked| asked.header("content-range"))
        .collect();
    assert_eq!(
        ranges,
        ["0-19999999", "20000000-39999999", "40000000-44999999"]
    );
    let sent: Vec<u8> = patches
        .iter()
        .flat_map(|asked| asked.body.clone())
        .collect();
    assert_eq!(sent, bytes);
    assert!(
        script
            .lines()
            .last()
            .expect("a request")
            .starts_with("PUT /next?after=40000000-44999999&digest=")
    );

    let before = script.asked().len();
    upload(&remote, 10).expect("stored");
    let lines = script.lines().split_off(before);
    assert!(
        lines[1].starts_with("PATCH"),
        "what was learnt is kept: {lines:?}"
    );
}

#[test]
fn a_registry_that_lost_a_chunk_gets_the_blob_again() {
    let script = Script::start(|number, asked| match asked.method.as_str() {
        "POST" => begun(),
        "PATCH" => Reply::new(202)
            .header("Location", SESSION)
            .header("Range", if number < 4 { "0-3" } else { "0-9" }),
        _ if asked.body.is_empty() => Reply::new(201),
        _ => Reply::new(413),
    });
    upload(&script.remote(), 10).expect("stored");
    assert_eq!(bodies(&script, "PATCH").len(), 2);
}

#[test]
fn an_upload_that_fails_for_the_moment_starts_again() {
    for first in [
        Reply::new(500),
        Reply::new(503),
        Reply::error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown"),
        Reply::new(429),
    ] {
        let script = Script::start(move |number, asked| match asked.method.as_str() {
            "POST" => begun(),
            _ if number == 1 => first.clone(),
            _ => Reply::new(201),
        });
        upload(&script.remote(), 300_000).expect("stored");
        let puts = bodies(&script, "PUT");
        assert_eq!(puts.len(), 2);
        assert_eq!(puts[0].body, puts[1].body);
    }
}

#[test]
fn a_registry_that_is_busy_is_asked_no_more_often_than_that() {
    // Three attempts, and no pause longer than a second.
    for method in ["POST", "PUT"] {
        for (pause, expected) in [("0", 3), ("2", 1)] {
            let busy = Reply::new(429).header("Retry-After", pause);
            let script = Script::start(move |_, asked| match asked.method.as_str() {
                asked if asked == method => busy.clone(),
                _ => begun(),
            });
            upload(&script.remote(), 10).expect_err("busy");
            let asked = bodies(&script, method).len();
            assert_eq!(asked, expected, "{method}, Retry-After: {pause}");
        }
    }
}

#[test]
fn an_upload_that_is_refused_is_not_repeated() {
    let script = Script::start(|_, asked| match asked.method.as_str() {
        "POST" => begun(),
        _ => Reply::error(400, "DIGEST_INVALID", "digest differs"),
    });
    let error = upload(&script.remote(), 10).expect_err("refused");
    assert_eq!(told(&error), "digest invalid: digest differs");
    assert_eq!(script.asked().len(), 2);

    let script = Script::in_turn(vec![Reply::error(403, "DENIED", "read only")]);
    let error = upload(&script.remote(), 10).expect_err("refused");
    assert_eq!(told(&error), "denied: read only");
    assert_eq!(script.asked().len(), 1);
}

#[test]
fn a_session_without_a_usable_location_is_refused() {
    for reply in [
        Reply::new(202),
        Reply::new(202).header("Location", "file:///x"),
        Reply::new(202).header("Location", "http://"),
    ] {
        let script = Script::in_turn(vec![reply]);
        let error = told(&upload(&script.remote(), 10).expect_err("refused"));
        assert!(error.starts_with("invalid answer to Post"), "{error}");
    }
}

#[test]
fn content_that_cannot_be_read_is_named() {
    let script = Script::start(|_, asked| match asked.method.as_str() {
        "POST" => begun(),
        _ => Reply::new(201),
    });
    let (bytes, descriptor) = blob(10);
    let short = |_| Ok(Box::new(Cursor::new(bytes[..5].to_vec())) as Box<dyn Read + Send>);
    let error = script
        .remote()
        .put_blob(&descriptor, None, &short, &|_| {})
        .expect_err("too short");
    assert!(told(&error).starts_with(&format!("failed to read the blob {}", descriptor.digest)));
}

#[test]
fn a_blob_is_there_when_its_length_is_right() {
    let (_, descriptor) = blob(10);
    for (reply, expected) in [
        (Reply::new(200).header("Content-Length", "10"), true),
        (Reply::new(200).header("Content-Length", "9"), false),
        (Reply::new(404), false),
    ] {
        let script = Script::in_turn(vec![reply]);
        let found = script.remote().has_blob(&descriptor, None);
        assert_eq!(found.expect("an answer"), expected);
    }
    let script = Script::in_turn(vec![Reply::new(403)]);
    assert!(script.remote().has_blob(&descriptor, None).is_err());
}

#[test]
fn a_manifest_goes_to_its_tag_or_digest() {
    let (bytes, digest) = manifest();
    let script = Script::in_turn(vec![Reply::new(201)]);
    let kind = MediaType::from(MediaType::OCI_MANIFEST);
    let by_tag = script.remote();
    assert_eq!(by_tag.put_manifest(&kind, &bytes).expect("stored"), digest);
    let by_digest = script.remote_with(impatient(), &format!("team/app@{digest}"));
    by_digest.put_manifest(&kind, &bytes).expect("stored");
    assert_eq!(
        script.lines(),
        [
            "PUT /v2/team/app/manifests/1".to_owned(),
            format!("PUT /v2/team/app/manifests/{digest}"),
        ]
    );
    let put = &script.asked()[0];
    assert_eq!(put.body, bytes);
    assert_eq!(put.header("content-type"), Some(MediaType::OCI_MANIFEST));
}

#[test]
fn a_manifest_stored_under_another_digest_is_an_error() {
    let (bytes, _) = manifest();
    let other = Digest::of(b"other").to_string();
    let script = Script::in_turn(vec![
        Reply::new(201).header("Docker-Content-Digest", &other),
    ]);
    let kind = MediaType::from(MediaType::OCI_MANIFEST);
    let error = script
        .remote()
        .put_manifest(&kind, &bytes)
        .expect_err("stored wrongly");
    assert!(told(&error).contains(&format!("stored as {other}")));
}

#[test]
fn a_refusal_in_the_middle_of_an_upload_is_heard() {
    let script = Script::hasty(|_, asked| match asked.method.as_str() {
        "POST" => begun(),
        _ => Reply::error(403, "DENIED", "quota exceeded"),
    });
    let error = upload(&script.remote(), 30_000_000).expect_err("refused");
    assert_eq!(told(&error), "denied: quota exceeded");
    assert_eq!(script.asked().len(), 2);

    let script = Script::hasty(|_, asked| match asked.method.as_str() {
        "POST" => begun(),
        _ if asked.header("content-length") == Some("30000000") => Reply::new(413),
        "PATCH" => Reply::new(202).header("Location", SESSION),
        _ => Reply::new(201),
    });
    upload(&script.remote(), 30_000_000).expect("stored in chunks");
}
