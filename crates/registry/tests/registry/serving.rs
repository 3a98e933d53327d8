//! Our server: what it answers, request by request.

use oci::{Descriptor, Digest, ImageId, MediaType};
use registry::Access;
use store::Source as _;

use crate::fixture::{Answer, Counter, tar};

fn layer_of(counter: &Counter, id: &ImageId) -> Digest {
    let record = counter.shelf.store.image(id).expect("read").expect("there");
    *record.layers[0].digest()
}

/// Begins an upload; returns its path.
fn begin(counter: &Counter) -> String {
    let answer = counter.ask("POST /v2/app/blobs/uploads/", &[], b"");
    assert_eq!(answer.status, 202);
    answer.header("location").expect("a location").to_owned()
}

fn upload(counter: &Counter, bytes: &[u8]) -> Answer {
    let location = begin(counter);
    let digest = Digest::of(bytes);
    counter.ask(&format!("PUT {location}?digest={digest}"), &[], bytes)
}

#[test]
fn it_says_that_it_is_a_registry() {
    let counter = Counter::open(Access::PullOnly);
    let answer = counter.ask("GET /v2/", &[], b"");
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"{}"[..]));
    assert_eq!(
        answer.header("docker-distribution-api-version"),
        Some("registry/2.0")
    );
    assert_eq!(counter.ask("GET /", &[], b"").status, 404);
    assert_eq!(
        counter.ask("GET /v2/../../etc/passwd", &[], b"").status,
        404
    );
}

#[test]
fn an_image_that_was_built_here_is_served_with_uncompressed_layers() {
    let counter = Counter::open(Access::PullOnly);
    let id = counter.shelf.image("app:1", &["hello"]);
    let by_tag = counter.ask("GET /v2/app/manifests/1", &[], b"");
    assert_eq!(by_tag.status, 200);
    assert_eq!(by_tag.header("content-type"), Some(MediaType::OCI_MANIFEST));
    let digest = Digest::of(&by_tag.body).to_string();
    assert_eq!(
        by_tag.header("docker-content-digest"),
        Some(digest.as_str())
    );

    let by_digest = counter.ask(&format!("GET /v2/app/manifests/{digest}"), &[], b"");
    assert_eq!(by_digest.body, by_tag.body);
    let head = counter.ask("HEAD /v2/library/app/manifests/1", &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    let length = by_tag.body.len().to_string();
    assert_eq!(head.header("content-length"), Some(length.as_str()));

    let layer = layer_of(&counter, &id);
    let blob = counter.ask(&format!("GET /v2/app/blobs/{layer}"), &[], b"");
    assert_eq!(blob.body, tar("hello"));
    let config = id.digest();
    let blob = counter.ask(&format!("GET /v2/app/blobs/{config}"), &[], b"");
    assert_eq!(Digest::of(&blob.body), *config);
}

#[test]
fn a_blob_is_served_in_parts() {
    let counter = Counter::open(Access::PullOnly);
    let content = "x".repeat(1 << 20);
    let id = counter.shelf.image("app:1", &[&content]);
    let bytes = tar(&content);
    let line = format!("/v2/app/blobs/{}", layer_of(&counter, &id));
    let total = bytes.len();
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=500-", 500, total - 1),
        ("bytes=300000-700000", 300_000, 700_000),
        ("bytes=-10", total - 10, total - 1),
    ] {
        let answer = counter.ask(&format!("GET {line}"), &[&format!("Range: {range}")], b"");
        assert_eq!(answer.status, 206, "{range}");
        assert_eq!(answer.body, bytes[first..=last], "{range}");
        let told = format!("bytes {first}-{last}/{total}");
        assert_eq!(answer.header("content-range"), Some(told.as_str()));
    }
    let beyond = format!("Range: bytes={total}-");
    let answer = counter.ask(&format!("GET {line}"), &[&beyond], b"");
    assert_eq!(answer.status, 416);
    let told = format!("bytes */{total}");
    assert_eq!(answer.header("content-range"), Some(told.as_str()));
    for ignored in [
        "Range: bytes=5-1",
        "Range: bytes=0-1,5-6",
        "Range: lines=1-2",
    ] {
        let answer = counter.ask(&format!("GET {line}"), &[ignored], b"");
        assert_eq!((answer.status, answer.body.len()), (200, total));
    }
    let head = counter.ask(&format!("HEAD {line}"), &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    let length = total.to_string();
    assert_eq!(head.header("content-length"), Some(length.as_str()));
}

#[test]
fn what_is_missing_is_named_by_its_code() {
    let counter = Counter::open(Access::PullOnly);
    counter.shelf.image("app:1", &["hello"]);
    let digest = Digest::of(b"missing");
    for (line, status, code) in [
        (
            "GET /v2/app/manifests/2".to_owned(),
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            "GET /v2/none/manifests/1".to_owned(),
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            format!("GET /v2/app/manifests/{digest}"),
            404,
            "MANIFEST_UNKNOWN",
        ),
        (format!("GET /v2/app/blobs/{digest}"), 404, "BLOB_UNKNOWN"),
        (
            "GET /v2/app/blobs/sha256:x".to_owned(),
            400,
            "DIGEST_INVALID",
        ),
        ("GET /v2/APP/manifests/1".to_owned(), 400, "NAME_INVALID"),
        ("GET /v2/none/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        (
            "GET /v2/app/blobs/uploads/x".to_owned(),
            404,
            "BLOB_UPLOAD_UNKNOWN",
        ),
    ] {
        let answer = counter.ask(&line, &[], b"");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{line}"
        );
    }
}

