//! Blobs in parts, tags in pages, files by URL.

use std::io::Read as _;

use oci::{Descriptor, MediaType};
use registry::Client;
use store::Source as _;

use crate::scripted::{Asked, Reply, Script, blob, impatient, manifest, told};

/// The offset that a request asks for.
fn offset(asked: &Asked) -> Option<usize> {
    let text = asked.header("range")?;
    text.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

fn partial(bytes: &[u8], offset: usize) -> Reply {
    let range = format!("bytes {offset}-{}/{}", bytes.len() - 1, bytes.len());
    Reply::new(206)
        .header("Content-Range", &range)
        .body(&bytes[offset..])
}

fn read(script: &Script, length: usize, from: u64) -> Vec<u8> {
    let (_, descriptor) = blob(length);
    let mut found = Vec::new();
    script
        .remote()
        .open_blob(&descriptor, from)
        .expect("opened")
        .read_to_end(&mut found)
        .expect("read");
    found
}

#[test]
fn a_blob_resumes_where_the_connection_broke() {
    let (bytes, _) = blob(5 << 20);
    let served = bytes.clone();
    let script = Script::start(move |_, asked| {
        let cut = 3 << 20;
        match offset(asked) {
            None => Reply::new(200).body(&served).cut(cut),
            Some(offset) => partial(&served, offset),
        }
    });
    assert_eq!(read(&script, 5 << 20, 0), bytes);
    let ranges: Vec<Option<usize>> = script.asked().iter().map(offset).collect();
    assert_eq!(ranges.len(), 2);
    assert!(ranges[1].is_some_and(|resumed| resumed > 0));
}

#[test]
fn progress_renews_patience() {
    let length = 10 << 20;
    let (bytes, _) = blob(length);
    let served = bytes.clone();
    let script = Script::start(move |_, asked| {
        let offset = offset(asked).unwrap_or(0);
        let cut = (2 << 20).min(length - offset);
        match offset {
            0 => Reply::new(200).body(&served).cut(cut),
            offset => partial(&served, offset).cut(cut),
        }
    });
    assert_eq!(read(&script, length, 0), bytes);
    assert!(script.asked().len() > 3);
}

#[test]
fn a_server_that_ignores_ranges_is_read_from_the_start() {
    let (bytes, _) = blob(300_000);
    let served = bytes.clone();
    let script = Script::start(move |number, _| {
        let reply = Reply::new(200).body(&served);
        if number == 0 {
            reply.cut(150_000)
        } else {
            reply
        }
    });
    assert_eq!(read(&script, 300_000, 100_000), bytes[100_000..]);
    assert_eq!(script.asked()[0].header("range"), Some("bytes=100000-"));
}

#[test]
fn a_blob_is_opened_in_the_middle_or_at_its_end() {
    let (bytes, _) = blob(1000);
    let served = bytes.clone();
    let script = Script::start(move |_, asked| partial(&served, offset(asked).unwrap_or(0)));
    assert_eq!(read(&script, 1000, 400), bytes[400..]);
    assert_eq!(read(&script, 1000, 1000), b"");
    assert_eq!(script.asked().len(), 1);
}

#[test]
fn an_empty_blob_is_not_asked_for() {
    let script = Script::in_turn(vec![Reply::new(500)]);
    assert_eq!(read(&script, 0, 0), b"");
    assert_eq!(script.asked().len(), 0);
}

#[test]
fn a_redirect_within_the_registry_keeps_path_and_range() {
    let (bytes, _) = blob(1000);
    let served = bytes.clone();
    let script = Script::start(move |_, asked| match asked.path() {
        "/moved" => partial(&served, offset(asked).unwrap_or(0)),
        _ => Reply::new(301).header("Location", "/moved?a=b"),
    });
    assert_eq!(read(&script, 1000, 10), bytes[10..]);
    assert_eq!(script.lines()[1], "GET /moved?a=b");
}

#[test]
fn head_tells_the_descriptor_without_a_pull() {
    let (bytes, digest) = manifest();
    let length = bytes.len().to_string();
    let known = Reply::manifest(b"")
        .header("Content-Length", &length)
        .header("Docker-Content-Digest", &digest.to_string());
    let script = Script::in_turn(vec![known, Reply::manifest(b"")]);
    let remote = script.remote();
    let found = remote.head().expect("an answer").expect("known");
    assert_eq!((found.digest, found.size.to_string()), (digest, length));
    assert_eq!(remote.head().expect("an answer"), None);
    assert_eq!(script.lines()[0], "HEAD /v2/team/app/manifests/1");
}

#[test]
fn tags_come_in_pages() {
    let script = Script::start(|_, asked| match asked.target.as_str() {
        "/v2/team/app/tags/list" => Reply::json(200, r#"{"name":"team/app","tags":["1","2"]}"#)
            .header("Link", "</v2/team/app/tags/list?last=2>; rel=\"next\""),
        _ => Reply::json(200, r#"{"name":"team/app","tags":["3"]}"#),
    });
    assert_eq!(script.remote().tags().expect("tags"), ["1", "2", "3"]);

    let script = Script::in_turn(vec![Reply::json(200, r#"{"tags":null}"#)]);
    assert_eq!(script.remote().tags().expect("tags"), [""; 0]);
}

/// CVE-2020-15157: the addresses that a manifest gives for a layer are not even asked.
#[test]
fn the_addresses_of_a_foreign_layer_are_never_asked() {
    let elsewhere = Script::in_turn(vec![Reply::new(200)]);
    let script = Script::start(|_, asked| match asked.path().contains("/blobs/") {
        true => Reply::new(404),
        false => Reply::new(500),
    });
    let mut layer = Descriptor::of(MediaType::OCI_LAYER, b"content");
    layer.urls = Some(vec![elsewhere.url("/layer")]);
    assert!(script.remote().open_blob(&layer, 0).is_err());
    assert_eq!(elsewhere.asked().len(), 0);
}

#[test]
fn pages_that_lead_in_a_circle_are_an_error() {
    let script = Script::start(|_, asked| {
        let next = match asked.target.ends_with("last=1") {
            true => "</v2/team/app/tags/list?last=2>; rel=\"next\"",
            false => "</v2/team/app/tags/list?last=1>; rel=\"next\"",
        };
        Reply::json(200, r#"{"tags":["1"]}"#).header("Link", next)
    });
    let error = script.remote().tags().expect_err("a circle");
    assert!(error.to_string().contains("pages have no end"), "{error}");
    assert!(script.asked().len() < 6);
}

#[test]
fn an_answer_with_headers_without_end_is_not_read() {
    let many = (0..20_000).fold(Reply::new(200), |reply, number| {
        reply.header(&format!("X-{number}"), "y")
    });
    let long = Reply::new(200).header("X", &"y".repeat(8 << 20));
    for reply in [many, long] {
        let script = Script::start(move |_, _| reply.clone());
        script.remote().head().expect_err("headers without end");
    }
}

#[test]
fn a_next_page_on_another_host_is_not_fetched() {
    let elsewhere = Script::in_turn(vec![Reply::new(200)]);
    let link = format!("<{}>; rel=\"next\"", elsewhere.url("/v2/"));
    let script =
        Script::start(move |_, _| Reply::json(200, r#"{"tags":["1"]}"#).header("Link", &link));
    assert!(script.remote().tags().is_err());
    assert_eq!(elsewhere.asked().len(), 0);
}

#[test]
fn a_file_is_downloaded_through_redirects() {
    let script = Script::start(|_, asked| match asked.path() {
        "/a" => Reply::new(302).header("Location", "/b"),
        _ => Reply::new(200)
            .header("Last-Modified", "Mon, 23 Nov 2026 12:00:00 GMT")
            .header("Content-Disposition", "attachment; filename=\"../x.tar\"")
            .body(b"content"),
    });
    let client = Client::new(impatient());
    let mut download = client.download(&script.url("/a")).expect("found");
    assert_eq!(download.size(), Some(7));
    assert_eq!(download.file_name(), Some("x.tar"));
    assert_eq!(
        download.last_modified(),
        Some("Mon, 23 Nov 2026 12:00:00 GMT")
    );
    let mut content = String::new();
    download.read_to_string(&mut content).expect("read");
    assert_eq!(content, "content");
}

#[test]
fn a_download_that_breaks_off_is_an_error() {
    let script = Script::in_turn(vec![Reply::new(200).body(&[7; 1000]).cut(10)]);
    let client = Client::new(impatient());
    let mut download = client.download(&script.url("/")).expect("found");
    assert!(download.read_to_end(&mut Vec::new()).is_err());
}

#[test]
fn a_download_that_is_refused_says_so() {
    let client = Client::new(impatient());
    let script = Script::in_turn(vec![Reply::new(404)]);
    let error = client.download(&script.url("/")).expect_err("missing");
    assert_eq!(
        told(&error),
        "received unexpected HTTP status: 404 Not Found"
    );
    for url in ["file:///etc/passwd", "ftp://x/", "x", "", "http://"] {
        assert!(client.download(url).is_err(), "{url}");
    }
}