#[test]
fn a_layer_is_not_a_manifest() {
    let counter = Counter::open(Access::PullOnly);
    let id = counter.shelf.image("app:1", &["hello"]);
    let layer = layer_of(&counter, &id);
    let answer = counter.ask(&format!("GET /v2/app/manifests/{layer}"), &[], b"");
    assert_eq!(answer.code(), "MANIFEST_UNKNOWN");
}

#[test]
fn lists_come_in_pages() {
    let counter = Counter::open(Access::PullOnly);
    for name in [
        "app:1",
        "app:2",
        "app:3",
        "quay.io/b/c:1",
        "127.0.0.1:5000/x:1",
    ] {
        counter.shelf.image(name, &["hello"]);
    }
    let catalog = counter.ask("GET /v2/_catalog", &[], b"");
    assert_eq!(
        String::from_utf8_lossy(&catalog.body),
        r#"{"repositories":["app","quay.io/b/c"]}"#
    );
    let page = counter.ask("GET /v2/app/tags/list?n=2", &[], b"");
    assert_eq!(
        String::from_utf8_lossy(&page.body),
        r#"{"name":"app","tags":["1","2"]}"#
    );
    assert_eq!(
        page.header("link"),
        Some("</v2/app/tags/list?n=2&last=2>; rel=\"next\"")
    );
    let page = counter.ask("GET /v2/app/tags/list?n=2&last=2", &[], b"");
    assert_eq!(
        String::from_utf8_lossy(&page.body),
        r#"{"name":"app","tags":["3"]}"#
    );
    assert_eq!(page.header("link"), None);
    assert_eq!(counter.remote("app").tags().expect("tags"), ["1", "2", "3"]);
    let none = counter.ask("GET /v2/app/tags/list?n=0", &[], b"");
    assert_eq!(
        String::from_utf8_lossy(&none.body),
        r#"{"name":"app","tags":[]}"#
    );
}

#[test]
fn referrers_are_not_supported_so_that_clients_use_tags() {
    let counter = Counter::open(Access::PullOnly);
    let digest = Digest::of(b"");
    let answer = counter.ask(&format!("GET /v2/app/referrers/{digest}"), &[], b"");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (404, "UNSUPPORTED")
    );
}

#[test]
fn a_registry_to_pull_from_refuses_every_write() {
    let counter = Counter::open(Access::PullOnly);
    counter.shelf.image("app:1", &["hello"]);
    for line in [
        "POST /v2/app/blobs/uploads/",
        "PATCH /v2/app/blobs/uploads/x",
        "PUT /v2/app/blobs/uploads/x",
        "PUT /v2/app/manifests/1",
        "DELETE /v2/app/manifests/1",
    ] {
        let answer = counter.ask(line, &[], b"");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (405, "DENIED"),
            "{line}"
        );
    }
    assert_eq!(counter.ask("GET /v2/app/manifests/1", &[], b"").status, 200);
}

#[test]
fn methods_that_make_no_sense_are_refused() {
    let counter = Counter::open(Access::PullAndPush);
    let digest = Digest::of(b"");
    for line in [
        "POST /v2/".to_owned(),
        "PUT /v2/_catalog".to_owned(),
        "GET /v2/app/blobs/uploads/".to_owned(),
        format!("PUT /v2/app/blobs/{digest}"),
        "POST /v2/app/manifests/1".to_owned(),
    ] {
        assert_eq!(counter.ask(&line, &[], b"").status, 405, "{line}");
    }
}

#[test]
fn a_blob_is_uploaded_in_chunks() {
    let counter = Counter::open(Access::PullAndPush);
    let bytes: Vec<u8> = (0_u8..=255).cycle().take(3_000_000).collect();
    let digest = Digest::of(&bytes);
    let location = begin(&counter);
    let (one, two) = bytes.split_at(2_000_000);
    let answer = counter.ask(
        &format!("PATCH {location}"),
        &["Content-Range: 0-1999999"],
        one,
    );
    assert_eq!(
        (answer.status, answer.header("range")),
        (202, Some("0-1999999"))
    );
    let wrong = counter.ask(
        &format!("PATCH {location}"),
        &["Content-Range: 5-9"],
        b"12345",
    );
    assert_eq!(
        (wrong.status, wrong.header("range")),
        (416, Some("0-1999999"))
    );
    let state = counter.ask(&format!("GET {location}"), &[], b"");
    assert_eq!(
        (state.status, state.header("range")),
        (204, Some("0-1999999"))
    );
    let answer = counter.ask(&format!("PUT {location}?digest={digest}"), &[], two);
    assert_eq!(answer.status, 201);
    let stored = answer.header("location").expect("a location").to_owned();
    assert_eq!(counter.ask(&format!("GET {stored}"), &[], b"").body, bytes);
    let again = counter.ask(&format!("PUT {location}?digest={digest}"), &[], b"");
    assert_eq!(again.code(), "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn a_blob_is_uploaded_in_one_request() {
    let counter = Counter::open(Access::PullAndPush);
    for bytes in [&b""[..], b"x", &[7; 1_500_000]] {
        let digest = Digest::of(bytes);
        let line = format!("POST /v2/app/blobs/uploads/?digest={digest}");
        assert_eq!(counter.ask(&line, &[], bytes).status, 201);
        let line = format!("GET /v2/other/blobs/{digest}");
        assert_eq!(counter.ask(&line, &[], b"").body, bytes);
    }
}

#[test]
fn an_upload_with_another_digest_leaves_nothing() {
    let counter = Counter::open(Access::PullAndPush);
    let location = begin(&counter);
    let digest = Digest::of(b"promised");
    for (line, code) in [
        (format!("PUT {location}"), "DIGEST_INVALID"),
        (format!("PUT {location}?digest=sha256:x"), "DIGEST_INVALID"),
        (format!("PUT {location}?digest={digest}"), "DIGEST_INVALID"),
    ] {
        let answer = counter.ask(&line, &[], b"delivered");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, code),
            "{line}"
        );
    }
    for bytes in [&b"promised"[..], b"delivered"] {
        let line = format!("HEAD /v2/app/blobs/{}", Digest::of(bytes));
        assert_eq!(counter.ask(&line, &[], b"").status, 404);
    }
}

#[test]
fn an_upload_can_be_cancelled_and_belongs_to_its_repository() {
    let counter = Counter::open(Access::PullAndPush);
    let location = begin(&counter);
    let elsewhere = location.replace("/v2/app/", "/v2/other/");
    let answer = counter.ask(&format!("DELETE {elsewhere}"), &[], b"");
    assert_eq!(answer.code(), "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(
        counter.ask(&format!("DELETE {location}"), &[], b"").status,
        204
    );
    let answer = counter.ask(&format!("PATCH {location}"), &[], b"x");
    assert_eq!(answer.code(), "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn an_upload_that_breaks_off_goes_on_where_it_was() {
    let counter = Counter::open(Access::PullAndPush);
    let location = begin(&counter);
    counter.break_off(&format!("PATCH {location}"), 1000, b"hello ");
    let mut offset = None;
    while offset.as_deref() != Some("0-5") {
        let state = counter.ask(&format!("GET {location}"), &[], b"");
        offset = state.header("range").map(str::to_owned);
    }
    let digest = Digest::of(b"hello world");
    let answer = counter.ask(&format!("PUT {location}?digest={digest}"), &[], b"world");
    assert_eq!(answer.status, 201);
}

#[test]
fn a_blob_that_is_there_is_mounted() {
    let counter = Counter::open(Access::PullAndPush);
    let id = counter.shelf.image("base:1", &["hello"]);
    let layer = layer_of(&counter, &id);
    let line = format!("POST /v2/app/blobs/uploads/?mount={layer}&from=base");
    assert_eq!(counter.ask(&line, &[], b"").status, 201);
    let missing = Digest::of(b"missing");
    let line = format!("POST /v2/app/blobs/uploads/?mount={missing}&from=base");
    assert_eq!(counter.ask(&line, &[], b"").status, 202);
}

#[test]
fn a_manifest_that_cannot_be_kept_is_refused() {
    let counter = Counter::open(Access::PullAndPush);
    let config = Descriptor::of(MediaType::OCI_CONFIG, b"{}");
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#,
        serde_json::to_string(&config).expect("a document")
    );
    let kind = format!("Content-Type: {}", MediaType::OCI_MANIFEST);
    let line = "PUT /v2/app/manifests/1";
    let answer = counter.ask(line, &[&kind], manifest.as_bytes());
    assert_eq!(answer.code(), "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(upload(&counter, b"{}").status, 201);
    let answer = counter.ask(line, &[&kind], manifest.as_bytes());
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (400, "MANIFEST_INVALID")
    );

    let other = Digest::of(b"other");
    let answer = counter.ask(
        &format!("PUT /v2/app/manifests/{other}"),
        &[&kind],
        manifest.as_bytes(),
    );
    assert_eq!(answer.code(), "DIGEST_INVALID");
    for text in ["", "x", "{}", r#"{"schemaVersion":1}"#, "[1]"] {
        let answer = counter.ask(line, &[&kind], text.as_bytes());
        assert_eq!(answer.code(), "MANIFEST_INVALID", "{text}");
    }
    let answer = counter.ask(line, &[&kind], &vec![b' '; (4 << 20) + 1]);
    assert_eq!(answer.status, 413);
    assert_eq!(counter.ask("GET /v2/app/manifests/1", &[], b"").status, 404);
}

#[test]
fn each_tag_of_an_image_keeps_the_manifest_that_was_pushed_to_it() {
    let counter = Counter::open(Access::PullAndPush);
    counter.shelf.image("app:1", &["hello"]);
    let first = counter.ask("GET /v2/app/manifests/1", &[], b"").body;
    let mut other: serde_json::Value = serde_json::from_slice(&first).expect("a manifest");
    other["annotations"] = serde_json::json!({"of": "another"});
    let other = other.to_string().into_bytes();
    let kind = format!("Content-Type: {}", MediaType::OCI_MANIFEST);
    let pushed = [("3", &first), ("4", &other), ("5", &first)];
    for (tag, manifest) in pushed {
        let line = format!("PUT /v2/app/manifests/{tag}");
        assert_eq!(counter.ask(&line, &[&kind], manifest).status, 201);
    }
    counter.shelf.store.sweep().expect("swept");
    for (tag, manifest) in pushed {
        let answer = counter.ask(&format!("GET /v2/app/manifests/{tag}"), &[], b"");
        assert_eq!(Digest::of(&answer.body), Digest::of(manifest), "{tag}");
    }
    let line = format!("DELETE /v2/app/manifests/{}", Digest::of(&other));
    assert_eq!(counter.ask(&line, &[], b"").status, 202);
    let tags = counter.ask("GET /v2/app/tags/list", &[], b"").body;
    let tags: serde_json::Value = serde_json::from_slice(&tags).expect("a list");
    assert_eq!(tags["tags"], serde_json::json!(["1", "3", "5"]));
}

#[test]
fn manifests_of_one_image_wait_for_their_index() {
    let counter = Counter::open(Access::PullAndPush);
    counter.shelf.image("app:1", &["hello"]);
    let first = counter.ask("GET /v2/app/manifests/1", &[], b"").body;
    let other = [first.as_slice(), b"\n"].concat();
    let kind = format!("Content-Type: {}", MediaType::OCI_MANIFEST);
    for manifest in [&first, &other] {
        let line = format!("/v2/app/manifests/{}", Digest::of(manifest));
        let answer = counter.ask(&format!("PUT {line}"), &[&kind], manifest);
        assert_eq!(answer.status, 201);
    }
    counter.shelf.store.sweep().expect("swept");
    for manifest in [&first, &other] {
        let line = format!("GET /v2/app/manifests/{}", Digest::of(manifest));
        assert_eq!(counter.ask(&line, &[], b"").body, *manifest);
    }
}

#[test]
fn a_tag_is_deleted_by_name_or_digest() {
    let counter = Counter::open(Access::PullAndPush);
    for tag in ["app:1", "app:2", "app:3"] {
        counter.shelf.image(tag, &["hello"]);
    }
    assert_eq!(
        counter.ask("DELETE /v2/app/manifests/1", &[], b"").status,
        202
    );
    assert_eq!(
        counter.ask("DELETE /v2/app/manifests/1", &[], b"").status,
        404
    );
    let head = counter.ask("HEAD /v2/app/manifests/2", &[], b"");
    let digest = head.header("docker-content-digest").expect("a digest");
    let line = format!("DELETE /v2/app/manifests/{digest}");
    assert_eq!(counter.ask(&line, &[], b"").status, 202);
    assert_eq!(counter.ask("GET /v2/app/tags/list", &[], b"").status, 404);
}

#[test]
fn many_uploads_go_on_at_once() {
    let counter = Counter::open(Access::PullAndPush);
    std::thread::scope(|scope| {
        for number in 0_u8..8 {
            let counter = &counter;
            scope.spawn(move || {
                let bytes = vec![number % 4; 700_000];
                assert_eq!(upload(counter, &bytes).status, 201);
            });
        }
    });
    for number in 0_u8..4 {
        let digest = Digest::of(&vec![number; 700_000]);
        let line = format!("HEAD /v2/app/blobs/{digest}");
        assert_eq!(counter.ask(&line, &[], b"").status, 200);
    }
}

#[test]
fn a_stopped_server_accepts_nothing_and_its_port_is_free() {
    let mut counter = Counter::open(Access::PullOnly);
    let addr = counter.host();
    counter
        .server
        .take()
        .expect("running")
        .stop()
        .expect("stopped");
    assert!(std::net::TcpStream::connect(&addr).is_err());
    std::net::TcpListener::bind(&addr).expect("free again");
}

#[test]
fn a_stop_does_not_wait_for_idle_connections() {
    let mut counter = Counter::open(Access::PullOnly);
    counter.shelf.image("app:1", &["hello"]);
    let remote = counter.remote("app:1");
    remote.resolve().expect("served");
    let server = counter.server.take().expect("running");
    server.stop().expect("stopped");
    remote.resolve().expect_err("nobody there");
}

#[test]
fn sessions_have_a_limit() {
    let counter = Counter::open(Access::PullAndPush);
    let line = "POST /v2/app/blobs/uploads/";
    let refused = (0..300)
        .map(|_| counter.ask(line, &[], b""))
        .find(|answer| answer.status != 202)
        .expect("a limit");
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (429, "TOOMANYREQUESTS")
    );
}
